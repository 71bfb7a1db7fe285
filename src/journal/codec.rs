//! The `data` of a journal row: entries, encoded one behind the other and read lazily, without trust in lengths.

use bytes::{Buf, BufMut, Bytes};

use super::entry::{Head, Lane, Text};
use super::image::Images;

/// One captured change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub head: Head,
    /// The images of its rows, one behind the other; in lane C a part of the COPY's data.
    pub body: Bytes,
}

/// Why an entry cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("a journal entry of more than 4 GiB")]
    TooLong,
    #[error("cannot encode a journal entry's head")]
    Head(#[from] postcard::Error),
}

/// Why `data` holds no entries.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("a journal entry is cut off")]
    Short,
    #[error("a journal entry's head cannot be read")]
    Head(#[from] postcard::Error),
}

/// The entries of one journal row; behind an error comes nothing.
#[derive(Clone, Debug)]
pub struct Entries {
    /// The head of a row whose body is all of `rest`.
    selfmade: Option<Head>,
    rest: Bytes,
}

/// Appends an entry to the `data` of a row; after an error `out` is as before.
pub fn encode_entry(out: &mut Vec<u8>, head: &Head, body: &[u8]) -> Result<(), EncodeError> {
    put_entry(out, &encode_head(head)?, body)
}

/// A head by itself, for [`put_entry`].
pub fn encode_head(head: &Head) -> Result<Vec<u8>, EncodeError> {
    Ok(postcard::to_stdvec(head)?)
}

/// [`encode_entry`] with a head that was encoded before.
pub fn put_entry(out: &mut Vec<u8>, head: &[u8], body: &[u8]) -> Result<(), EncodeError> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| EncodeError::TooLong);
    for (len, part) in [(len(head)?, head), (len(body)?, body)] {
        out.put_u32(len);
        out.put_slice(part);
    }
    Ok(())
}

// === impl Entry ===

impl Entry {
    /// The rows of it, where its body consists of images.
    pub fn images(&self) -> Images<'_> {
        Images::new(&self.body)
    }

    /// How it travels in the end, and its text where that is what travels: a statement whose head has both journals its
    /// images where its text did not change all that it names (§4.2).
    pub fn travels(&self) -> (Lane, Option<&Text>) {
        match (self.head.lane, &self.head.text) {
            (lane @ (Lane::Locked | Lane::Copy), text) => (lane, text.as_ref()),
            (_, Some(text)) if self.body.is_empty() => (Lane::Statement, Some(text)),
            (Lane::Statement | Lane::Row, _) => (Lane::Row, None),
        }
    }
}

// === impl Entries ===

impl Entries {
    /// The entries of `data`: those in it, or, where the meta had a head, the one that it is the body of.
    pub fn new(head: Option<Head>, data: Bytes) -> Self {
        Self { selfmade: head, rest: data }
    }

    fn read(&mut self) -> Result<Entry, DecodeError> {
        let head = self.take()?;
        // Numbers of elements in a head are not trusted: serde reserves no more than a megabyte on their word (I7).
        let head = postcard::from_bytes(&head)?;
        Ok(Entry { head, body: self.take()? })
    }

    fn take(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.rest.try_get_u32().map_err(|_| DecodeError::Short)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= self.rest.len()).ok_or(DecodeError::Short)?;
        Ok(self.rest.split_to(len))
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(head) = self.selfmade.take() {
            return Some(Ok(Entry { head, body: std::mem::take(&mut self.rest) }));
        }
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.rest = Bytes::new();
        }
        Some(entry)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use proptest::prelude::*;

    use super::super::entry::{ColumnRole, Extra, ImageColumn, Op, Param, Place};
    use super::super::form::HeadForm;
    use super::*;

    fn column() -> impl Strategy<Value = ImageColumn> {
        let role = prop_oneof![Just(ColumnRole::Key), Just(ColumnRole::Value), Just(ColumnRole::KeyValue)];
        (any::<String>(), any::<String>(), role, any::<bool>()).prop_map(|(name, type_name, role, text)| ImageColumn {
            name,
            type_name,
            role,
            text,
        })
    }

    fn text() -> impl Strategy<Value = Text> {
        let param = (any::<u32>(), any::<bool>(), any::<Option<Vec<u8>>>())
            .prop_map(|(type_oid, binary, value)| Param { type_oid, binary, value });
        let place = (any::<u32>(), any::<u32>(), any::<String>(), any::<String>())
            .prop_map(|(start, end, schema, table)| Place { start, end, schema, table });
        let settings = any::<Vec<(String, String)>>();
        let lists = (prop::collection::vec(param, 0..4), prop::collection::vec(place, 0..4), settings);
        (any::<Vec<u8>>(), lists).prop_map(|(sql, (params, names, settings))| Text { sql, params, names, settings })
    }

    fn head() -> impl Strategy<Value = Head> {
        let lane = prop_oneof![Just(Lane::Statement), Just(Lane::Row), Just(Lane::Locked), Just(Lane::Copy)];
        let op = prop_oneof![Just(Op::Insert), Just(Op::Upsert), Just(Op::Merge), Just(Op::Truncate)];
        let extra = prop_oneof![Just(Extra::None), Just(Extra::Filter), Just(Extra::ActionAndFilter)];
        let names = (any::<String>(), any::<String>(), any::<String>(), any::<String>(), any::<[u8; 8]>());
        let rest = (prop::collection::vec(column(), 0..4), extra, prop::option::of(text()), any::<Option<u64>>());
        (lane, op, names, rest).prop_map(
            |(lane, op, (schema, table, rule, encoding, shape), (columns, extra, text, rows))| Head {
                lane,
                op,
                schema,
                table,
                rule,
                encoding,
                shape,
                columns,
                extra,
                text,
                rows,
            },
        )
    }

    proptest! {
        #[test]
        fn a_form_makes_the_same_head(head in head()) {
            let params = head.text.as_ref().map(|text| text.params.clone()).unwrap_or_default();
            let form = HeadForm::new(&head).unwrap();
            let made = form.encode(head.lane, head.rows, &params).unwrap();
            let text = head.text.clone().filter(|_| head.lane != Lane::Row);
            prop_assert_eq!(made, encode_head(&Head { text, ..head }).unwrap());
        }

        #[test]
        fn what_is_written_is_read(entries in prop::collection::vec((head(), any::<Vec<u8>>()), 0..5)) {
            let mut data = Vec::new();
            for (head, body) in &entries {
                encode_entry(&mut data, head, body).unwrap();
            }
            let read: Vec<_> = Entries::new(None, data.into()).map(|e| e.map(|e| (e.head, e.body.to_vec())).unwrap()).collect();
            prop_assert_eq!(read, entries);
        }

        #[test]
        fn what_is_cut_off_is_noticed(head in head(), body in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
            let mut data = Vec::new();
            encode_entry(&mut data, &head, &body).unwrap();
            let whole = data.len();
            encode_entry(&mut data, &head, &body).unwrap();
            data.truncate(whole + 1 + cut.index(whole - 1));
            let mut entries = Entries::new(None, data.into());
            prop_assert!(matches!(entries.next(), Some(Ok(_))));
            prop_assert!(matches!(entries.next(), Some(Err(DecodeError::Short))));
            prop_assert!(entries.next().is_none());
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in any::<Vec<u8>>()) {
            for entry in Entries::new(None, bytes.into()).flatten() {
                entry.images().for_each(drop);
            }
        }
    }

    #[test]
    fn a_row_that_the_server_made_is_one_entry() {
        let head = super::super::entry::sample();
        let mut entries = Entries::new(Some(head.clone()), Bytes::from_static(b"images"));
        assert_eq!(entries.next().unwrap().unwrap(), Entry { head: head.clone(), body: Bytes::from_static(b"images") });
        assert!(entries.next().is_none());
        // A text has no images, and is an entry all the same.
        assert_eq!(Entries::new(Some(head), Bytes::new()).count(), 1);
    }
}
