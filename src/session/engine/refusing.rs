//! Refusing in the server's place: the session is left where an error of the server would leave it.

use crate::capture::write::{Refusal, Rewritten};
use crate::wire::error::{Report, Severity, sqlstate};
use crate::wire::extended::{Parse, put_query, put_sync};

use super::{Engine, Special, Step};

impl Engine {
    /// Lets the server fail in the query's place, so that the session is where an error leaves it.
    pub(super) fn refuse_query(&mut self, text: &[u8], refusal: &Refusal) -> Step {
        let error = report(refusal, Severity::Error).frame();
        self.client_unsynced = false;
        self.segments.clear();
        self.rollback_due |= self.wrapped;
        // What the server has to say about the text goes first.
        let parse = Parse { statement: b"", sql: text, types: vec![] };
        let rewritten = Rewritten { sql: text.to_vec(), inserted: vec![] };
        let template = self.template(rewritten, text);
        self.send(Special::Checked(error.clone(), template), |out| parse.put(out));
        let failing = Self::failing(&refusal.message);
        let parse = Parse { statement: b"", sql: &failing, types: vec![] };
        self.send(Special::Refused(error), |out| parse.put(out));
        self.send_plain(put_sync);
        Step::Done
    }

    pub(super) fn refuse_too_long(&mut self, tag: u8) {
        let refusal = Refusal {
            message: "a message of more than 256 MiB that writes a replicated table cannot be replicated".into(),
            detail: None,
            hint: Some("Split the statement, or load large data with COPY … FROM STDIN.".into()),
        };
        if tag == crate::wire::message::front::QUERY {
            let error = report(&refusal, Severity::Error).frame();
            self.client_unsynced = false;
            self.send(Special::Refused(error), |out| put_query(out, &Self::failing(&refusal.message)));
        } else {
            self.fail_extended(&refusal.message, report(&refusal, Severity::Error).frame());
        }
    }

    /// In place of a COMMIT that would commit what was not captured.
    pub(super) fn refuse_commit(&mut self) -> Step {
        let error = self.poisoned.take().unwrap_or_default();
        self.rollback_due = true;
        self.send(Special::Refused(error), |out| put_query(out, &Self::failing("this cannot be committed")));
        Step::Done
    }
}

pub(super) fn no_fresh_snapshot() -> Refusal {
    Refusal {
        message:
            "this statement can only be replicated by its text, and not in a REPEATABLE READ or SERIALIZABLE block"
                .into(),
        detail: Some("Its snapshot may be older than the lock that makes the text safe.".into()),
        hint: Some("Run it at READ COMMITTED, or in a transaction of its own.".into()),
    }
}

pub(super) fn report(refusal: &Refusal, severity: Severity) -> Report {
    Report {
        severity,
        sqlstate: sqlstate::FEATURE_NOT_SUPPORTED.into(),
        message: refusal.message.clone(),
        detail: refusal.detail.clone(),
        hint: refusal.hint.clone(),
    }
}
