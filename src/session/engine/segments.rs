//! Queries that are run in parts: what stands behind transaction control can only be judged when that is done.

use std::rc::Rc;

use crate::session::machine::Status;
use crate::wire::extended::{Parse, put_sync};

use super::{Engine, Next, Special, Step};

use super::simple::Part;

/// The part of a query that runs.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) whole: Rc<[u8]>,
    pub(super) at: usize,
    /// The server has read the whole, and said what the scanner has to say of it.
    pub(super) scanned: bool,
}

impl Engine {
    /// Cuts a query at its transaction control.
    pub(super) fn begin_segments(&mut self, text: &[u8], parts: &[Part]) -> Step {
        let mut segments: Vec<(usize, usize, bool)> = Vec::new();
        for part in parts {
            // What comes behind these has to be judged when they are done.
            let apart = part.is_control() || part.shifts();
            match segments.last_mut() {
                Some((_, end, false)) if !apart => *end = part.end,
                _ => segments.push((part.start, part.end, apart)),
            }
        }
        self.segments =
            segments.into_iter().filter_map(|(start, end, _)| Some((start, text.get(start..end)?.to_vec()))).collect();
        let scanned = self.status() == Status::Idle;
        self.segment = Some(Segment { whole: text.into(), at: 0, scanned });
        self.client_unsynced = false;
        self.waiting = true;
        self.next = Next::Segment;
        if scanned {
            // The server reads a query whole before it runs any of it: an error of syntax in its last statement must not
            // find the first ones done.
            let parse = Parse { statement: b"pgcanon", sql: text, types: vec![] };
            self.send(Special::Syntax, |out| parse.put(out));
            self.send(Special::HiddenSync, put_sync);
            self.wrap_segments = !parts.iter().any(Part::is_control);
        } else {
            self.next_segment();
        }
        Step::Done
    }

    /// Runs the next part of the query.
    pub(super) fn next_segment(&mut self) {
        let Some((at, segment)) = self.segments.pop_front() else { return };
        if let Some(running) = &mut self.segment {
            running.at = at;
        }
        if std::mem::take(&mut self.wrap_segments) {
            // Without transaction control in it the server makes one transaction of a query.
            self.wrap_simple();
            self.segments.push_front((at, segment));
            self.next = Next::Segment;
            return;
        }
        match self.query(&segment, false) {
            Step::Wait => {
                self.segments.push_front((at, segment));
                self.next = Next::Segment;
                self.push_flush();
            }
            // `query` sends what is not the client's own message by itself.
            Step::Verbatim | Step::Done => {
                if !self.segments.is_empty() {
                    self.next = Next::Segment;
                }
            }
        }
    }
}

/// Whether something that can write stands behind what changes the meaning of names.
pub(super) fn shifts(parts: &[Part]) -> bool {
    let mut shifted = false;
    parts.iter().any(|part| {
        let behind = shifted && part.judged.active;
        shifted |= part.shifts();
        behind
    })
}
