//! The answer to a COMMIT whose server was lost (§4.7): the truth, in the messages that the client still waits for.

use crate::capture::write::AloneResult;
use crate::session::machine::Request;
use crate::sql::Effect;
use crate::wire::message::{back, put_frame};

use super::own::Own;
use super::rows::put_tag;
use super::run::Form;
use super::{Engine, Special};

impl Engine {
    /// The meta of a journal row that is there if and only if the transaction on its way has committed.
    pub(crate) fn committing(&self) -> Option<&[u8]> {
        self.last_meta.as_deref().filter(|_| self.committing)
    }

    /// What the server would have answered, had it lived; none where that cannot be known.
    ///
    /// `rows` is how many images the journal row holds.
    pub(crate) fn committed_answers(&self, rows: u64) -> Option<Vec<u8>> {
        let mut out = self.withheld.clone();
        for (id, request) in self.machine.outstanding() {
            let special = self.specials.iter().find(|(special, _)| *special == id).map(|(_, special)| special);
            match (special, request) {
                (Some(Special::Own(Own::Commit)), _) => {
                    put_frame(&mut out, back::READY, b"I");
                }
                (Some(Special::Own(_) | Special::Step(_) | Special::Twin(..) | Special::HiddenSync), _) => {}
                (Some(Special::Describe { rows: false, simple: false, .. }), _) => {
                    put_frame(&mut out, back::NO_DATA, &[])
                }
                (Some(Special::Execute(run, _)), _) => match run.form {
                    Form::Alone(AloneResult::Tag { rows }) => put_tag(&mut out, run.write.tag, rows),
                    Form::Alone(AloneResult::Count) => {
                        let rows = if rows == 0 { run.write.expect? } else { rows };
                        put_tag(&mut out, run.write.tag, rows);
                    }
                    _ => return None,
                },
                (None | Some(Special::Parse(..)), Request::Parse { .. }) => {
                    put_frame(&mut out, back::PARSE_COMPLETE, &[])
                }
                (None | Some(Special::Bind(..)), Request::Bind { .. }) => put_frame(&mut out, back::BIND_COMPLETE, &[]),
                (None, Request::CloseStatement(_) | Request::ClosePortal(_)) => {
                    put_frame(&mut out, back::CLOSE_COMPLETE, &[]);
                }
                (None, Request::Execute { portal }) => match self.machine.portal_effect(portal) {
                    Effect::Commit { chain: false } => put_frame(&mut out, back::COMMAND_COMPLETE, b"COMMIT\0"),
                    _ => return None,
                },
                (None, Request::Query(effects)) if effects.count() == 1 => match effects.get(0) {
                    Effect::Commit { chain: false } => {
                        put_frame(&mut out, back::COMMAND_COMPLETE, b"COMMIT\0");
                        put_frame(&mut out, back::READY, b"I");
                    }
                    _ => return None,
                },
                (None, Request::Sync) => put_frame(&mut out, back::READY, b"I"),
                (None, Request::CopyEnd | Request::Void) => {}
                _ => return None,
            }
        }
        Some(out)
    }
}
