//! Data-modifying WITH queries: each shows its rows to the journal and to the statement what it returned before.

use std::sync::Arc;

use crate::capture::write::{AloneForm, AloneResult, BlockForm, Decision, Write};
use crate::journal::entry::Lane;
use crate::sql::Name;
use crate::sql::statement::{Cte, Item, Kind, Returning, With};

use super::image::{self, Rows, parts};
use super::refuse::{self, Why};
use super::rewrite::{self, Log, Source, Weave};
use super::single::op_of;
use super::target::{self, Ours};
use super::{Case, Refused, quote};

/// One WITH query that writes a replicated table.
struct Writing<'a> {
    cte: &'a Cte,
    ours: Ours<'a>,
    rows: Rows,
    own: bool,
    /// What the client's name for it selects from it; none where it returns nothing.
    shown: Option<Shown>,
}

/// A list of names to be selected.
struct Shown {
    list: Vec<u8>,
    /// They are the client's aliases, which have to be given to our query then.
    aliases: bool,
}

impl<'a> Case<'a> {
    /// A statement some of whose WITH queries write; none where they write no replicated table.
    pub(super) fn ctes(&self, with: &'a With, main: Option<&Ours<'_>>) -> Result<Option<Decision>, Refused> {
        let mut writing = Vec::new();
        let mut written = 0;
        for cte in &with.ctes {
            let Some(kind) = cte.writes.as_deref() else { continue };
            written += 1;
            writing.extend(self.cte(cte, kind)?);
        }
        let kind = &self.statement.kind;
        let main = match main {
            Some(ours) => Some((ours, self.shown(kind, ours)?)),
            None => None,
        };
        if writing.is_empty() && (written == 0 || main.is_none()) {
            return Ok(None);
        }
        let main = main.and_then(|(ours, rows)| Some((ours, rows?)));
        let Some(first) = main.as_ref().map(|(ours, _)| *ours).or_else(|| writing.first().map(|w| &w.ours)) else {
            return Ok(Some(self.pass()));
        };
        let heads: Vec<_> =
            main.iter().map(|(_, r)| r).chain(writing.iter().map(|w| &w.rows)).map(|r| r.head.clone()).collect();
        let all = || writing.iter().map(|w| &w.ours).chain(main.iter().map(|(ours, _)| *ours));
        // What frees keys has to be seen by us first.
        let mut written =
            writing.iter().map(|w| (&w.ours, &w.rows)).chain(main.iter().map(|(ours, rows)| (*ours, rows)));
        if let Some((ours, _)) = written.find(|(o, rows)| o.rule.settles().is_some() && rows.head.frees_keys()) {
            return Err(self.refuse(kind, ours, Why::Settled, None));
        }
        let Some(alone) = self.hoisted(with, &writing, main.as_ref().map(|(_, rows)| rows), heads.len()) else {
            return Err(self.refuse(kind, first, Why::Parameters, None));
        };
        let returning = parts(kind).and_then(|(_, returning)| returning);
        let block = match &main {
            Some((_, rows)) if writing.is_empty() => self.imaged(returning, &rows.image),
            _ => BlockForm::OnlyAlone,
        };
        Ok(Some(Decision::Write(Arc::new(Write {
            lane: Lane::Row,
            reason: "WITH queries write, too",
            returning: matches!(kind, Kind::Select { .. }) || returning.is_some(),
            late: all().any(|o| o.relation.late || o.root.late),
            deferrable: all().any(|o| o.relation.deferrable || o.root.deferrable),
            heads,
            before: target::noted(all().map(|o| o.rule)),
            acked: target::acked(all().map(|o| o.rule)),
            ..self.plain(kind, first, image::head(self.s, Lane::Row, op_of(kind), first), block, Some(alone))
        }))))
    }

    /// The rows of a write, refused where they cannot be shown.
    fn shown(&self, kind: &Kind, ours: &Ours<'_>) -> Result<Option<Rows>, Refused> {
        if ours.relation.rewrite_rule {
            return Err(self.refuse(kind, ours, Why::RewriteRule, None));
        }
        image::rows(kind, self, ours).map_err(|why| self.refuse(kind, ours, why, None))
    }

    fn cte(&self, cte: &'a Cte, kind: &'a Kind) -> Result<Option<Writing<'a>>, Refused> {
        let Some(ours) = self.target(kind)? else { return Ok(None) };
        let Some(rows) = self.shown(kind, &ours)? else { return Ok(None) };
        let returning = parts(kind).and_then(|(_, returning)| returning);
        let shown = match returning {
            None => None,
            Some(returning) => Some(self.selection(cte, kind, returning, &ours)?),
        };
        Ok(Some(Writing { cte, ours, rows, own: returning.is_some(), shown }))
    }

    /// The names of what a WITH query returns, as a list to be selected.
    fn selection(&self, cte: &Cte, kind: &Kind, returning: &Returning, ours: &Ours<'_>) -> Result<Shown, Refused> {
        let joined = match kind {
            Kind::Update(update) => update.from,
            Kind::Delete(delete) => delete.using,
            Kind::Merge(_) => true,
            _ => false,
        };
        let refused = || refuse::cte(ours, &String::from_utf8_lossy(cte.name.as_bytes()));
        // What has no name of its own is reached by the client's aliases, or not at all.
        let aliased = || {
            let aliases = cte.aliases.and_then(|a| self.sql.get(a.start + 1..a.end.checked_sub(1)?));
            aliases.map(|list| Shown { list: list.to_vec(), aliases: true }).ok_or_else(refused)
        };
        let Some(items) = &returning.items else {
            return aliased();
        };
        let mut names: Vec<Name> = Vec::new();
        for item in items {
            match item {
                Item::Named(name) => names.push(*name),
                Item::All if joined => return Err(refused()),
                Item::All => names.extend(ours.relation.columns.iter().map(|c| c.name)),
            }
        }
        let mut seen = std::collections::HashSet::new();
        if !names.iter().all(|name| seen.insert(*name)) {
            return aliased();
        }
        let mut list = Vec::new();
        for name in &names {
            if !list.is_empty() {
                list.extend_from_slice(b", ");
            }
            match std::str::from_utf8(name.as_bytes()) {
                Ok(name) if name.is_ascii() || quote::same_bytes(self.s.encoding) => {
                    list.extend_from_slice(quote::ident(name, self.s.encoding).as_bytes());
                }
                _ => return Err(self.refuse(kind, ours, Why::Encoding, None)),
            }
        }
        Ok(Shown { list, aliases: false })
    }

    /// The statement with its WITH list made longer: one query for what each of them shows, and one that journals it all.
    fn hoisted(&self, with: &With, writing: &[Writing<'_>], main: Option<&Rows>, heads: usize) -> Option<AloneForm> {
        let first_param = rewrite::first_param(self.statement.max_param)?;
        let first_meta = if main.is_some() { first_param + 1 } else { first_param };
        u16::try_from(heads).ok().filter(|n| *n < 64)?;
        let names: Vec<_> = (1..=writing.len()).map(|n| format!("pgcanon_raw_{n}")).collect();
        let mut weave = Weave::new(self.sql);
        let mut sources = Vec::new();
        for ((w, raw), meta) in writing.iter().zip(&names).zip(first_meta..) {
            self.raw(&mut weave, w, raw);
            sources.push((Source { cte: raw, meta }, Log::Rows));
        }
        weave.copy(with.list.end);
        let returning = parts(&self.statement.kind).and_then(|(_, returning)| returning);
        let (child, result) = match main {
            None => {
                weave.put(", pgcanon_log AS (");
                let child = weave.log(&sources);
                weave.put(")");
                weave.copy(self.statement.end);
                (child, AloneResult::Same)
            }
            Some(rows) => {
                sources.push((Source { cte: "pgcanon_dml", meta: first_param }, Log::Rows));
                weave.put(", pgcanon_dml AS (");
                weave.copy(self.statement.end);
                weave.put(rewrite::returning(returning.is_some(), &format!("{} AS pgcanon_image", rows.image)));
                let (shown, result) = match returning {
                    None => ("pg_catalog.count(*)", AloneResult::Count),
                    Some(_) => ("*", AloneResult::Rows),
                };
                weave.put("), pgcanon_log AS (");
                let child = weave.log(&sources);
                weave.put(format!(") SELECT {shown} FROM pgcanon_dml"));
                (child, result)
            }
        };
        Some(AloneForm { text: weave.finish(), child, first_param, result })
    }

    /// One WITH query under our name with an image, and under the client's name what it returned.
    fn raw(&self, weave: &mut Weave<'_>, w: &Writing<'_>, raw: &str) {
        let cte = w.cte;
        let bytes = |from: usize, to: usize| self.sql.get(from..to).unwrap_or_default();
        let aliases = cte.aliases.map(|a| bytes(a.start, a.end)).unwrap_or_default();
        weave.copy(cte.name_span.start);
        weave.skip(cte.aliases.map_or(cte.name_span.end, |a| a.end));
        weave.put(raw);
        if w.shown.as_ref().is_some_and(|s| s.aliases) {
            weave.put(aliases);
        }
        weave.copy(cte.body.end);
        weave.put(rewrite::returning(w.own, &format!("{} AS pgcanon_image", w.rows.image)));
        weave.copy(cte.close + 1);
        if let Some(shown) = &w.shown {
            weave.put(", ");
            weave.put(bytes(cte.name_span.start, cte.name_span.end));
            weave.put(aliases);
            weave.put(" AS (SELECT ");
            weave.put(&shown.list);
            weave.put(format!(" FROM {raw})"));
        }
    }
}
