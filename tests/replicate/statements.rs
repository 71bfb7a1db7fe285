//! Conflicts that go by the time of the statement (§8): what was said first counts as first, though it was committed last.

use std::thread;

use crate::common::session::Session;
use crate::common::{Pg, eventually};
use crate::mesh::{Member, Mesh, server};
use crate::settle::equal;

const TABLE: &str = "create table mm (id int primary key, info text); create table other (id int primary key, v text)";

const BY_STATEMENT: &str = "{ resolve = \"last\", by = \"statement_time\" }";
const BY_COMMIT: &str = "{ resolve = \"last\", by = \"commit_time\" }";

const BACKENDS_THAT_WAIT: &str =
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

/// Two nodes of different versions, with rows that both have.
fn mesh(conflict: &str) -> Mesh {
    let rules = format!("[[table]]\nname = \"public.mm\"\nconflict = {conflict}\n[[table]]\nname = \"public.other\"\n");
    let member = |name, pg, which| Member::new(name, server(pg, which), TABLE, &rules);
    let mesh = Mesh::start(vec![member("a", Pg::V15, 'a'), member("b", Pg::V18, 'b')]);
    mesh.client("a").ok("insert into mm select i, 'old' from generate_series(1, 20) i where i <> 8");
    mesh.client("b").ok("insert into other values (1, 'both are there')");
    equal(&mesh);
    mesh
}

/// Writes the rows 1 to 10 within a block, each in another way.
fn write_in_all_ways(s: &mut Session) {
    s.ok("begin");
    s.ok("update mm set info = 'slow' where id = 1");
    s.ok("update mm set info = 'slow' where id = 2 returning *; select 1");
    s.bound("update mm set info = $1 where id = $2", &[Some("slow"), Some("3")]);
    s.ok("prepare said as update mm set info = 'slow' where id = $1; execute said(4); deallocate said");
    s.ok("insert into mm values (5, 'new') on conflict (id) do update set info = 'slow'");
    s.ok("savepoint s; update mm set info = 'slow' where id = 6; release s");
    s.bound("with w as (update mm set info = 'slow' where id = 7 returning id) select * from w", &[]);
    s.copy("copy mm from stdin", &[b"8\tslow\n"]);
    s.ok("delete from mm where id = 9");
    s.ok("update mm set id = 1010 where id = 10");
}

/// Ten rows that one node writes within a block, and another one before the block ends.
fn a_block_that_is_overtaken(conflict: &str, expected: &str) {
    let mesh = mesh(conflict);
    for (slow, quick) in [("a", "b"), ("b", "a")] {
        let mut s = mesh.client(slow);
        write_in_all_ways(&mut s);
        mesh.client(quick).ok(
            "insert into mm select i, 'quick' from generate_series(1, 10) i on conflict (id) do update set info = excluded.info",
        );
        s.ok("commit");
        assert_eq!(equal(&mesh), expected, "written on {slow}");
        // As it was.
        s.ok("delete from mm where id in (8, 1010)");
        s.ok("insert into mm select i, 'old' from generate_series(1, 10) i where i <> 8 on conflict (id) do update set info = 'old'");
        equal(&mesh);
    }
}

const OLD: &str = "11:old 12:old 13:old 14:old 15:old 16:old 17:old 18:old 19:old 20:old";

#[test]
fn what_was_said_later_wins_though_it_was_committed_first() {
    let quick: Vec<String> = (1..=10).map(|id| format!("{id}:quick ")).collect();
    a_block_that_is_overtaken(BY_STATEMENT, &format!("{}{OLD} 1010:old", quick.concat()));
}

#[test]
fn by_the_time_of_the_commit_the_same_ends_otherwise() {
    let slow: Vec<String> = (1..=8).map(|id| format!("{id}:slow ")).collect();
    a_block_that_is_overtaken(BY_COMMIT, &format!("{}{OLD} 1010:old", slow.concat()));
}

#[test]
fn a_statement_by_itself_counts_from_its_beginning() {
    let mesh = mesh(BY_STATEMENT);
    let waiting = |many: &str| {
        eventually("those to wait", || (mesh.node("a").sql(BACKENDS_THAT_WAIT) == many).then_some(()));
    };
    let mut holder = mesh.node("a").direct();
    holder.ok("begin; select from mm where id < 4 for update");
    thread::scope(|scope| {
        let writers: [fn(&mut Session); 3] = [
            |s| drop(s.ok("update mm set info = 'slow' where id = 1")),
            |s| drop(s.bound("update mm set info = $1 where id = 2 returning id", &[Some("slow")])),
            |s| drop(s.ok("delete from mm where id = 3")),
        ];
        for write in writers {
            let mut s = mesh.client("a");
            scope.spawn(move || write(&mut s));
        }
        waiting("3");
        mesh.client("b").ok("update mm set info = 'quick' where id < 4");
        // Whoever brings it finds rows that change while it waits for them.
        waiting("4");
        holder.ok("rollback");
    });
    let ended = equal(&mesh);
    assert!(ended.starts_with("1:quick 2:quick 3:quick 4:old"), "{ended}");
}

#[test]
fn a_truncate_takes_what_was_there_when_it_was_said() {
    for (conflict, left) in [(BY_STATEMENT, "1:quick"), (BY_COMMIT, "")] {
        let mesh = mesh(conflict);
        let mut s = mesh.client("a");
        s.ok("begin; truncate mm");
        mesh.client("b").ok("update mm set info = 'quick' where id = 1");
        s.ok("commit");
        assert_eq!(equal(&mesh), left, "{conflict}");
    }
}

#[test]
fn all_rows_of_a_transaction_are_of_one_time_on_every_node() {
    let mesh = mesh(BY_STATEMENT);
    let mut s = mesh.client("a");
    write_in_all_ways(&mut s);
    // Its last word.
    s.ok("savepoint a; savepoint b; update mm set info = 'last' where id = 11; release b");
    s.ok("select pg_sleep(0.01)");
    s.ok("commit");
    equal(&mesh);
    let versions = |node: &str| {
        mesh.node(node).sql(&format!(
            "select string_agg(concat_ws(' ', id, info, v.at, v.origin), ', ' order by id) \
             from mm as t, pgcanon.version(t.xmin, '{node}') as v"
        ))
    };
    let on_a = versions("a");
    assert_eq!(on_a, versions("b"));
    let times = "select count(distinct v.at), bool_and(v.at < pg_xact_commit_timestamp(t.xmin) - interval '10 ms') \
        from mm as t, pgcanon.version(t.xmin, 'a') as v where info in ('slow', 'last')";
    assert_eq!(mesh.node("a").sql(times), "1|t");
    // The server knows subtransactions by the time of their commit alone, which is filled in behind it.
    let open = "select count(*) from pgcanon.statement_time where committed is null";
    eventually("all to be filled in", || (mesh.node("a").sql(open) == "0").then_some(()));
    assert_eq!(versions("a"), on_a);
}
