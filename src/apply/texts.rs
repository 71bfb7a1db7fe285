//! Statements that travel as text, and the data of COPY, onto a peer (§4.2, §4.4, §4.5).

use super::applier::{Applier, TIMESTAMPTZ};
use super::error::{ApplyError, NOT_ROUTED, Rejection};
use super::line::{Expect, Param};
use super::repeats::Use;
use super::route::Destination;
use super::session::{base, text_array};
use super::shape::{TEXT, TEXT_ARRAY};
use super::text::{BadText, renamed};
use crate::config::{Conflict, Resolve};
use crate::journal::entry::{Extra, Head, Lane, Text};
use crate::sql::quote;

const RESTART: &[u8] = b"RESTART IDENTITY";
const ONLY: &[u8] = b"ONLY";

/// TRUNCATEs of one transaction that follow each other, and become one: tables that reference each other can only be emptied
/// together.
pub(super) struct Truncating {
    tables: Vec<String>,
    restart: bool,
}

impl Applier {
    pub(super) fn text(&mut self, head: &Head, text: &Text) -> Result<(), ApplyError> {
        let sql = self.renamed(head, text)?;
        self.encode(&head.encoding)?;
        let settings = self.settings(head, text)?;
        let types: Vec<u32> = text.params.iter().map(|p| p.type_oid).collect();
        let params: Vec<Param<'_>> =
            text.params.iter().map(|p| Param { value: p.value.as_deref(), binary: p.binary }).collect();
        let name = if settings { self.once(&sql, &types) } else { self.again(&sql, &types, &head.encoding) };
        let at = self.at(0);
        self.line.execute(&name, &params, head.rows.map_or(Expect::Done, Expect::Count), at);
        if settings {
            self.reset(head, text)?;
        }
        Ok(())
    }

    /// A part of a COPY's data; with `rows` its last one.
    pub(super) fn copy(&mut self, head: &Head, text: &Text, data: &[u8]) -> Result<(), ApplyError> {
        if !self.opened()?.copying {
            let sql = self.renamed(head, text)?;
            self.encode(&head.encoding)?;
            self.settings(head, text)?;
            self.line.parse("", &sql, &[]);
            let at = self.at(0);
            // How many rows it brings is known with its last part.
            self.line.execute("", &[], Expect::Done, at);
            self.opened()?.copying = true;
        }
        if !data.is_empty() {
            self.line.copy_data(data);
        }
        let Some(rows) = head.rows else { return Ok(()) };
        self.line.copy_done(rows);
        self.opened()?.copying = false;
        self.reset(head, text)
    }

    /// Takes note of a TRUNCATE; where rows are filtered, it is a DELETE of those that travel.
    pub(super) fn truncate(&mut self, to: &Destination, head: &Head, text: &Text) -> Result<(), ApplyError> {
        if let Some(conflict) = to.conflict.as_ref().filter(|conflict| conflict.by.column().is_none()) {
            return self.empty_by_versions(to, conflict);
        }
        if head.extra != Extra::None || to.filter.is_some() {
            self.put_truncates()?;
            let mut sql = format!("DELETE FROM {}", quote::table(&to.table, "UTF8"));
            if let Some(filter) = &to.filter {
                // The condition may name the table; the line's end closes a comment that it may end with.
                sql.push_str(&format!(" AS {} WHERE ({filter}\n) IS TRUE", quote::ident(&to.source.table, "UTF8")));
            }
            self.encode("UTF8")?;
            self.plain(sql.as_bytes());
            return Ok(());
        }
        let Some(place) = text.names.first() else { return Err(self.malformed("a TRUNCATE of nothing")) };
        let at = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let ends = |part: Option<&[u8]>, word: &[u8]| part.is_some_and(|p| p.trim_ascii_end().ends_with(word));
        let only = ends(text.sql.get(..at(place.start)), ONLY);
        let restart = ends(text.sql.get(at(place.end)..), RESTART);
        let name = format!("{}{}", if only { "ONLY " } else { "" }, quote::table(&to.table, "UTF8"));
        if self.opened()?.truncating.as_ref().is_some_and(|t| t.restart != restart) {
            self.put_truncates()?;
        }
        let truncating = self.opened()?.truncating.get_or_insert(Truncating { tables: Vec::new(), restart });
        truncating.tables.push(name);
        Ok(())
    }

    /// Rows that are newer than the TRUNCATE stay, those that are older and come later do not.
    fn empty_by_versions(&mut self, to: &Destination, conflict: &Conflict) -> Result<(), ApplyError> {
        self.put_truncates()?;
        let Some(time) = self.opened()?.time else {
            return Err(self.malformed("a TRUNCATE without its time"));
        };
        let resolve = if conflict.resolve == Resolve::Node { "node" } else { "last" };
        let prefer = conflict.prefer.as_ref().map_or("", |node| node.as_str());
        let (peer, origin) = (self.route().peer().to_string(), self.origin().to_string());
        let delete = format!(
            "DELETE FROM {} AS {} WHERE pgcanon.rank($1, $2, xmin, {}, {}, '{resolve}') >= 0 AND ({}\n) IS TRUE",
            quote::table(&to.table, "UTF8"),
            quote::ident(&to.source.table, "UTF8"),
            quote::literal(&peer),
            quote::literal(prefer),
            to.filter.as_deref().unwrap_or("true"),
        );
        self.encode("UTF8")?;
        let time = time.0.to_be_bytes();
        let params = [Param::binary(&time), Param::binary(origin.as_bytes())];
        let at = self.at(0);
        self.line.parse("", delete.as_bytes(), &[TIMESTAMPTZ, TEXT]);
        self.line.execute("", &params, Expect::Done, at);
        let (schema, table) = (quote::literal(&to.table.schema), quote::literal(&to.table.table));
        let grave = format!("INSERT INTO pgcanon.tombstone (nsp_name, table_name, key) VALUES ({schema}, {table}, '')");
        self.plain(grave.as_bytes());
        Ok(())
    }

    /// Sends the TRUNCATE that was waiting for more tables.
    pub(super) fn put_truncates(&mut self) -> Result<(), ApplyError> {
        let Ok(open) = self.opened() else { return Ok(()) };
        let Some(Truncating { tables, restart }) = open.truncating.take() else { return Ok(()) };
        self.encode("UTF8")?;
        let behind = if restart { " RESTART IDENTITY" } else { "" };
        self.plain(format!("TRUNCATE TABLE {}{behind}", tables.join(", ")).as_bytes());
        Ok(())
    }

    pub(super) fn renamed(&mut self, head: &Head, text: &Text) -> Result<Vec<u8>, ApplyError> {
        let route = self.route();
        renamed(head, text, |schema, table| route.of(schema, table)).map_err(|bad| {
            let at = self.at(0);
            self.line.fail(match bad {
                BadText::Place => Rejection::malformed("a name outside of its text", at),
                BadText::NotRouted(table) => {
                    Rejection::own(NOT_ROUTED, format!("the statement reads {table}, which this peer does not get"), at)
                }
            })
        })
    }

    /// Sets what the text's constants hang on; whether there is anything to be taken back.
    fn settings(&mut self, head: &Head, text: &Text) -> Result<bool, ApplyError> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &text.settings {
            let Some((name, _)) = base(name) else { return Err(self.malformed("a text with an unknown setting")) };
            pairs.push((name, value));
        }
        // What reads whole tables may do so as it likes.
        if head.lane == Lane::Locked {
            pairs.push(("enable_seqscan", "on"));
        }
        Ok(self.set(&pairs))
    }

    fn reset(&mut self, head: &Head, text: &Text) -> Result<(), ApplyError> {
        let mut pairs: Vec<(&str, &str)> = text.settings.iter().filter_map(|(name, _)| base(name)).collect();
        if head.lane == Lane::Locked {
            pairs.push(("enable_seqscan", "off"));
        }
        self.set(&pairs);
        Ok(())
    }

    pub(super) fn set(&mut self, pairs: &[(&str, &str)]) -> bool {
        if pairs.is_empty() {
            return false;
        }
        let (names, values): (Vec<&str>, Vec<&str>) = pairs.iter().copied().unzip();
        let sql = "SELECT pg_catalog.set_config(v.name, v.value, true) FROM unnest($1, $2) AS v(name, value)";
        self.line.parse("", sql.as_bytes(), &[TEXT_ARRAY, TEXT_ARRAY]);
        let at = self.at(0);
        let (names, values) = (text_array(&names), text_array(&values));
        self.line.execute("", &[Param::binary(&names), Param::binary(&values)], Expect::Done, at);
        true
    }

    fn once(&mut self, sql: &[u8], types: &[u32]) -> String {
        self.line.parse("", sql, types);
        String::new()
    }

    /// Prepares what has come before.
    fn again(&mut self, sql: &[u8], types: &[u32], encoding: &str) -> String {
        let mut key = Vec::with_capacity(sql.len().saturating_add(64));
        types.iter().for_each(|oid| key.extend_from_slice(&oid.to_be_bytes()));
        key.extend_from_slice(encoding.as_bytes());
        key.push(0);
        key.extend_from_slice(sql);
        let mut dropped = Vec::new();
        let id = self.new_id();
        let used = self.repeats.use_of(key, || id, &mut dropped);
        self.drop_prepared(dropped);
        match used {
            Use::Once => self.once(sql, types),
            Use::Prepared(id) => format!("p{id}"),
            Use::Prepare(id) => {
                let name = format!("p{id}");
                self.line.parse(&name, sql, types);
                self.mark_prepared(id);
                name
            }
        }
    }
}
