//! Answers to captured statements: what is the client's is shown, what is ours is taken.

use crate::wire::message::{back, put_frame, split_cstr};

use super::replies::Shown;
use super::rows::{cut_description, cut_row};
use super::run::{Form, Run, RunError};
use super::{Engine, Special};

impl Engine {
    /// Where the client has not asked for it, the server describes the rows when it has them.
    pub(super) fn hold_rows(&mut self, tag: u8, body: &[u8], rows: bool, cut: bool) -> Shown {
        let mark = self.down.len();
        if self.describe(tag, body, rows, cut) == Shown::Verbatim {
            put_frame(&mut self.down, tag, body);
        }
        let held = self.down.split_off(mark);
        if tag == back::ERROR {
            self.down.extend_from_slice(&held);
        } else {
            self.held_rows = held;
        }
        Shown::Instead
    }

    pub(super) fn describe(&mut self, tag: u8, body: &[u8], rows: bool, cut: bool) -> Shown {
        if tag != back::ROW_DESCRIPTION {
            return Shown::Verbatim;
        }
        if !rows {
            put_frame(&mut self.down, back::NO_DATA, &[]);
            return Shown::Instead;
        }
        if !cut {
            return Shown::Verbatim;
        }
        self.down.extend_from_slice(&cut_description(body).unwrap_or_default());
        Shown::Instead
    }

    /// A reply to a captured statement; the run is over when the flag says so.
    pub(super) fn run_reply(&mut self, run: &mut Run, binary: bool, tag: u8, body: &[u8]) -> Shown {
        let done = match tag {
            back::DATA_ROW => {
                if !run.shows_rows() && matches!(run.form, Form::Alone(_)) {
                    let value = cut_row(body).and_then(|(_, value)| value);
                    run.take_count(value, binary).map(|()| Shown::Instead)
                } else if run.cuts_rows() {
                    self.take_row(run, binary, body).map(|()| Shown::Instead)
                } else {
                    Ok(Shown::Verbatim)
                }
            }
            back::ROW_DESCRIPTION if !run.shows_rows() => Ok(Shown::Instead),
            back::ROW_DESCRIPTION if run.cuts_rows() => {
                self.down.extend_from_slice(&cut_description(body).unwrap_or_default());
                Ok(Shown::Instead)
            }
            back::COMMAND_COMPLETE => {
                let tag = split_cstr(body).map_or(body, |(tag, _)| tag);
                run.complete(tag, &mut self.pending).map(|instead| match instead {
                    Some(frame) => {
                        self.down.extend_from_slice(&frame);
                        Shown::Instead
                    }
                    None => Shown::Verbatim,
                })
            }
            back::ERROR => {
                super::copy::put_error(&mut self.down, &run.own_error(body));
                Ok(Shown::Instead)
            }
            _ => Ok(Shown::Verbatim),
        };
        done.unwrap_or_else(|e| {
            self.poisoned = Some(self.own_error(&e));
            Shown::Verbatim
        })
    }

    /// A row with a column of ours: the client's part is shown, ours is kept.
    fn take_row(&mut self, run: &mut Run, binary: bool, body: &[u8]) -> Result<(), RunError> {
        let (row, value) = cut_row(body).ok_or(RunError::Row)?;
        if run.shows_rows() {
            row.put(&mut self.down);
        }
        if let Some(table) = run.take(value, binary, &mut self.pending)? {
            self.met_table(table);
        }
        Ok(())
    }

    pub(super) fn execute(
        &mut self,
        id: crate::session::machine::RequestId,
        mut run: Box<Run>,
        binary: bool,
        tag: u8,
        body: &[u8],
    ) -> Shown {
        match tag {
            back::DATA_ROW | back::COMMAND_COMPLETE => self.down.append(&mut self.held_rows),
            _ => self.held_rows.clear(),
        }
        let mark = self.down.len();
        let mut shown = self.run_reply(&mut run, binary, tag, body);
        if run.withholds && tag == back::COMMAND_COMPLETE {
            // The server would have committed before it says so.
            if shown == Shown::Verbatim {
                put_frame(&mut self.down, tag, body);
            }
            self.withheld = self.down.split_off(mark);
            shown = Shown::Instead;
        }
        let over = matches!(tag, back::COMMAND_COMPLETE | back::ERROR | back::PORTAL_SUSPENDED | back::EMPTY_QUERY);
        if !over {
            self.put_back_special(id, Special::Execute(run, binary));
        }
        shown
    }
}
