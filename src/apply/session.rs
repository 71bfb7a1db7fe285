//! The apply session: settings under which everything means the same on every peer, and the lock that keeps two forwarders
//! of one origin apart.

use std::collections::BTreeMap;

use super::error::{ApplyError, Rejection};
use super::line::{Line, Param};
use super::shape::TEXT_ARRAY;
use crate::config::NodeName;
use crate::journal::{Progress, TickId};
use crate::wire::array::array;

/// What the session is set to, whatever its role or database has set; those that a server does not know are left out.
///
/// Without statistics a scan of a whole table may look cheap, and a plan that is kept must not be one; a commit need not be
/// durable before the next one, as progress and data are lost together (§6); row-level security must not hide rows. Who has
/// gone without a word, or hangs, must not keep others from the rows that it has changed (I4).
const SETTINGS: &[(&str, &str)] = &[
    ("search_path", ""),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("xmloption", "content"),
    ("bytea_output", "hex"),
    ("row_security", "off"),
    ("synchronous_commit", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("statement_timeout", "0"),
    ("transaction_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("client_min_messages", "error"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// What a text may bring settings for, and what they are otherwise.
pub(super) fn base(name: &str) -> Option<(&'static str, &'static str)> {
    const BROUGHT: [&str; 3] = ["DateStyle", "IntervalStyle", "TimeZone"];
    let known = SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    BROUGHT.contains(&known.0).then_some(*known)
}

/// What is known of a session that was made ready.
pub(super) struct Ready {
    pub(super) progress: Option<Progress>,
    /// The role may switch triggers off.
    pub(super) skips_triggers: bool,
    pub(super) user: String,
}

/// Ends the session that holds the lock, where it waits for a forwarder that has said nothing for long: one that lives asks
/// something all the time.
const SILENT: &str = "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM pg_catalog.pg_locks AS l \
    JOIN pg_catalog.pg_stat_activity AS a ON a.pid OPERATOR(pg_catalog.=) l.pid AND a.datid OPERATOR(pg_catalog.=) l.database \
    WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted \
    AND l.objsubid OPERATOR(pg_catalog.=) 1 \
    AND l.classid::pg_catalog.int8 OPERATOR(pg_catalog.=) ($1 OPERATOR(pg_catalog.>>) 32 OPERATOR(pg_catalog.&) 4294967295) \
    AND l.objid::pg_catalog.int8 OPERATOR(pg_catalog.=) ($1 OPERATOR(pg_catalog.&) 4294967295) \
    AND a.wait_event OPERATOR(pg_catalog.=) 'ClientRead' \
    AND a.usename OPERATOR(pg_catalog.=) session_user \
    AND a.state_change OPERATOR(pg_catalog.<) \
        (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '15 s'::pg_catalog.interval)";

/// Names a lock of a node among a database's own.
pub fn lock(purpose: &str, node: &NodeName) -> i64 {
    let mut hash = [0; 8];
    let mut hasher = blake3::Hasher::new_derive_key(purpose);
    hasher.update(node.as_str().as_bytes()).finalize_xof().fill(&mut hash);
    i64::from_be_bytes(hash)
}

/// Makes a new session ready to apply what comes from `origin`, `alone` or beside the one that is.
pub(super) async fn ready(line: &mut Line, origin: &NodeName, alone: bool) -> Result<Ready, ApplyError> {
    let (names, values): (Vec<&str>, Vec<&str>) = SETTINGS.iter().copied().unzip();
    let (names, values) = (text_array(&names), text_array(&values));
    // In the order of the list: what is looked up behind search_path is qualified.
    let sql = "SELECT pg_catalog.set_config(v.name, v.value, false) \
        FROM unnest($1, $2) AS v(name, value) \
        WHERE pg_catalog.current_setting(v.name, true) IS NOT NULL";
    line.query(sql, &[TEXT_ARRAY, TEXT_ARRAY], &[Param::binary(&names), Param::binary(&values)]).await?;
    // A cycle of locks has to be left by us (§6): well before a client looks for one.
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), NOT $2 OR pg_catalog.pg_try_advisory_lock($1), \
        pg_catalog.has_parameter_privilege('session_replication_role', 'SET'), session_user::pg_catalog.text, \
        pg_catalog.set_config('lock_timeout', greatest(least(setting::pg_catalog.int8 / 4, 250), 1)::pg_catalog.text, false) \
        FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'";
    let lock = lock("pgcanon 2026-01 apply lock", origin).to_string();
    let rows = line.query(sql, &[20, 16], &[Param::text(&lock), Param::text(if alone { "t" } else { "f" })]).await?;
    let Some([recovering, locked, skips, user, _]) = rows.first().map(Vec::as_slice) else {
        return Err(odd("the session's state"));
    };
    if is_true(recovering) {
        return Err(ApplyError::InRecovery);
    }
    if !is_true(locked) {
        let rows = line.query(SILENT, &[20], &[Param::text(&lock)]).await?;
        if !rows.is_empty() {
            tracing::warn!(%origin, "ended a session at the peer whose forwarder has gone without a word");
        }
        return Err(ApplyError::Taken(origin.clone()));
    }
    let (skips_triggers, user) = (is_true(skips), user.clone().unwrap_or_default());
    // Behind the lock: whoever had it before has committed or lost everything.
    let sql = "SELECT system, timeline, tick, ord, part FROM pgcanon.progress WHERE origin OPERATOR(pg_catalog.=) $1";
    let rows = line.query(sql, &[25], &[Param::text(origin.as_str())]).await.map_err(explain)?;
    let progress = rows.first().map(|row| progress(row)).transpose()?;
    Ok(Ready { progress, skips_triggers, user })
}

/// Where the peer's log stands: how much of it there is, and how much is durable.
pub(super) async fn log_position(line: &mut Line) -> Result<(u64, u64), ApplyError> {
    let sql = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0'), \
        pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), '0/0')";
    let rows = line.query(sql, &[], &[]).await?;
    let Some([insert, flush]) = rows.first().map(Vec::as_slice) else { return Err(odd("its log's position")) };
    Ok((number(insert)?, number(flush)?))
}

/// How far every origin's changes are applied.
pub(super) async fn origins(line: &mut Line) -> Result<BTreeMap<String, Progress>, ApplyError> {
    let sql = "SELECT system, timeline, tick, ord, part, origin FROM pgcanon.progress";
    let rows = line.query(sql, &[], &[]).await?;
    rows.iter()
        .map(|row| {
            let origin = row.get(5).cloned().flatten().ok_or_else(|| odd("pgcanon.progress"))?;
            Ok((origin, progress(row.get(..5).unwrap_or_default())?))
        })
        .collect()
}

fn progress(row: &[Option<String>]) -> Result<Progress, ApplyError> {
    let [system, timeline, tick, ord, part] = row else { return Err(odd("pgcanon.progress")) };
    Ok(Progress {
        system: number(system)?,
        timeline: number(timeline)?,
        tick: TickId(number(tick)?),
        ord: number(ord)?,
        part: number(part)?,
    })
}

pub(super) fn number<T: std::str::FromStr>(value: &Option<String>) -> Result<T, ApplyError> {
    value.as_deref().and_then(|v| v.parse().ok()).ok_or_else(|| odd("a number"))
}

pub(super) fn is_true(value: &Option<String>) -> bool {
    value.as_deref() == Some("t")
}

pub(super) fn odd(what: &str) -> ApplyError {
    Rejection::own("XX000", format!("the peer gives no answer that can be read about {what}"), None).into()
}

/// Says what to do where pgcanon's own tables are not there for us.
fn explain(error: ApplyError) -> ApplyError {
    let ApplyError::Rejected(mut rejection) = error else { return error };
    match rejection.sqlstate.as_str() {
        "42P01" | "3F000" => rejection.hint = Some("run `pgcanon init` on that node first".to_owned()),
        "42501" => rejection.hint = Some("the role needs to be a member of pgcanon_apply there".to_owned()),
        _ => {}
    }
    ApplyError::Rejected(rejection)
}

/// The binary form of a `text[]`.
pub(super) fn text_array(values: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    array(&mut out, 25, values.iter().map(|v| Some(v.as_bytes())));
    out
}
