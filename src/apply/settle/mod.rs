//! Conflicts that end the same everywhere (§8): a change takes effect where its version wins against what the peer has, and in
//! the same statement the decision is recorded, a deletion remembered, and a version that has won kept for its node to send
//! again: the one that lost does not know it, perhaps.
//!
//! Which of two versions wins hangs on the two alone, so that all nodes keep the same one in whatever order they get them.

mod moved;
mod words;

use moved::{Moved, Part};
use words::{NUMBERS, Told, Words};

use super::applier::Applier;
use super::error::{ApplyError, Rejection};
use super::line::{Expect, Param};
use super::route::Destination;
use super::shape::{Act, Input, Make, Shape, Statement};
use crate::config::{Conflict, NodeName};
use crate::journal::codec::EncodeError;
use crate::journal::entry::{Extra, Head};
use crate::journal::image::Image;
use crate::journal::{CommitTime, Entry, row_key, row_number};

/// What brings images of one shape where conflicts are settled.
#[derive(Debug)]
pub(super) struct Settled {
    columns: Vec<Input>,
    /// Which value of the image tells the version.
    number: Option<usize>,
    insert: Vec<Statement>,
    upsert: Vec<Statement>,
    update: Vec<Statement>,
    delete: Vec<Statement>,
}

/// How versions are told apart on this peer.
pub(super) struct Ground<'a> {
    pub(super) conflict: &'a Conflict,
    pub(super) peer: &'a NodeName,
    /// Whose journal changes come from.
    pub(super) bringer: &'a NodeName,
    /// The peer knows whose each row is, and as of when.
    pub(super) keeps_times: bool,
    /// The peer's table is only what its partitions are.
    pub(super) partitioned: bool,
    /// Columns of each further unique key of the peer's table.
    pub(super) rivals: Vec<Vec<String>>,
}

// === impl Settled ===

impl Settled {
    pub(super) fn new(
        make: &Make<'_>,
        to: &Destination,
        head: &Head,
        ground: &Ground<'_>,
        mut ids: impl FnMut() -> u32,
    ) -> Result<Self, String> {
        let number = match ground.conflict.by.column() {
            None => None,
            Some(name) => {
                let at = head.columns.iter().position(|column| column.name == name);
                let at = at.ok_or_else(|| format!("column \"{name}\" of the rule's conflict does not travel"))?;
                if !make.types.get(at).is_some_and(|t| NUMBERS.contains(&t.oid)) {
                    return Err(format!("column \"{name}\" of the rule's conflict is no integer, date or time"));
                }
                Some(at)
            }
        };
        let words = Words::new(make, to, head, ground, number).ok_or("rows without a key")?;
        let types: Vec<u32> = words.types().chain(Told::TYPES).collect();
        let mut statements = |all: Result<Vec<String>, EncodeError>| -> Result<Vec<Statement>, String> {
            let all = all.map_err(|error| error.to_string())?;
            Ok(all.into_iter().map(|sql| Statement { id: ids(), sql, types: types.clone() }).collect())
        };
        Ok(Self {
            columns: words.used().filter_map(|at| make.input(at)).collect(),
            number: number.map(|at| at.saturating_add(head.extra.width())),
            insert: statements(words.write(Act::Insert))?,
            upsert: statements(words.write(Act::Upsert))?,
            update: statements(words.write(Act::Update))?,
            delete: statements(words.delete())?,
        })
    }

    fn statements(&self, act: Act) -> &[Statement] {
        match act {
            Act::Insert => &self.insert,
            Act::Upsert => &self.upsert,
            Act::Update | Act::Move => &self.update,
            Act::Delete | Act::Remove => &self.delete,
        }
    }
}

// === impl Applier ===

impl Applier {
    /// Brings the rows of an entry, as far as their versions win.
    pub(super) async fn settle_rows(&mut self, to: &Destination, entry: &Entry) -> Result<(), ApplyError> {
        let Some(moved) = Moved::new(&entry.head) else {
            let shape = self.shape(to, &entry.head).await?;
            for (row, image) in (0_u32..).zip(entry.images()) {
                let image = image.map_err(|why| self.malformed_row(row, why.to_string()))?;
                self.settle_image(&shape, &entry.head, (row, &image))?;
                self.line.room(true).await?;
            }
            return Ok(());
        };
        let gone = self.shape(to, moved.head(Part::Gone)).await?;
        let made = self.shape(to, moved.head(Part::Made)).await?;
        let kept = self.shape(to, moved.head(Part::Kept)).await?;
        for (row, image) in (0_u32..).zip(entry.images()) {
            let image = image.map_err(|why| self.malformed_row(row, why.to_string()))?;
            let parts = moved.parts(&entry.head, &image);
            for (part, image) in parts.ok_or_else(|| self.malformed_row(row, "an image that does not fit its head"))? {
                let shape = match part {
                    Part::Gone => &gone,
                    Part::Made => &made,
                    Part::Kept => &kept,
                };
                self.settle_image(shape, moved.head(part), (row, &image))?;
            }
            self.line.room(true).await?;
        }
        Ok(())
    }

    /// Brings one image, as far as its version wins.
    fn settle_image(&mut self, shape: &Shape, head: &Head, (row, image): (u32, &Image<'_>)) -> Result<(), ApplyError> {
        let act = shape.act(image).map_err(|why| self.malformed_row(row, why))?;
        let (Some(act), Some(settled)) = (act, &shape.settled) else { return Ok(()) };
        let at = self.at(row);
        let own = self.origin().to_string();
        let (time, origin) = match head.extra {
            Extra::Version => {
                let told = image.values.first().and_then(row_number).map(CommitTime);
                let origin = image.values.get(1).and_then(|v| v.bytes);
                let origin = origin.map_or(own, |name| String::from_utf8_lossy(name).into_owned());
                // As of then the peer has it, too, and of that node.
                self.opened()?.version = told.map(|told| (told, origin.clone()));
                (told, origin)
            }
            _ => (self.opened()?.time, own),
        };
        if self.keeps_times() && time.is_none() {
            let message = "it is not known when this was committed: track_commit_timestamp was off on its node";
            return Err(self.line.fail(Rejection::own("55000", message.to_owned(), at)));
        }
        self.encode(&head.encoding)?;
        let values = image.values.get(head.extra.width()..).unwrap_or_default();
        let key = row_key(shape.columns(), values);
        let number = settled.number.and_then(|at| image.values.get(at)).and_then(row_number).map(i64::to_be_bytes);
        let time = time.map(|time| time.0.to_be_bytes());
        let (tick, ord) = at.map_or((0, 0), |at| (at.tick.0, at.ord));
        let (tick, ord) = (tick.to_be_bytes(), ord.to_be_bytes());
        let seen = self.opened()?.seen.map(|tick| tick.0.to_be_bytes());
        let columns = settled
            .columns
            .iter()
            .map(|input| Param { value: image.values.get(input.at).and_then(|v| v.bytes), binary: !input.text });
        let binary = |value| Param { value, binary: true };
        let params: Vec<Param<'_>> = columns
            .chain([
                binary(time.as_ref().map(<[u8; 8]>::as_slice)),
                binary(Some(origin.as_bytes())),
                binary(Some(&key)),
                binary(number.as_ref().map(<[u8; 8]>::as_slice)),
                binary(Some(&tick)),
                binary(Some(&ord)),
                binary(seen.as_ref().map(<[u8; 8]>::as_slice)),
            ])
            .collect();
        for statement in settled.statements(act) {
            let name = self.prepare(statement)?;
            self.line.execute(&name, &params, Expect::Done, at);
        }
        Ok(())
    }
}
