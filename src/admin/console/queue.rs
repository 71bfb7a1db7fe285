//! What an operator does about the error queue (§6.1): deal with it, leave something out, put something else in its place.

use bytes::Bytes;
use pgwire::error::ErrorInfo;
use tokio_postgres::Client;
use tracing::info;

use crate::admin::console::access::Guest;
use crate::admin::console::node::client;
use crate::admin::console::{Console, refusal};
use crate::catalog::server_words;
use crate::forward::Wish;
use crate::journal::entry::{Extra, Head, Lane, Op, Text};
use crate::journal::{Entries, Entry, encode_entry};
use crate::sql::{LexOptions, Lexer, Split, TokenKind};

/// A peer's queue as a script: psql runs it on the peer, one source transaction at a time.
pub(super) const EXPORT: &str = "\
SELECT CASE WHEN (tick, ord) IS DISTINCT FROM (lag(tick) OVER w, lag(ord) OVER w) \
            THEN 'BEGIN; -- tick ' || tick || ', transaction ' || ord || E'\\n' ELSE '' END \
    || coalesce(dst_query, '-- nothing') \
    || CASE WHEN (tick, ord) IS DISTINCT FROM (lead(tick) OVER w, lead(ord) OVER w) THEN E'\\nCOMMIT;' ELSE '' END AS sql \
FROM pgcanon.error_queue WHERE dst_server = $1 WINDOW w AS (ORDER BY tick, ord, seq) ORDER BY tick, ord, seq";

/// What may run on a peer in the place of a change: a statement that cannot end the transaction around it, nor leave a mark on the
/// session.
const STATEMENTS: [&str; 12] = [
    "insert", "update", "delete", "merge", "with", "select", "truncate", "create", "alter", "drop", "comment", "grant",
];

type Failure = Box<ErrorInfo>;

/// What waits for one peer.
pub(super) struct Waiting {
    pub(super) peer: String,
    pub(super) rows: i64,
    pub(super) bytes: i64,
    pub(super) oldest: Option<std::time::SystemTime>,
}

/// A row of the queue, and how the source transaction that it is of stands there.
struct Row {
    peer: String,
    entry: Entry,
    /// It and what can only be dealt with together with it: the parts of one COPY.
    ids: Vec<i64>,
}

/// What waits, by peer.
pub(super) async fn waiting(console: &Console) -> Result<Vec<Waiting>, Failure> {
    let sql = "SELECT dst_server, count(*), \
        coalesce(sum(octet_length(entry) + coalesce(octet_length(dst_query), 0)), 0)::int8, min(create_time) \
        FROM pgcanon.error_queue GROUP BY 1 ORDER BY 1";
    let rows = client(console).await?.query(sql, &[]).await.map_err(|e| asked(&e))?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Waiting { peer: row.try_get(0)?, rows: row.try_get(1)?, bytes: row.try_get(2)?, oldest: row.try_get(3)? })
    };
    rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(|e| asked(&e))
}

/// Applies that many rows, or tries to, peer by peer in the order of their names; how many there were.
pub(super) async fn deal(console: &Console, most: i64, wish: fn(i64) -> Wish, guest: &Guest) -> Result<i64, Failure> {
    let mut waiting = waiting(console).await?;
    waiting.sort_by(|a, b| a.peer.cmp(&b.peer));
    let mut left = most;
    for Waiting { peer, .. } in waiting {
        if left <= 0 {
            break;
        }
        let handles = console.peers.handles();
        let Some(handle) = handles.iter().find(|handle| handle.peer.as_str() == peer) else {
            return Err(stopped(&peer, "nothing is forwarded to it: it is not in the configuration", most, left));
        };
        let wish = wish(left);
        let dealt = handle.remote.tell(wish).await.map_err(|why| stopped(&peer, &why, most, left))?;
        info!(user = guest.name, peer, ?wish, rows = dealt, "dealt with the error queue");
        left = left.saturating_sub(i64::try_from(dealt).unwrap_or(i64::MAX));
    }
    Ok(most.saturating_sub(left))
}

fn stopped(peer: &str, why: &str, most: i64, left: i64) -> Failure {
    let mut failure = refusal("F0000", &format!("peer {peer}: {why}"), None);
    if left < most {
        failure.detail = Some(format!("Of other peers {} went well.", most.saturating_sub(left)));
    }
    failure
}

/// Takes a row out of the queue, with a record of what it was; whether it was there.
pub(super) async fn skip(console: &Console, id: i64, guest: &Guest) -> Result<bool, Failure> {
    let mut client = client(console).await?;
    let transaction = client.transaction().await.map_err(|e| asked(&e))?;
    let Some(row) = locked(transaction.client(), id).await? else { return Ok(false) };
    let sql = "WITH gone AS (DELETE FROM pgcanon.error_queue WHERE id = ANY ($1) RETURNING *) \
        INSERT INTO pgcanon.conflict (origin, tick, ord, nsp_name, table_name, kind, decision, incoming) \
        SELECT $2, tick, ord, coalesce(nsp_name, ''), coalesce(table_name, ''), \
            CASE WHEN sqlstate IS NULL THEN 'waiting' ELSE 'rejected' END, 'skipped', \
            jsonb_build_object('peer', dst_server, 'query', dst_query, 'sqlstate', sqlstate, 'message', message, 'by', $3::text) \
        FROM gone ORDER BY seq";
    let node = console.config.borrow().node.name.to_string();
    let gone = transaction.execute(sql, &[&row.ids, &node, &guest.name]).await.map_err(|e| asked(&e))?;
    transaction.commit().await.map_err(|e| asked(&e))?;
    info!(user = guest.name, peer = row.peer, id, "skipped what was in the error queue");
    Ok(gone > 0)
}

/// Has another SQL text run on the peer in a row's place; whether it was there.
pub(super) async fn edit(console: &Console, id: i64, sql: &str, guest: &Guest) -> Result<bool, Failure> {
    let sql = statement(sql)?;
    let mut client = client(console).await?;
    let transaction = client.transaction().await.map_err(|e| asked(&e))?;
    let Some(row) = locked(transaction.client(), id).await? else { return Ok(false) };
    let entry = replaced(&row.entry, sql)?;
    let Some((first, others)) = row.ids.split_first() else { return Ok(false) };
    transaction
        .execute("DELETE FROM pgcanon.error_queue WHERE id = ANY ($1)", &[&others])
        .await
        .map_err(|e| asked(&e))?;
    let query = if ends_in_comment(sql) { format!("{sql}\n;") } else { format!("{sql};") };
    let update =
        "UPDATE pgcanon.error_queue SET entry = $2, dst_query = $3, sqlstate = NULL, message = NULL WHERE id = $1";
    let changed = transaction.execute(update, &[first, &entry, &query]).await.map_err(|e| asked(&e))?;
    transaction.commit().await.map_err(|e| asked(&e))?;
    info!(user = guest.name, peer = row.peer, id, "edited what is in the error queue");
    Ok(changed > 0)
}

/// The row with this number, and those that belong to it, kept from whoever else would deal with them.
async fn locked(client: &Client, id: i64) -> Result<Option<Row>, Failure> {
    // A peer that has stopped answering may keep a row for long.
    client.batch_execute("SET LOCAL lock_timeout = '10s'").await.map_err(|e| asked(&e))?;
    let sql = "SELECT q.id, q.dst_server, q.entry FROM pgcanon.error_queue AS q \
        JOIN pgcanon.error_queue AS this ON (q.dst_server, q.tick, q.ord) = (this.dst_server, this.tick, this.ord) \
        WHERE this.id = $1 AND (q.id = this.id OR $2) ORDER BY q.seq FOR UPDATE OF q";
    let rows = client.query(sql, &[&id, &false]).await.map_err(|e| asked(&e))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (peer, entry) = (row.try_get(1).map_err(|e| asked(&e))?, decoded(row)?);
    if entry.head.lane != Lane::Copy {
        return Ok(Some(Row { peer, entry, ids: vec![id] }));
    }
    let mut parts = Vec::new();
    for row in client.query(sql, &[&id, &true]).await.map_err(|e| asked(&e))? {
        let part = decoded(&row)?.head;
        let number: i64 = row.try_get(0).map_err(|e| asked(&e))?;
        parts.push((number, part.lane == Lane::Copy, part.rows.is_some()));
    }
    Ok(Some(Row { peer, entry, ids: copy_around(&parts, id) }))
}

/// The parts of the COPY that this row is one of: the last one tells how many rows it brought.
fn copy_around(parts: &[(i64, bool, bool)], id: i64) -> Vec<i64> {
    let mut run = Vec::new();
    for (number, copy, last) in parts {
        if *copy {
            run.push(*number);
        }
        if !copy || *last {
            if run.contains(&id) {
                return run;
            }
            run.clear();
        }
    }
    run
}

fn decoded(row: &tokio_postgres::Row) -> Result<Entry, Failure> {
    let bytes: Vec<u8> = row.try_get(2).map_err(|e| asked(&e))?;
    let entry = Entries::new(None, Bytes::from(bytes)).next();
    let broken = |why: String| refusal("XX001", &format!("what is in the queue cannot be read: {why}"), None);
    entry.ok_or_else(|| broken("it is empty".to_owned()))?.map_err(|e| broken(e.to_string()))
}

/// The text as it is to run: one statement, and none that would break the transaction which it is applied in.
fn statement(sql: &str) -> Result<&str, Failure> {
    let pieces: Vec<_> = Split::new(sql.as_bytes(), LexOptions::default()).statements().collect();
    let hint = || Some("Write one statement that changes data or tables, with full names: schema.table.".to_owned());
    let [piece] = pieces.as_slice() else {
        return Err(refusal("42601", &format!("{} statements in the place of one", pieces.len()), hint()));
    };
    let word = first_word(piece.text(sql.as_bytes()));
    if !STATEMENTS.contains(&word.as_str()) {
        return Err(refusal("42601", &format!("\"{}\" cannot be run in a row's place", word.escape_debug()), hint()));
    }
    Ok(sql.get(piece.start..piece.end).unwrap_or(sql).trim())
}

fn first_word(text: &[u8]) -> String {
    let head = Lexer::new(text, LexOptions::default()).next_significant();
    head.map(|token| String::from_utf8_lossy(token.text(text)).to_ascii_lowercase()).unwrap_or_default()
}

fn ends_in_comment(sql: &str) -> bool {
    Lexer::new(sql.as_bytes(), LexOptions::default()).last().is_some_and(|token| token.kind == TokenKind::Comment)
}

/// An entry for the same table that is this text, and may change as many rows as it likes.
fn replaced(entry: &Entry, sql: &str) -> Result<Vec<u8>, Failure> {
    let ddl = ["create", "alter", "drop", "comment"].contains(&first_word(sql.as_bytes()).as_str());
    // As the role that the other was to run as, and with its search_path.
    let settings = entry.head.text.as_ref().filter(|_| ddl && entry.head.op == Op::Ddl);
    let settings = settings.map(|text| text.settings.clone()).unwrap_or_default();
    let text = Text { sql: sql.into(), params: Vec::new(), names: Vec::new(), settings };
    let head = Head {
        lane: Lane::Locked,
        op: if ddl { Op::Ddl } else { Op::Update },
        encoding: "UTF8".to_owned(),
        columns: Vec::new(),
        extra: Extra::None,
        text: Some(text),
        rows: None,
        ..entry.head.clone()
    };
    let mut encoded = Vec::new();
    encode_entry(&mut encoded, &head, &[]).map_err(|e| refusal("54000", &e.to_string(), None))?;
    Ok(encoded)
}

pub(super) fn asked(error: &tokio_postgres::Error) -> Failure {
    let code = error.code().map_or("58000", |code| code.code());
    let hint = match code {
        "42P01" | "3F000" => Some("Run `pgcanon init`: it makes the journal and the error queue.".to_owned()),
        _ => None,
    };
    refusal(code, &server_words(error), hint)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;

    #[test]
    fn a_copy_in_parts_is_one_thing() {
        // Two COPYs, one of three parts, and a row between them.
        let parts =
            [(1, true, false), (2, true, false), (3, true, true), (4, false, true), (5, true, true), (6, false, true)];
        assert_eq!(copy_around(&parts, 2), [1, 2, 3]);
        assert_eq!(copy_around(&parts, 5), [5]);
    }

    #[test]
    fn one_statement_that_ends_no_transaction_may_take_the_place_of_a_row() {
        assert_eq!(statement(" update s.t set a = ';' ; ").unwrap(), "update s.t set a = ';'");
        for bad in [
            "",
            "commit",
            "update s.t set a = 1; commit",
            "set search_path = x",
            "/* select */ begin",
            "copy t from stdin",
        ] {
            let error = statement(bad).unwrap_err();
            assert!(error.code == "42601" && error.hint.is_some(), "{bad}");
        }
    }
}
