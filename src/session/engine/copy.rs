//! COPY … FROM STDIN (§4.5): whose data it is that goes to the server, what becomes of it, and what runs around a COPY by way
//! of a temporary table.
//!
//! A COPY is one request and its data belongs to none, so the place of each piece of data is told by what was asked last,
//! and within a query by which of its COPYs runs, or will.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use memchr::memmem;

use crate::capture::write::{BlockForm, Inserted, TEMP_TABLE, ThroughTemp, Write};
use crate::journal::entry::Lane;
use crate::sql::Name;
use crate::wire::error::Severity;
use crate::wire::extended::{BINARY, Bind, put_close, put_execute};
use crate::wire::message::{back, front, put_frame, split_cstr};

use super::extended::{Bound, Prepared};
use super::own::{Own, PORTAL};
use super::refusing::report;
use super::rows::Template;
use super::run::{Form, Run};
use super::simple::{PieceRun, QueryRun};
use super::{Engine, Special, Step};

/// Begins what we tell the server when it is to fail the client's COPY.
const OURS: &str = "pgcanon: ";

impl Run {
    /// Whether it is fed with data of the client.
    fn takes_data(&self) -> bool {
        self.form == Form::IntoTemp || self.write.lane == Lane::Copy
    }

    /// A refusal that its data is to blame for.
    fn refusal(&self) -> Option<&crate::capture::write::Refusal> {
        match &self.write.block {
            BlockForm::Watched(watched) if self.has_moment() => Some(&watched.refusal),
            _ => None,
        }
    }

    /// An error of the server's about it, as the client is to read it: another one where we have made the COPY fail, and with
    /// the client's name for the table.
    pub(super) fn own_error<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        match (&self.write.block, self.refusal()) {
            (_, Some(refusal)) if has(body, b'M', OURS) => {
                let frame = report(refusal, Severity::Error).frame();
                Cow::Owned(frame.get(super::HEADER..).unwrap_or_default().to_vec())
            }
            (BlockForm::ThroughTemp(temp), _) => renamed(body, &temp.name),
            _ => Cow::Borrowed(body),
        }
    }
}

impl QueryRun {
    /// The COPY that data is for: the one that runs, or else the next whose data has not ended.
    fn copying(&mut self, running: bool) -> Option<&mut Run> {
        let mut copies = self.pieces.iter().enumerate().filter(|(_, piece)| match piece {
            PieceRun::Copy => true,
            PieceRun::Write(run) => run.takes_data(),
            _ => false,
        });
        let at = if running { self.at } else { copies.nth(self.copies_ended)?.0 };
        match self.pieces.get_mut(at) {
            Some(PieceRun::Write(run)) if !self.failed && run.takes_data() => Some(run),
            _ => None,
        }
    }
}

impl Engine {
    /// The captured COPY that the client's data is for.
    fn copying(&mut self) -> Option<&mut Run> {
        let running = self.machine.takes_copy_data();
        let asked = self.asked?;
        match &mut self.specials.iter_mut().rev().find(|(id, _)| *id == asked)?.1 {
            Special::Query(query) => query.copying(running),
            Special::Execute(run, _) if run.takes_data() => Some(run),
            _ => None,
        }
    }

    /// COPY data that goes to the server.
    pub(super) fn copy_data(&mut self, data: &[u8]) {
        let mut pending = std::mem::take(&mut self.pending);
        let taken = self.copying().map(|run| run.take_copy(data, &mut pending));
        self.pending = pending;
        if let Some(Err(e)) = taken {
            self.poisoned = Some(self.own_error(&e));
        }
    }

    /// CopyDone or CopyFail: what was found in the data, and what has to follow it.
    pub(super) fn copy_end(&mut self, frame: &[u8]) -> Step {
        let done = frame.first() == Some(&front::COPY_DONE);
        let (mut refused, mut through) = (None, None);
        if let Some(run) = self.copying()
            && done
        {
            run.end_copy();
            refused = run.refusal().map(|refusal| refusal.message.clone());
            through = (run.form == Form::IntoTemp).then(|| run.write.clone());
        }
        let asked = self.asked;
        // What follows in the extended protocol; in a query it stands behind the COPY.
        let mut alone = false;
        for (id, special) in &mut self.specials {
            match special {
                Special::Query(query) if Some(*id) == asked => {
                    query.copies_ended = query.copies_ended.saturating_add(1);
                }
                Special::Execute(..) if Some(*id) == asked => alone = true,
                _ => {}
            }
        }
        if let Some(message) = refused {
            self.send_plain(|out| put_frame(out, front::COPY_FAIL, format!("{OURS}{message}\0").as_bytes()));
            return Step::Done;
        }
        self.note(frame);
        match through.filter(|_| alone) {
            Some(write) => {
                self.up.extend_from_slice(frame);
                self.insert_copied(&write);
                Step::Done
            }
            None => Step::Verbatim,
        }
    }

    // === by way of a temporary table, in the extended protocol ===

    /// Binds the client's portal to the COPY into the temporary table, which is made when it is executed.
    pub(super) fn bind_through(
        &mut self,
        bind: &Bind<'_>,
        portal: Name,
        prepared: &Rc<Prepared>,
        write: Arc<Write>,
        temp: &ThroughTemp,
    ) -> Step {
        let template = Rc::new(Template { rewritten: temp.copy.clone(), original: prepared.sql.clone() });
        let twin = self.twin(&temp.copy.sql, &prepared.types, template.clone()).bytes();
        let bind = Bind { statement: &twin, ..bind.clone() };
        self.send(Special::Bind(template, false), |out| bind.put(out));
        let bound = Bound::Write { write, form: Form::IntoTemp, params: Vec::new(), binary: true };
        self.portals.insert(portal, Rc::new(bound));
        Step::Done
    }

    /// Makes the temporary table that the COPY behind it needs.
    pub(super) fn before_execute(&mut self, write: &Write) {
        if let BlockForm::ThroughTemp(temp) = &write.block {
            self.own_execute(&temp.create, &[], &[], || Own::Needed);
        }
    }

    /// What follows the data: the rows on their way into the client's table, and the end of the temporary one.
    fn insert_copied(&mut self, write: &Arc<Write>) {
        let BlockForm::ThroughTemp(temp) = &write.block else { return };
        let template = Rc::<Template>::default();
        let twin = self.twin(&temp.insert, &[], template.clone()).bytes();
        let bind = Bind { portal: PORTAL, statement: &twin, formats: vec![], params: vec![], results: vec![BINARY] };
        self.send(Special::Step(Some(template)), |out| bind.put(out));
        let run = Run::new(write.clone(), Form::FromTemp, Vec::new());
        self.send(Special::Execute(Box::new(run), true), |out| put_execute(out, PORTAL, 0));
        self.send(Special::Step(None), |out| put_close(out, b'P', PORTAL));
        self.own_execute(temp.drop.as_bytes(), &[], &[], || Own::Needed);
    }
}

/// The statements of a COPY by way of a temporary table, as parts of a query.
pub(super) fn put_through(
    write: &Arc<Write>,
    temp: &ThroughTemp,
    sql: &mut Vec<u8>,
    inserted: &mut Vec<Inserted>,
    pieces: &mut Vec<PieceRun>,
) {
    let put = |sql: &mut Vec<u8>, parts: [&[u8]; 2]| {
        let at = sql.len();
        parts.iter().for_each(|part| sql.extend_from_slice(part));
        Inserted { at, len: sql.len() - at, instead: 0 }
    };
    let run = |form| PieceRun::Write(Box::new(Run::new(write.clone(), form, Vec::new())));
    inserted.push(put(sql, [&temp.create, b";"]));
    let shift = sql.len();
    inserted.extend(temp.copy.inserted.iter().map(|i| Inserted { at: i.at + shift, ..*i }));
    sql.extend_from_slice(&temp.copy.sql);
    inserted.push(put(sql, [b";", &temp.insert]));
    inserted.push(put(sql, [b";", temp.drop.as_bytes()]));
    pieces.extend([PieceRun::Own, run(Form::IntoTemp), run(Form::FromTemp), PieceRun::Own]);
}

/// Whether a field of an error has these words.
fn has(body: &[u8], field: u8, words: &str) -> bool {
    body.split(|&b| b == 0)
        .filter_map(|text| text.strip_prefix(&[field]))
        .any(|text| memmem::find(text, words.as_bytes()).is_some())
}

/// An error's words with the client's table in the place of ours; values, which follow the name, stay.
fn renamed<'a>(body: &'a [u8], name: &[u8]) -> Cow<'a, [u8]> {
    let ours = TEMP_TABLE.as_bytes();
    if memmem::find(body, ours).is_none() {
        return Cow::Borrowed(body);
    }
    let (mut out, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Some((field, behind)) = split_cstr(rest).filter(|(field, _)| !field.is_empty()) {
        match memmem::find(field, ours).filter(|_| matches!(field.first(), Some(b'M' | b'W' | b't'))) {
            Some(at) => {
                out.extend_from_slice(field.get(..at).unwrap_or_default());
                out.extend_from_slice(name);
                out.extend_from_slice(field.get(at.saturating_add(ours.len())..).unwrap_or_default());
            }
            None => out.extend_from_slice(field),
        }
        out.push(0);
        rest = behind;
    }
    out.push(0);
    Cow::Owned(out)
}

/// An ErrorResponse.
pub(super) fn put_error(out: &mut Vec<u8>, body: &[u8]) {
    put_frame(out, back::ERROR, body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_clients_table() {
        let body = b"SERROR\0Mbad \"pgcanon_copy\"\0WCOPY pgcanon_copy, line 1: \"pgcanon_copy\"\0\0";
        let own = renamed(body, b"t");
        assert_eq!(&own[..], b"SERROR\0Mbad \"t\"\0WCOPY t, line 1: \"pgcanon_copy\"\0\0");
        assert!(matches!(renamed(b"Mx\0\0", b"t"), Cow::Borrowed(_)));
        assert!(has(body, b'W', "COPY pg") && !has(body, b'M', "COPY"));
    }
}
