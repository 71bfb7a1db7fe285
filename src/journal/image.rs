//! The image of a row: what `record_send()` makes of `ROW(tableoid, …)`, read without trust and without copying.

/// Why bytes are no image, or no BYTEA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    #[error("a row image is cut off")]
    Short,
    #[error("a row image has a negative count or length")]
    Negative,
    #[error("a row image does not begin with a table's OID")]
    NoTable,
    #[error("a value is no text form of BYTEA")]
    NotBytea,
}

/// The type OID of `oid`, which is what `tableoid` is.
const OID_OID: u32 = 26;
/// What a value takes at least: its type and its length.
const LEAST: usize = 8;

/// One value, in its type's binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// On the node that made the image.
    pub type_oid: u32,
    pub bytes: Option<&'a [u8]>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// The table that was really written: the ruled one or a partition of it.
    pub tableoid: u32,
    /// What `Head::extra` says, then the columns of the head.
    pub values: Vec<Value<'a>>,
}

/// The images that stand one behind the other in `rest`; behind an error comes nothing.
#[derive(Clone, Debug)]
pub struct Images<'a> {
    rest: &'a [u8],
}

// === impl Images ===

impl<'a> Images<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Images<'a> {
    type Item = Result<Image<'a>, BadImage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let image = Image::read(&mut self.rest);
        if image.is_err() {
            self.rest = &[];
        }
        Some(image)
    }
}

// === impl Image ===

impl<'a> Image<'a> {
    /// Reads one image off the front of `rest`.
    pub fn read(rest: &mut &'a [u8]) -> Result<Self, BadImage> {
        let count = usize::try_from(int4(rest)?).map_err(|_| BadImage::Negative)?;
        // A count that the bytes cannot hold allocates nothing (I7).
        let mut values = Vec::with_capacity(count.min(rest.len() / LEAST));
        let mut tableoid = None;
        for at in 0..count {
            let value = Value::read(rest)?;
            if at > 0 {
                values.push(value);
                continue;
            }
            let oid = value.bytes.filter(|_| value.type_oid == OID_OID).and_then(|b| <[u8; 4]>::try_from(b).ok());
            tableoid = oid.map(u32::from_be_bytes);
        }
        Ok(Self { tableoid: tableoid.ok_or(BadImage::NoTable)?, values })
    }
}

impl<'a> Value<'a> {
    fn read(rest: &mut &'a [u8]) -> Result<Self, BadImage> {
        let type_oid = int4(rest)?.cast_unsigned();
        let bytes = match int4(rest)? {
            -1 => None,
            len => Some(take(rest, usize::try_from(len).map_err(|_| BadImage::Negative)?)?),
        };
        Ok(Self { type_oid, bytes })
    }
}

fn int4(rest: &mut &[u8]) -> Result<i32, BadImage> {
    let (head, tail) = rest.split_first_chunk().ok_or(BadImage::Short)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], BadImage> {
    let (head, tail) = rest.split_at_checked(len).ok_or(BadImage::Short)?;
    *rest = tail;
    Ok(head)
}

/// The bytes of a BYTEA from its text form: `\x…` or, with `bytea_output = 'escape'`, the old one.
pub fn unhex(text: &[u8]) -> Result<Vec<u8>, BadImage> {
    let mut out = Vec::new();
    unhex_into(&mut out, text)?;
    Ok(out)
}

/// [`unhex`], appended to `out`; after an error `out` may have grown.
pub fn unhex_into(out: &mut Vec<u8>, text: &[u8]) -> Result<(), BadImage> {
    let Some(digits) = text.strip_prefix(b"\\x") else {
        return unescape(out, text);
    };
    let (pairs, []) = digits.as_chunks::<2>() else {
        return Err(BadImage::NotBytea);
    };
    out.reserve(pairs.len());
    for [high, low] in pairs {
        out.push(nibble(*high)? << 4 | nibble(*low)?);
    }
    Ok(())
}

fn nibble(digit: u8) -> Result<u8, BadImage> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadImage::NotBytea),
    }
}

/// A backslash stands before three octal digits or another backslash; everything else stands for itself.
fn unescape(out: &mut Vec<u8>, mut text: &[u8]) -> Result<(), BadImage> {
    out.reserve(text.len());
    loop {
        text = match text {
            [] => return Ok(()),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                rest
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a & 3) << 6 | (b & 7) << 3 | (c & 7));
                rest
            }
            [b'\\', ..] => return Err(BadImage::NotBytea),
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has done its work
mod tests {
    use super::*;

    fn image(values: &[(u32, Option<&[u8]>)]) -> Vec<u8> {
        let mut out = i32::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for (oid, bytes) in values {
            out.extend(oid.to_be_bytes());
            out.extend(bytes.map_or(-1, |b| i32::try_from(b.len()).unwrap()).to_be_bytes());
            out.extend(bytes.unwrap_or_default());
        }
        out
    }

    const TABLE: (u32, Option<&[u8]>) = (OID_OID, Some(&[0, 0, 0x40, 1]));

    #[test]
    fn rows_are_read_one_behind_the_other() {
        let mut bytes = image(&[TABLE, (23, Some(&[0, 0, 0, 7])), (25, None)]);
        bytes.extend(image(&[TABLE, (25, Some(b""))]));
        let rows: Vec<_> = Images::new(&bytes).map(Result::unwrap).collect();
        let [first, second] = &rows[..] else { panic!("two rows: {rows:?}") };
        assert_eq!(first.tableoid, 0x4001);
        let seven = Value { type_oid: 23, bytes: Some(&[0, 0, 0, 7]) };
        assert_eq!(first.values, [seven, Value { type_oid: 25, bytes: None }]);
        assert_eq!(second.values, [Value { type_oid: 25, bytes: Some(b"") }]);
    }

    #[test]
    fn broken_rows_say_what_is_broken_and_end_the_reading() {
        let whole = image(&[TABLE, (25, Some(b"abc"))]);
        for cut in 1..whole.len() {
            let read: Vec<_> = Images::new(&whole[..cut]).collect();
            assert_eq!(read, [Err(BadImage::Short)], "{cut} bytes");
        }
        let huge = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 26];
        assert_eq!(Images::new(&huge).next(), Some(Err(BadImage::Short)));
        assert_eq!(Images::new(&[0xff; 8]).next(), Some(Err(BadImage::Negative)));
        let negative = [image(&[TABLE]), vec![0, 0, 0, 1, 0, 0, 0, 26, 0xff, 0xff, 0xff, 0xfe]].concat();
        assert_eq!(Images::new(&negative).nth(1), Some(Err(BadImage::Negative)));
        for no_table in
            [image(&[]), image(&[(23, TABLE.1)]), image(&[(OID_OID, None)]), image(&[(OID_OID, Some(b"x"))])]
        {
            assert_eq!(Images::new(&no_table).next(), Some(Err(BadImage::NoTable)));
        }
    }

    #[test]
    fn bytea_in_text_is_read_in_both_forms() {
        assert_eq!(unhex(b"\\x").as_deref(), Ok(&b""[..]));
        assert_eq!(unhex(b"\\x00fFA9").as_deref(), Ok(&[0, 0xff, 0xa9][..]));
        assert_eq!(unhex(b"").as_deref(), Ok(&b""[..]));
        assert_eq!(unhex(b"a\\\\b\\000\\377x").as_deref(), Ok(&b"a\\b\0\xffx"[..]));
        for bad in [&b"\\x0"[..], b"\\x0g", b"\\", b"\\400", b"\\12", b"a\\q"] {
            assert_eq!(unhex(bad), Err(BadImage::NotBytea), "{bad:?}");
        }
    }
}
