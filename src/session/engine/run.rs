//! One captured statement while it runs: the rows that it shows us, and the entry that it makes when it is complete.

use std::sync::Arc;

use crate::capture::moment::Scanner;
use crate::capture::write::{AloneResult, BlockForm, Write};
use crate::catalog::relation::Oid;
use crate::journal::entry::{Lane, Op, Param};
use crate::journal::{BadImage, unhex_into};

use super::pending::{Pending, PendingError};
use super::rows::{put_tag, tag_count};

/// Where an image's first value stands: behind how many values there are, its type, and its length.
const TABLEOID: usize = 12;

/// Images beyond this go to the pending entries before their statement is complete.
const PART: usize = 512 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Pending(#[from] PendingError),
    #[error("the server sent a row that is not what was asked for: {0}")]
    Image(#[from] BadImage),
    #[error("the server sent a row that is not what was asked for")]
    Row,
    #[error("COPY data has a word for a moment")]
    Moment,
    #[error("a statement that can change {expected} rows has changed {found}")]
    Count { expected: u64, found: u64 },
}

/// How the statement was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    AsIs,
    Imaged,
    Alone(AloneResult),
    /// COPY into a temporary table: what is seen of it but its tag is the client's.
    IntoTemp,
    /// INSERT from there: seen of it is only a tag, that of the COPY.
    FromTemp,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) write: Arc<Write>,
    pub(super) form: Form,
    /// Its tag is shown when it is committed.
    pub(super) withholds: bool,
    params: Vec<Param>,
    images: Vec<u8>,
    rows: u64,
    /// Where the last row is.
    table: Option<Oid>,
    /// Part of the images is with the pending entries already.
    parted: bool,
    /// Looks for words for a moment in COPY data.
    scanner: Option<Scanner>,
    has_moment: bool,
}

impl Run {
    pub(super) fn new(write: Arc<Write>, form: Form, params: Vec<Param>) -> Self {
        let scanner = match &write.block {
            BlockForm::Watched(watched) => Some(Scanner::new(watched.layout.clone())),
            _ => None,
        };
        Self {
            write,
            form,
            withholds: false,
            params,
            images: Vec::new(),
            rows: 0,
            table: None,
            parted: false,
            scanner,
            has_moment: false,
        }
    }

    /// Whether the client is shown the rows.
    pub(super) fn shows_rows(&self) -> bool {
        match self.form {
            Form::AsIs | Form::IntoTemp => true,
            Form::Imaged => self.write.returning,
            Form::FromTemp => false,
            Form::Alone(result) => !matches!(result, AloneResult::Tag { .. } | AloneResult::Count),
        }
    }

    /// Whether the last column is ours.
    pub(super) fn cuts_rows(&self) -> bool {
        matches!(self.form, Form::Imaged | Form::FromTemp | Form::Alone(AloneResult::Rows))
    }

    /// Takes the last column of a row.
    ///
    /// The table that the row is in, where it is another than that of the row before.
    pub(super) fn take(
        &mut self,
        value: Option<&[u8]>,
        binary: bool,
        pending: &mut Pending,
    ) -> Result<Option<Oid>, RunError> {
        let value = value.ok_or(RunError::Row)?;
        let start = self.images.len();
        match self.form {
            Form::Imaged | Form::FromTemp if binary => self.images.extend_from_slice(value),
            Form::Imaged | Form::FromTemp => unhex_into(&mut self.images, value)?,
            _ => return Ok(None),
        }
        self.rows = self.rows.saturating_add(1);
        let table = self.images.get(start.saturating_add(TABLEOID)..).and_then(<[u8]>::first_chunk);
        let table = table.map(|oid| Oid(u32::from_be_bytes(*oid))).filter(|oid| self.table.replace(*oid) != Some(*oid));
        // Where text may do instead, the rows are few.
        if self.images.len() >= PART && self.write.expect.is_none() {
            self.part(pending)?;
        }
        Ok(table)
    }

    /// Takes the row of [`AloneResult::Count`].
    pub(super) fn take_count(&mut self, value: Option<&[u8]>, binary: bool) -> Result<(), RunError> {
        let value = value.ok_or(RunError::Row)?;
        let count = match (binary, value.first_chunk()) {
            (true, Some(bytes)) => Some(u64::from_be_bytes(*bytes)),
            (true, None) => None,
            (false, _) => tag_count(value),
        };
        self.rows = count.ok_or(RunError::Row)?;
        Ok(())
    }

    /// Takes COPY data on its way to the server.
    pub(super) fn take_copy(&mut self, data: &[u8], pending: &mut Pending) -> Result<(), RunError> {
        if let Some(scanner) = &mut self.scanner {
            self.has_moment |= scanner.feed(data);
        }
        if self.form == Form::IntoTemp || self.has_moment {
            return Ok(());
        }
        self.images.extend_from_slice(data);
        if self.images.len() >= PART { self.part(pending) } else { Ok(()) }
    }

    /// The COPY data is over.
    pub(super) fn end_copy(&mut self) {
        if let Some(scanner) = &mut self.scanner {
            self.has_moment |= scanner.finish();
        }
    }

    /// Whether a word for a moment was found in the data so far.
    pub(super) fn has_moment(&self) -> bool {
        self.has_moment
    }

    fn part(&mut self, pending: &mut Pending) -> Result<(), RunError> {
        self.parted = true;
        if let Some(head) = self.write.heads.first() {
            self.push(0, head.lane, None, &self.images, pending)?;
        }
        self.images.clear();
        Ok(())
    }

    /// The statement is complete: its entries join the pending ones; the tag is returned where it has to be another.
    pub(super) fn complete(&mut self, tag: &[u8], pending: &mut Pending) -> Result<Option<Vec<u8>>, RunError> {
        let count = tag_count(tag).unwrap_or(0);
        let write = self.write.clone();
        let rows = match self.form {
            Form::AsIs => {
                self.complete_text(count, pending)?;
                return Ok(None);
            }
            Form::Imaged => {
                self.complete_rows(pending)?;
                return Ok(None);
            }
            Form::IntoTemp => return Ok(Some(Vec::new())),
            Form::FromTemp => {
                self.complete_rows(pending)?;
                count
            }
            Form::Alone(AloneResult::Same) => return Ok(None),
            Form::Alone(AloneResult::Tag { rows }) => count.saturating_mul(rows),
            Form::Alone(AloneResult::Count) => self.rows,
            Form::Alone(AloneResult::Rows | AloneResult::Own) => count,
        };
        let mut out = Vec::new();
        put_tag(&mut out, write.tag, rows);
        Ok(Some(out))
    }

    fn complete_text(&mut self, count: u64, pending: &mut Pending) -> Result<(), RunError> {
        if self.has_moment {
            return Err(RunError::Moment);
        }
        let lane = self.write.lane;
        let uncounted = self.write.heads.iter().any(|head| matches!(head.op, Op::Truncate | Op::Ddl));
        match self.write.expect {
            Some(expected) if lane == Lane::Statement && count != 0 && count != expected => {
                return Err(RunError::Count { expected, found: count });
            }
            _ if count == 0 && !uncounted && !self.parted => return Ok(()),
            _ => {}
        }
        for at in 0..self.write.heads.len() {
            let rows = if uncounted { None } else { Some(count) };
            self.push(at, lane, rows, &self.images, pending)?;
        }
        Ok(())
    }

    fn complete_rows(&mut self, pending: &mut Pending) -> Result<(), RunError> {
        let Some(head) = self.write.heads.first() else { return Ok(()) };
        if self.rows == 0 {
            return Ok(());
        }
        // §4.2: text only where it changed all that it names.
        if head.text.is_some() && self.write.expect == Some(self.rows) {
            self.push(0, Lane::Statement, Some(self.rows), &[], pending)?;
        } else if !self.images.is_empty() {
            self.push(0, Lane::Row, Some(self.rows), &self.images, pending)?;
        }
        Ok(())
    }

    /// Makes an entry with the head at this place.
    fn push(
        &self,
        at: usize,
        lane: Lane,
        rows: Option<u64>,
        body: &[u8],
        pending: &mut Pending,
    ) -> Result<(), RunError> {
        let forms = self.write.forms().map_err(PendingError::from)?;
        if let Some(form) = forms.get(at) {
            pending.push(&form.encode(lane, rows, &self.params).map_err(PendingError::from)?, body)?;
        }
        Ok(())
    }
}
