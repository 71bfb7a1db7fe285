//! Entries that wait for their place in the journal: in memory up to 1 MiB, in an unlinked file beyond (I7, §4.7).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::graves::GraveError;
use crate::journal::codec::{EncodeError, put_entry};

/// What one journal row holds at most, but for an entry that is larger by itself.
const BATCH: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum PendingError {
    #[error("cannot keep captured changes in a temporary file: {0}")]
    Spill(#[from] io::Error),
    #[error("cannot encode a captured change: {0}")]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Grave(#[from] GraveError),
}

/// The entries of the open transaction that are not in the journal yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    batch: Vec<u8>,
    spill: Option<Spill>,
}

/// Whole batches, each behind its length.
#[derive(Debug)]
struct Spill {
    file: File,
    batches: usize,
    read: u64,
}

impl Pending {
    /// Adds an entry, whose head is encoded.
    pub(super) fn push(&mut self, head: &[u8], body: &[u8]) -> Result<(), PendingError> {
        if self.batch.len() >= BATCH {
            let batch = std::mem::take(&mut self.batch);
            Spill::add(&mut self.spill, &batch)?;
        }
        Ok(put_entry(&mut self.batch, head, body)?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.spill.is_none()
    }

    /// Whether there is so much that it should not wait for the transaction's end.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH || self.spill.is_some()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes what goes into the next journal row, oldest first.
    pub(super) fn take_batch(&mut self) -> Result<Option<Vec<u8>>, PendingError> {
        if let Some(spill) = &mut self.spill {
            let batch = spill.take()?;
            if spill.batches == 0 {
                self.spill = None;
            }
            return Ok(Some(batch));
        }
        Ok((!self.batch.is_empty()).then(|| std::mem::take(&mut self.batch)))
    }
}

impl Spill {
    fn add(spill: &mut Option<Self>, batch: &[u8]) -> io::Result<()> {
        let spill = match spill {
            Some(spill) => spill,
            None => spill.insert(Self { file: tempfile::tempfile()?, batches: 0, read: 0 }),
        };
        spill.file.seek(SeekFrom::End(0))?;
        spill.file.write_all(&(batch.len() as u64).to_be_bytes())?;
        spill.file.write_all(batch)?;
        spill.batches = spill.batches.saturating_add(1);
        Ok(())
    }

    fn take(&mut self) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut len = [0; 8];
        self.file.read_exact(&mut len)?;
        let len = u64::from_be_bytes(len);
        let mut batch = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.file.read_exact(&mut batch)?;
        self.read = self.read.saturating_add(len).saturating_add(8);
        self.batches = self.batches.saturating_sub(1);
        Ok(batch)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::journal::codec::{Entries, encode_head};
    use crate::journal::entry::{Extra, Head, Lane, Op};

    fn head(rows: u64) -> Head {
        Head {
            lane: Lane::Row,
            op: Op::Insert,
            schema: "s".into(),
            table: "t".into(),
            rule: "s.t".into(),
            encoding: "UTF8".into(),
            shape: [0; 8],
            columns: vec![],
            extra: Extra::None,
            text: None,
            rows: Some(rows),
        }
    }

    #[test]
    fn entries_come_back_in_order_whether_spilled_or_not() {
        let mut pending = Pending::default();
        assert!(pending.is_empty());
        let body = vec![7; 400 << 10];
        for n in 0..20 {
            pending.push(&encode_head(&head(n)).unwrap(), &body).unwrap();
        }
        assert!(pending.is_full());
        let mut seen = Vec::new();
        while let Some(batch) = pending.take_batch().unwrap() {
            assert!(batch.len() < BATCH + (500 << 10));
            for entry in Entries::new(None, batch.into()) {
                seen.push(entry.unwrap().head.rows.unwrap());
            }
        }
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        assert!(pending.is_empty() && !pending.is_full());
    }
}
