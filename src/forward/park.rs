//! What waits beside the queue (`on_error = "park"`, §6.1): changes that the peer rejects, and those that touch what they touch.

use std::collections::{HashMap, HashSet};

use crate::apply::{ApplyError, Mode, Rejection};
use crate::journal::entry::{ColumnRole, Head, ImageColumn, Lane, Op};
use crate::journal::{BadImage, Entry, Images, Progress, Value};

use super::ForwardError;
use super::drain::{Drain, Stuck};
use super::store::{Place, Waiting};

/// Rows of one table that are told apart; with more of them all of it counts as touched (I7).
const MOST: usize = 1 << 16;

/// Pieces that the peer is asked about at a time, though it has rejected them before.
const AGAIN: u32 = 100;

/// What is known of the pieces that were put aside.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// What they touch, and perhaps more.
    pub(super) touched: Touched,
    /// Which of them were tried last, where not all were.
    tried: Option<(Place, i32)>,
}

/// A digest of a row's key.
type RowKey = [u8; 16];

/// Rows that may not be changed before something else is.
#[derive(Debug, Default)]
pub(super) struct Touched(HashMap<(String, String), Rows>);

#[derive(Debug)]
enum Rows {
    Some(HashSet<RowKey>),
    All,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a change touches any of them.
    pub(super) fn by(&self, entry: &Entry) -> Result<bool, BadImage> {
        if self.is_empty() {
            return Ok(false);
        }
        let keys = keys(entry)?;
        Ok(tables(&entry.head).any(|table| match (self.0.get(&table), &keys) {
            (None, _) => false,
            (Some(Rows::Some(rows)), Some(keys)) => keys.iter().any(|key| rows.contains(key)),
            (Some(_), _) => true,
        }))
    }

    /// Adds what a change touches.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), BadImage> {
        let keys = keys(entry)?;
        for table in tables(&entry.head) {
            let rows = self.0.entry(table).or_insert_with(|| Rows::Some(HashSet::new()));
            match (&keys, &mut *rows) {
                (Some(keys), Rows::Some(rows)) if rows.len() < MOST => rows.extend(keys),
                _ => *rows = Rows::All,
            }
        }
        Ok(())
    }
}

impl Drain<'_> {
    /// Tries the parked pieces again, in order, at most so many with success: how many those were, and which one was rejected
    /// first. What touches the rows of one that stays, stays too. A dry run leaves everything as it was.
    pub(super) async fn parked_again(&mut self, most: i64) -> Result<(i64, Option<Stuck>), ForwardError> {
        let mut touched = Touched::default();
        let (mut applied, mut rejected, mut failures) = (0, None, 0);
        let (mut after, begin) = (None, self.parked.tried);
        let mut tried = None;
        loop {
            let chunk = self.store.parked(after).await?;
            if chunk.is_empty() {
                break;
            }
            for mut piece in chunk {
                let place = (piece.place, piece.seq);
                after = Some(place);
                let entry = piece.take_entry()?;
                if applied >= most || failures >= AGAIN || Some(place) <= begin || touched.by(&entry)? {
                    touched.add(&entry)?;
                    continue;
                }
                match self.aside(&piece).await? {
                    Ok(()) => applied += 1,
                    Err(why) => {
                        touched.add(&entry)?;
                        failures += 1;
                        if failures >= AGAIN {
                            tried = after;
                        }
                        rejected.get_or_insert(Stuck { id: piece.id, why });
                    }
                }
            }
        }
        if !self.dry {
            *self.parked = Parked { touched, tried };
        }
        Ok((applied, rejected))
    }

    /// Applies one piece behind its place, exactly once, or says what the peer has against it.
    async fn aside(&mut self, piece: &Waiting) -> Result<Result<(), Rejection>, ForwardError> {
        let (system, timeline) = self.identity;
        let (tick, ord) = piece.place;
        let note = (Progress { system, timeline, tick, ord, part: 0 }, piece.seq);
        let there = self.applier.has_aside(note).await?;
        self.store.begin().await?;
        if let Some(entry) = self.store.lock(piece.id).await?
            && !there
            && let Err(error) = self.put_aside(note, piece, &entry).await
        {
            self.store.rollback().await?;
            let ForwardError::Apply(ApplyError::Rejected(why) | ApplyError::Retry(why)) = error else {
                return Err(error);
            };
            self.applier.rollback().await?;
            if !self.dry {
                self.store.mark(piece.id, &why).await?;
            }
            return Ok(Err(*why));
        }
        if self.dry {
            self.store.rollback().await?;
            return Ok(Ok(()));
        }
        self.store.remove(&[piece.id]).await?;
        self.store.commit().await?;
        self.applier.forget_aside(note).await?;
        Ok(Ok(()))
    }

    async fn put_aside(&mut self, note: (Progress, i32), piece: &Waiting, entry: &Entry) -> Result<(), ForwardError> {
        let Some(to) = self.applier.destination(&entry.head) else { return Ok(()) };
        self.applier.begin(Mode { durable: true, ..Mode::default() })?;
        self.applier.aside(note)?;
        self.applier.as_of(piece.time, piece.seen)?;
        self.applier.entry(&to, entry).await?;
        self.conclude().await
    }
}

/// The tables that a change touches: DDL may name several.
fn tables(head: &Head) -> impl Iterator<Item = (String, String)> {
    let named = head.text.iter().filter(|_| head.op == Op::Ddl).flat_map(|text| &text.names);
    let named = named.map(|place| (place.schema.clone(), place.table.clone()));
    std::iter::once((head.schema.clone(), head.table.clone())).chain(named)
}

/// The keys of the rows that a change touches, as they were and as they are; none where it may be any row of the table.
fn keys(entry: &Entry) -> Result<Option<Vec<RowKey>>, BadImage> {
    let head = &entry.head;
    let keyed = head.columns.iter().any(|column| column.role != ColumnRole::Value);
    if entry.travels().0 != Lane::Row || !keyed {
        return Ok(None);
    }
    let before = head.extra.width();
    let mut keys = Vec::new();
    for image in Images::new(&entry.body) {
        let image = image?;
        let values = image.values.get(before..).ok_or(BadImage::Short)?;
        let columns = || head.columns.iter().zip(values);
        keys.push(digest(columns().filter(|(column, _)| column.role != ColumnRole::Value)));
        let changes = |name: &str| head.columns.iter().any(|c| c.role == ColumnRole::Key && c.name == name);
        if columns().any(|(column, _)| column.role == ColumnRole::Value && changes(&column.name)) {
            keys.push(digest(columns().filter(|(column, _)| match column.role {
                ColumnRole::Key => false,
                ColumnRole::KeyValue => true,
                ColumnRole::Value => changes(&column.name),
            })));
        }
    }
    Ok(Some(keys))
}

/// Columns in whatever order they are in.
fn digest<'a>(columns: impl Iterator<Item = (&'a ImageColumn, &'a Value<'a>)>) -> RowKey {
    let mut columns: Vec<_> = columns.collect();
    columns.sort_by_key(|(column, _)| &column.name);
    let mut hasher = blake3::Hasher::new();
    for (_, value) in columns {
        let bytes = value.bytes.unwrap_or_default();
        hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()).update(bytes);
    }
    let mut key = RowKey::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::journal::entry::sample;

    fn entry(columns: &[(&str, ColumnRole)], rows: &[&[i32]]) -> Entry {
        let column = |(name, role): &(&str, ColumnRole)| ImageColumn {
            name: (*name).into(),
            role: *role,
            ..sample().columns.remove(0)
        };
        let head = Head { columns: columns.iter().map(column).collect(), ..sample() };
        let mut body = Vec::new();
        for row in rows {
            body.extend_from_slice(&i32::try_from(row.len() + 1).unwrap().to_be_bytes());
            for (oid, value) in std::iter::once((26, 7)).chain(row.iter().map(|v| (23, *v))) {
                body.extend([oid, 4, value].iter().flat_map(|n: &i32| n.to_be_bytes()));
            }
        }
        Entry { head, body: Bytes::from(body) }
    }

    #[test]
    fn a_row_is_touched_under_its_old_and_its_new_key() {
        use ColumnRole::{Key, KeyValue, Value};
        let insert = |id: i32| entry(&[("v", Value), ("id", KeyValue)], &[&[1, id]]);
        let moved = entry(&[("id", Key), ("id", Value)], &[&[1, 2]]);
        let mut touched = Touched::default();
        assert!(!touched.by(&insert(1)).unwrap());
        touched.add(&moved).unwrap();
        assert!([1, 2].map(|id| touched.by(&insert(id)).unwrap()).iter().all(|touched| *touched));
        assert!(!touched.by(&insert(3)).unwrap());
        assert!(touched.by(&entry(&[("id", Key), ("v", Value)], &[&[3, 0], &[2, 0]])).unwrap());
        // Rows that are gone have nothing in common.
        let delete = |id: i32| entry(&[("id", Key)], &[&[id]]);
        touched.add(&delete(4)).unwrap();
        assert!(touched.by(&delete(4)).unwrap() && !touched.by(&delete(5)).unwrap());
        let mut other = insert(1);
        other.head.table = "other".into();
        assert!(!touched.by(&other).unwrap());
    }

    #[test]
    fn what_has_no_key_may_be_any_row() {
        let mut touched = Touched::default();
        let keyless = entry(&[("v", ColumnRole::Value)], &[&[1]]);
        touched.add(&entry(&[("id", ColumnRole::KeyValue)], &[&[1]])).unwrap();
        assert!(touched.by(&keyless).unwrap());
        touched.add(&keyless).unwrap();
        assert!(touched.by(&entry(&[("id", ColumnRole::KeyValue)], &[&[9]])).unwrap());
    }
}
