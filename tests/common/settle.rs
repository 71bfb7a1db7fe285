//! When nothing waits any more: every journal row is in a tick, and the others say that they have applied the last of them.

use super::session::Session;

/// The last tick with something in it and the number of its last transaction; an error while a journal row is in no tick.
pub(crate) fn last_place(here: &mut Session) -> Result<(i64, i64), &'static str> {
    let newest = here.ok("select max(xid) from pgcanon.journal").rows();
    let Some(newest) = newest.first().and_then(|row| row[0].clone()) else { return Ok((0, 0)) };
    // The first tick that sees everything: what its snapshot calls finished need not be looked at.
    let row = here
        .ok(&format!(
            "with t as (select id, snapshot from pgcanon.tick t where pg_snapshot_xmax(snapshot) > '{newest}' \
             and not exists (select from pgcanon.journal j where j.xid >= pg_snapshot_xmin(t.snapshot) \
             and not pg_visible_in_snapshot(j.xid, t.snapshot)) order by id limit 1), \
             before as (select b.snapshot from pgcanon.tick b, t where b.id < t.id order by b.id desc limit 1) \
             select t.id, (select count(distinct j.xid) from pgcanon.journal j where not exists \
             (select from before b where pg_visible_in_snapshot(j.xid, b.snapshot))) from t"
        ))
        .rows();
    row.first().map(|row| pair(row)).ok_or("a row that no tick covers")
}

/// How far a node has applied what comes from another.
pub(crate) fn reached(there: &mut Session, origin: &str) -> (i64, i64) {
    let progress = there.ok(&format!("select tick, ord from pgcanon.progress where origin = '{origin}'"));
    progress.rows().first().map_or((0, 0), |row| pair(row))
}

fn pair(row: &[Option<String>]) -> (i64, i64) {
    let number = |n: usize| row[n].as_ref().and_then(|text| text.parse().ok()).expect("a number");
    (number(0), number(1))
}
