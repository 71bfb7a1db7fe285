//! Errors and notices, as the server would have worded them for the client's own text (I6).

use std::borrow::Cow;

use crate::sql::ClientEncoding;
use crate::wire::error::{Report, sqlstate};
use crate::wire::extended::{Parse, put_close, put_sync};
use crate::wire::message::{back, put_frame};

use super::own::Own;
use super::replies::Shown;
use super::rows::{Characters, Template, map_report};
use super::{Engine, Special};

/// The routine that refuses a Parse of several statements, which it has read.
pub(super) const MANY_COMMANDS: &[u8] = b"exec_parse_message";
pub(super) const SYNTAX_ERROR: &[u8] = b"42601";
const UNDEFINED_COLUMN: &[u8] = b"42703";
/// What warns of a text when it is read.
const SCANNER: [&[u8]; 3] = [b"truncate_identifier", b"check_string_escape_warning", b"check_escape_warning"];

impl Engine {
    /// Of a text that was read twice the client hears once, and of its own places in it.
    pub(super) fn notice(&mut self, body: &[u8]) -> Shown {
        let head = self.machine.outstanding().next().map(|(id, _)| id);
        let special = self.specials.front().filter(|(id, _)| Some(*id) == head).map(|(_, special)| special);
        let template = match special {
            Some(
                Special::Own(Own::Ignore | Own::Resolve(_) | Own::Isolation | Own::Catalog(_) | Own::Scene(_))
                | Special::Twin(..)
                | Special::Recheck(_),
            ) => return Shown::Instead,
            // SET CONSTRAINTS takes what a pipeline has begun for no transaction.
            Some(Special::Own(Own::Needed)) if field(body, b'C') == Some(b"25P01") => return Shown::Instead,
            Some(Special::Step(Some(template))) => &**template,
            Some(Special::Query(query)) => &query.template,
            _ => return Shown::Verbatim,
        };
        let scanned = self.segment.as_ref().is_some_and(|segment| segment.scanned);
        if scanned && field(body, b'R').is_some_and(|routine| SCANNER.contains(&routine)) {
            return Shown::Instead;
        }
        if template.rewritten.inserted.is_empty() || field(body, b'P').is_none() {
            return Shown::Verbatim;
        }
        let shown = map_report(back::NOTICE, body, template, self.characters());
        self.shown_instead(&shown)
    }

    pub(super) fn show_error(&mut self, template: Option<&Template>, body: &[u8]) {
        let shown = self.shown_error(template, body);
        self.down.extend_from_slice(&shown);
    }

    fn shown_error(&self, template: Option<&Template>, body: &[u8]) -> Vec<u8> {
        let body = self.own_names(body);
        match template {
            Some(template) if is_ours(&body, template, self.characters()) => changed_meanwhile(&body),
            Some(template) if !template.rewritten.inserted.is_empty() => {
                map_report(back::ERROR, &body, template, self.characters())
            }
            _ => framed_error(&body),
        }
    }

    /// What follows the client's text is ours: an error of syntax may be about that. The server is asked about the client's own.
    pub(super) fn show_or_recheck(&mut self, template: Option<&Template>, body: &[u8]) {
        match template {
            Some(template) if field(body, b'C') == Some(SYNTAX_ERROR) && !template.rewritten.inserted.is_empty() => {
                self.recheck = Some((template.original.clone(), self.shown_error(Some(template), body)));
            }
            _ => self.show_error(template, body),
        }
    }

    /// Asks that, in the place of the query's ReadyForQuery.
    pub(super) fn rechecks(&mut self) -> bool {
        let Some((sql, error)) = self.recheck.take() else { return false };
        let parse = Parse { statement: b"", sql: &sql, types: vec![] };
        self.send(Special::Recheck(error), |out| parse.put(out));
        self.send(Special::Own(Own::Ignore), |out| put_close(out, b'S', b""));
        self.send_plain(put_sync);
        true
    }

    pub(super) fn shown_instead(&mut self, frame: &[u8]) -> Shown {
        self.down.extend_from_slice(frame);
        Shown::Instead
    }

    /// An error of what EXECUTE runs names the client's statement, not its twin.
    fn own_names<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        let mut body = Cow::Borrowed(body);
        for (sql, twin) in self.sql_twins.iter() {
            let Some(at) = memchr::memmem::find(&body, format!("\"{twin}\"").as_bytes()) else { continue };
            let Some(own) = self.statements.name_by_sql(sql) else { continue };
            let end = at.saturating_add(twin.len()).saturating_add(1);
            let parts = [body.get(..=at), Some(own.as_bytes()), body.get(end..)];
            body = Cow::Owned(parts.into_iter().flatten().flatten().copied().collect());
        }
        body
    }

    pub(super) fn characters(&self) -> Characters {
        let encoding = self.lex().encoding;
        let utf8 = encoding == ClientEncoding::AsciiSafe && self.encoding_name() == "UTF8";
        Characters { encoding, utf8 }
    }
}

/// Whether a column is missed that only capture has named: DDL has come between its decision and the statement.
fn is_ours(body: &[u8], template: &Template, characters: Characters) -> bool {
    let position = field(body, b'P').and_then(|p| std::str::from_utf8(p).ok()?.parse().ok());
    let put_in = |position| template.is_put_in(position, characters);
    field(body, b'C') == Some(UNDEFINED_COLUMN) && position.is_some_and(put_in)
}

/// The client knows nothing of that column; it is told what it can do.
fn changed_meanwhile(body: &[u8]) -> Vec<u8> {
    let said = String::from_utf8_lossy(field(body, b'M').unwrap_or_default()).into_owned();
    Report {
        detail: Some(format!("To be replicated it was looked at as the table was before: {said}.")),
        hint: Some(
            "Run the transaction again. If that does not help, a replication rule names that column.".to_owned(),
        ),
        ..Report::error(sqlstate::SERIALIZATION_FAILURE, "the table was changed while the statement was on its way")
    }
    .frame()
}

/// An error that counts result columns, ours among them.
pub(super) fn counted_down(body: &[u8]) -> Vec<u8> {
    let fields = body.split_inclusive(|&b| b == 0).map(|field| match field.first() {
        Some(b'M') => {
            let text = String::from_utf8_lossy(field);
            let words = text.split(' ').map(|word| match word.parse::<usize>() {
                Ok(count) => count.saturating_sub(1).to_string(),
                Err(_) => word.to_owned(),
            });
            words.collect::<Vec<_>>().join(" ").into_bytes()
        }
        _ => field.to_vec(),
    });
    fields.flatten().collect()
}

pub(super) fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    body.split(|&b| b == 0).find_map(|field| field.strip_prefix(&[code]))
}

pub(super) fn framed_error(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, back::ERROR, body);
    out
}
