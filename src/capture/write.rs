//! The decision about one statement: in which lane it travels, why, and what is sent in its place.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::capture::moment::Layout;
use crate::catalog::relation::Oid;
use crate::config::NodeName;
use crate::journal::entry::{Head, Lane};
use crate::journal::{EncodeError, HeadForm};
use crate::sql::Name;
use crate::sql::statement::Written;

/// What becomes of a statement.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It writes no replicated table: relayed as it is. `unsettles`: names may resolve to other objects behind it.
    Pass {
        unsettles: bool,
    },
    /// It writes one.
    Write(Arc<Write>),
    Refuse(Refusal),
    /// It would be refused, but the operator lets such statements run here alone: relayed as it is, with this as a WARNING.
    Warn {
        refusal: Refusal,
        unsettles: bool,
    },
}

/// Why a statement is refused (I5), as the client reads it: SQLSTATE 0A000 unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// A write to a replicated table that will be captured.
#[derive(Clone, Debug)]
pub struct Write {
    pub lane: Lane,
    /// In a few words, why this lane: `pgcanon check --sql` and `SHOW LANES` print it.
    pub reason: &'static str,
    /// First words of the command tag, as the server would answer it: `INSERT 0`, `UPDATE`, `DELETE`, `MERGE`, `TRUNCATE TABLE`, `COPY`.
    pub tag: &'static str,
    /// The statement has a RETURNING of its own: the client sees rows.
    pub returning: bool,
    /// What the entries are headed with: `heads[0]` is the statement's own, the others are those of its data-modifying CTEs
    /// (or, for TRUNCATE, of its further tables).
    pub heads: Vec<Head>,
    /// The same as far as it is encoded once for all entries, when the first one is made.
    pub forms: OnceLock<Vec<HeadForm>>,
    /// Text is right only if so many rows were changed (S); none where any number is. With any other number the images are
    /// the entry, where `block` asks for them; where it does not, only no row at all is another number, and there is no entry.
    pub expect: Option<u64>,
    /// Text is right only if these parameters are NULL or bound in binary; otherwise `otherwise` is used.
    pub binary_params: Vec<u16>,
    /// What to do where the above does not hold.
    pub otherwise: Option<Arc<Decision>>,
    /// In a block: the statement as it is sent.
    pub block: BlockForm,
    /// Where nothing else commits it: one statement that also writes its journal row. None where there is no such form (COPY,
    /// TRUNCATE, EXECUTE, locked statements): a block is put around it.
    pub alone: Option<AloneForm>,
    /// The place in the journal's order has to be taken when the statement, and what it triggers, is over.
    pub late: bool,
    /// Deferrable constraints must be checked before the journal is written.
    pub deferrable: bool,
    /// Statements to run before it, in its transaction (`LOCK TABLE …`).
    pub before: Vec<String>,
    /// Right only where the statement takes a fresh snapshot: READ COMMITTED, or first in its block.
    pub fresh_snapshot: bool,
    /// Names may resolve to other objects behind it, as with [`Decision::Pass`].
    pub unsettles: bool,
    /// The client is answered when these have it, too.
    pub acked: Vec<Arc<Acked>>,
}

impl Write {
    /// What its entries' heads are made of.
    pub fn forms(&self) -> Result<&[HeadForm], EncodeError> {
        if let Some(forms) = self.forms.get() {
            return Ok(forms);
        }
        let forms = self.heads.iter().map(HeadForm::new).collect::<Result<_, _>>()?;
        Ok(self.forms.get_or_init(|| forms))
    }

    /// Whether its transaction has to be prepared by peers before it commits.
    #[must_use]
    pub fn is_atomic(&self) -> bool {
        self.acked.iter().any(|acked| acked.atomic)
    }
}

/// Who has to have applied a change before its client is answered (§7), and how long that is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    /// None for all.
    pub peers: Option<Vec<NodeName>>,
    pub wait: Duration,
    /// They have to have it prepared before this node commits it.
    pub atomic: bool,
}

impl Acked {
    /// Whether this peer is one of them.
    #[must_use]
    pub fn concerns(&self, peer: &NodeName) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.contains(peer))
    }
}

/// How a captured statement is sent within a block.
#[derive(Clone, Debug)]
pub enum BlockForm {
    /// As it is: its tag tells what there is to know (S, L, TRUNCATE), or its data does (COPY).
    AsIs,
    /// With one more column in its RETURNING, which holds an image.
    Imaged(Rewritten),
    /// Only the form that journals itself will do (data-modifying CTEs).
    OnlyAlone,
    /// COPY as it is, which fails where its data has a word for a moment.
    Watched(Arc<Watched>),
    /// COPY by way of a temporary table: its rows travel.
    ThroughTemp(Arc<ThroughTemp>),
}

/// A COPY whose data is looked at on its way.
#[derive(Clone, Debug)]
pub struct Watched {
    pub layout: Arc<Layout>,
    pub refusal: Refusal,
}

/// A COPY into a table that its stream alone does not tell the rows of (§4.5).
///
/// In one block, one after the other: `create`, `copy` with the client's data, `insert`, `drop`. A block that has done so
/// cannot be prepared (PREPARE TRANSACTION): the server refuses that after any use of a temporary table.
#[derive(Clone, Debug)]
pub struct ThroughTemp {
    pub create: Vec<u8>,
    /// The client's own COPY, into the temporary table.
    pub copy: Rewritten,
    /// From there into the client's table, returning images.
    pub insert: Vec<u8>,
    pub drop: &'static str,
    /// The table's name as the server's messages call it.
    pub name: Vec<u8>,
}

/// The name of that temporary table.
pub const TEMP_TABLE: &str = "pgcanon_copy";

/// A text to be sent in place of the client's.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    pub sql: Vec<u8>,
    /// What was put in, in the order of the text: error positions are mapped back by it.
    pub inserted: Vec<Inserted>,
}

/// One change of the client's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Where in the rewritten text, in bytes.
    pub at: usize,
    /// How many bytes were put in there.
    pub len: usize,
    /// How many of the client's bytes stood there and were left out.
    pub instead: usize,
}

impl Rewritten {
    /// Where in the client's text a byte of this one stood; what was put in counts as the place where it was put.
    #[must_use]
    pub fn original(&self, at: usize) -> usize {
        let (mut ours, mut theirs) = (0_usize, 0_usize);
        for inserted in &self.inserted {
            if at < inserted.at {
                break;
            }
            theirs += inserted.at - ours;
            if at < inserted.at + inserted.len {
                return theirs;
            }
            theirs += inserted.instead;
            ours = inserted.at + inserted.len;
        }
        theirs + (at - ours)
    }

    /// This text, of one that was itself put in the place of the client's.
    #[must_use]
    pub fn of(mut self, earlier: &Self) -> Self {
        let mut inserted = Vec::with_capacity(self.inserted.len() + earlier.inserted.len());
        let mut later = self.inserted.into_iter().peekable();
        // What was put in, and what was left out, before the place at hand.
        let (mut more, mut less) = (0, 0);
        for earlier in &earlier.inserted {
            while let Some(next) = later.next_if(|next| next.at + less <= earlier.at + more) {
                (more, less) = (more + next.len, less + next.instead);
                inserted.push(next);
            }
            inserted.push(Inserted { at: earlier.at + more - less, ..*earlier });
        }
        inserted.extend(later);
        self.inserted = inserted;
        self
    }
}

/// A statement that journals itself.
///
/// Its parameters are the client's, then (numbered from `first_param`) one meta as bytea for each head, in their order. What a
/// journal row's `data` holds are the images; empty, the head's text is the entry.
#[derive(Clone, Debug)]
pub struct AloneForm {
    pub text: Rewritten,
    /// Where in the text the number of the journal's child stands, which is 0: the server would look for the child at every
    /// execution if the text named the journal itself.
    pub child: usize,
    pub first_param: u16,
    pub result: AloneResult,
}

impl AloneForm {
    /// The text that writes into the child `slot`, of which there are fewer than ten.
    #[must_use]
    pub fn text_for(&self, slot: i16) -> Rewritten {
        let mut text = self.text.clone();
        if let Some(place) = text.sql.get_mut(self.child) {
            // A number that no child has must not become one that a child has.
            *place = b'0' + u8::try_from(slot).unwrap_or(9).min(9);
        }
        text
    }
}

/// What a self-journalling statement answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AloneResult {
    /// No rows; tag `INSERT 0 1` if `n` rows were changed and journalled, `INSERT 0 0` if none was.
    Tag { rows: u64 },
    /// One row of one column: how many rows were changed (int8).
    Count,
    /// The client's own rows, with one more column at the end that is to be cut off; the tag counts them.
    Rows,
    /// The client's own rows, nothing to be cut off; the tag counts them.
    Own,
    /// Exactly what the client's statement answers, tag included.
    Same,
}

/// What a name in a statement means in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// None: no such relation, or one that no rule concerns (a temporary table, say).
    pub oid: Option<Oid>,
    pub schema: Name,
    pub blind: Blind,
    /// Row-level security applies to the session's role.
    pub row_security: bool,
    /// A temporary relation by which others may be written, ruled ones perhaps.
    pub reaches: bool,
}

impl Meaning {
    /// There is no such relation.
    pub const NONE: Self =
        Self { oid: None, schema: Name::EMPTY, blind: Blind::NOWHERE, row_security: false, reaches: false };
}

/// What the session's role may do to rows that it may not read: there `RETURNING` would be refused, and the statement not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blind {
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
}

/// SQL for the letters that [`Blind::read`] takes, of a table `c`, whatever the session's search_path is.
macro_rules! blind {
    () => {
        "CASE WHEN pg_catalog.has_table_privilege(c.oid, 'SELECT') OR NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
         AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')) THEN '' ELSE pg_catalog.concat( \
         CASE WHEN pg_catalog.has_any_column_privilege(c.oid, 'INSERT') THEN 'i' END, \
         CASE WHEN pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') THEN 'u' END, \
         CASE WHEN pg_catalog.has_table_privilege(c.oid, 'DELETE') THEN 'd' END) END"
    };
}
pub(crate) use blind;

impl Blind {
    pub const NOWHERE: Self = Self { insert: false, update: false, delete: false };

    #[must_use]
    pub fn read(letters: &[u8]) -> Self {
        let may = |letter| letters.contains(&letter);
        Self { insert: may(b'i'), update: may(b'u'), delete: may(b'd') }
    }
}

/// What the session's server has to be asked about before a decision can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What these names mean.
    Names(Vec<Written>),
    /// What DDL with these names means ([`Scene`](crate::catalog::scene::Scene)).
    Scene(Vec<Written>),
    /// What this relation is, which is newer than the catalog's picture.
    Catalog(Oid),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_text_is_one_of_the_first() {
        let put = |at, len, instead| Inserted { at, len, instead };
        // set n = 12345 where id = 6
        let earlier =
            Rewritten { sql: b"set n = $1 where id = $2".to_vec(), inserted: vec![put(8, 2, 5), put(22, 2, 1)] };
        let sql = b"with x as (set n = $1 where id = $2 returning 1)".to_vec();
        let later = Rewritten { sql, inserted: vec![put(0, 11, 0), put(35, 13, 0)] };
        let both = later.of(&earlier);
        for (at, own) in [(0, 0), (11, 0), (15, 4), (19, 8), (21, 13), (27, 19), (33, 25), (40, 26)] {
            assert_eq!(both.original(at), own, "{at}");
        }
    }
}
