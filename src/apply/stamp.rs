//! Whose each commit is, and as of when, as the peer notes it (§8): its own time and its writer, whichever node brings it.

use super::applier::{Applier, TIMESTAMPTZ};
use super::error::{ApplyError, Rejection};
use super::line::{Expect, Line, Param};
use super::route::Timed;
use super::session::{is_true, odd};
use super::shape::TEXT;
use crate::config::NodeName;
use crate::journal::CommitTime;

const MAKE: (u32, &str) =
    (9, "SELECT pg_catalog.pg_replication_origin_create($1) WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL");
const LEAVE: (u32, &str) = (
    10,
    "SELECT pg_catalog.pg_replication_origin_session_reset() WHERE pg_catalog.pg_replication_origin_session_is_setup()",
);
const TAKE: (u32, &str) = (11, "SELECT pg_catalog.pg_replication_origin_session_setup($1)");
const AS_OF: (u32, &str) = (8, "SELECT pg_catalog.pg_replication_origin_xact_setup('0/1', $1)");

/// The replication origins that a session goes by.
pub(super) struct Stamps {
    /// How those of this database begin.
    prefix: String,
    bringer: NodeName,
    /// The one that the session has; none where that is not known.
    has: Option<String>,
}

/// Has the peer note of every commit of this session whose it is, and as of when; none where it does not.
pub(super) async fn keep_times(
    line: &mut Line,
    bringer: &NodeName,
    timed: Timed,
) -> Result<Option<Stamps>, ApplyError> {
    let rows =
        line.query("SELECT pg_catalog.current_setting('track_commit_timestamp') OPERATOR(pg_catalog.=) 'on'", &[], &[]);
    if !rows.await?.first().and_then(|row| row.first()).is_some_and(is_true) {
        if timed == Timed::InTies {
            return Ok(None);
        }
        let message =
            "rules go by the time of the commit, which the peer does not keep: track_commit_timestamp is off there";
        let mut rejection = Rejection::own("55000", message.to_owned(), None);
        rejection.hint = Some("ALTER SYSTEM SET track_commit_timestamp = on, and restart that server".to_owned());
        return Err(ApplyError::Rejected(Box::new(rejection)));
    }
    // All databases of a server share them.
    let sql =
        "SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()";
    let rows = line.query(sql, &[], &[]).await?;
    let Some([Some(database)]) = rows.first().map(Vec::as_slice) else { return Err(odd("its database")) };
    let mut stamps = Stamps { prefix: format!("pgcanon:{database}:"), bringer: bringer.clone(), has: None };
    let name = stamps.name(bringer.as_str());
    for (sql, params) in [(MAKE.1, 1), (LEAVE.1, 0), (TAKE.1, 1)] {
        let (types, params) = ([TEXT], [Param::text(&name)].get(..params).unwrap_or_default().to_vec());
        line.query(sql, types.get(..params.len()).unwrap_or_default(), &params).await.map_err(explain)?;
    }
    stamps.has = Some(name);
    Ok(Some(stamps))
}

/// Says what to do where the role may not do that.
fn explain(error: ApplyError) -> ApplyError {
    let ApplyError::Rejected(mut rejection) = error else { return error };
    if rejection.sqlstate == "42501" {
        rejection.hint =
            Some("run `pgcanon init` as a superuser of that node, which lets pgcanon_apply use them".to_owned());
    }
    ApplyError::Rejected(rejection)
}

// === impl Stamps ===

impl Stamps {
    /// No two sessions can have the same one, so what is brought for others has one for each who brings it.
    fn name(&self, writer: &str) -> String {
        let Self { prefix, bringer, .. } = self;
        if writer == bringer.as_str() { format!("{prefix}{writer}") } else { format!("{prefix}{writer}/{bringer}") }
    }

    /// What was done to it may have been rolled back.
    pub(super) fn forget(&mut self) {
        self.has = None;
    }
}

// === impl Applier ===

impl Applier {
    /// The open transaction is this one's, as of then.
    pub(super) fn stamp(&mut self, time: Option<CommitTime>, writer: &str) {
        let (Some(time), Some(stamps)) = (time, &mut self.stamps) else { return };
        let name = stamps.name(writer);
        let has = stamps.has.replace(name.clone());
        if has.as_ref() != Some(&name) {
            let params = [Param::text(&name)];
            self.own(MAKE, &[TEXT], &params, Expect::Done);
            self.own(LEAVE, &[], &[], Expect::Done);
            self.own(TAKE, &[TEXT], &params, Expect::Done);
        }
        self.own(AS_OF, &[TIMESTAMPTZ], &[Param::binary(&time.0.to_be_bytes())], Expect::Done);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    #[test]
    fn who_writes_and_who_brings_are_told_apart() {
        let bringer = NodeName::new("a").unwrap();
        let stamps = Stamps { prefix: "pgcanon:7:".to_owned(), bringer, has: None };
        assert_eq!(stamps.name("a"), "pgcanon:7:a");
        assert_eq!(stamps.name("b"), "pgcanon:7:b/a");
    }
}
