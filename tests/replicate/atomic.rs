//! `delivery = "atomic"` (§7, scenario B7): a transaction is committed on all nodes or on none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::common::msg::{bind, execute, parse, sync};
use crate::common::{Cluster, Pg, Stops, eventually};
use crate::mesh::{APPLIER, Member, Mesh, server};

const TABLES: &str = "create table t (id int primary key, v text, n int default 0); create table plain (id int); \
    create function forge() returns void language plpgsql as $$ begin \
    execute 'insert into pgcanon.' || 'journal (slot, meta, data) values (0, ''forged'', ''x'')'; end $$";
const RULE: &str = "[[table]]\nname = \"public.t\"\ndelivery = \"atomic\"\nack_timeout = \"20s\"\n";

/// Two nodes of which *b* can be hurt.
fn pair() -> (Mesh, Arc<Cluster>) {
    let hurt = Arc::new(Cluster::start(Pg::V15, "max_connections = 100\nmax_prepared_transactions = 40\n", ""));
    let a = Member::new("a", server(Pg::V15, 'a'), TABLES, RULE).peers("spill_after = \"200ms\"");
    let b = Member::new("b", hurt.clone(), TABLES, RULE);
    (Mesh::start(vec![a, b]), hurt)
}

fn rows(mesh: &Mesh, node: &str) -> String {
    mesh.node(node).sql("select string_agg(id || ':' || coalesce(v, '-') || ':' || n, ' ' order by id) from t")
}

/// Nothing is prepared, nothing is noted, nothing waits.
fn clean(mesh: &Mesh) {
    for node in mesh.names() {
        eventually("nothing to be left behind", || {
            let sql = "select (select count(*) from pg_prepared_xacts where database = current_database()), \
                (select count(*) from pgcanon.early), (select count(*) from pgcanon.error_queue)";
            (mesh.node(node).sql(sql) == "0|0|0").then_some(())
        });
    }
}

#[test]
fn what_the_client_is_told_holds_on_every_node() {
    let (mesh, _b) = pair();
    let mut c = mesh.client("a");
    let same = |what: &str| assert_eq!(rows(&mesh, "a"), rows(&mesh, "b"), "behind {what}");
    for sql in [
        "insert into t values (1, 'text')",
        "insert into t select i, random()::text, i from generate_series(2, 9) i",
        "insert into t values (1, 'x') on conflict (id) do update set n = t.n + 1",
        "update t set v = now()::text where id > 7",
        "delete from t where id = 9; update t set n = n + 5 where id = 1",
        "begin; insert into t values (20, 'kept'); savepoint s; insert into t values (21, 'gone'); rollback to s; \
         update t set n = 7 where id = 20; commit",
        "begin; insert into plain values (1); commit",
        "update t set n = 1 where id = 99",
        "truncate t",
        "insert into t values (1, 'again')",
    ] {
        c.ok(sql);
        same(sql);
    }
    // A block of several messages, and its own end.
    for sql in
        ["begin", "insert into t values (30, clock_timestamp()::text)", "savepoint s", "insert into t values (31)"]
    {
        c.ok(sql);
    }
    assert_eq!(mesh.node("b").sql("select count(*) from t where id >= 30"), "0");
    c.ok("commit");
    same("a block");
    c.ok("begin; insert into t values (40)");
    c.ok("rollback");
    // What an application puts into the journal by itself counts nowhere, and stops nothing.
    c.ok("begin; insert into t values (45, 'forged'); select forge(); insert into t values (46, 'forged'); commit");
    same("a forged row in the journal");
    assert_eq!(c.copy("copy t (id, v) from stdin", &[b"50\tcopied\n51\ttoo\n"]).tags(), ["COPY 2"]);
    same("COPY");
    for sql in ["insert into t values ($1, 'bound')", "insert into t values ($1, random()::text) returning id"] {
        let id = if sql.contains("returning") { "61" } else { "60" };
        let bound = [parse("", sql, &[]), bind("", "", &[Some(id.as_bytes())]), execute("", 0), sync()].concat();
        c.send(&[bound]).tags();
        same(sql);
    }
    assert_eq!(mesh.node("a").sql("select count(*) from t"), "9");
    assert_eq!(c.fails("begin; insert into t values (70); prepare transaction 'x'").state, "0A000");
    c.ok("rollback");
    clean(&mesh);
}

#[test]
fn b7_without_the_peer_nothing_is_committed() {
    let (mesh, b) = pair();
    let mut c = mesh.client("a");
    c.ok("insert into t values (1, 'before')");
    b.psql(&format!(
        "alter role {APPLIER} nologin; select pg_terminate_backend(pid) from pg_stat_activity where usename = '{APPLIER}'"
    ));
    let error = c.fails("insert into t values (2, 'lost')");
    assert_eq!(error.state, "08006");
    assert!(error.message.starts_with("the transaction cannot be committed: peer \"b\": "), "{}", error.message);
    c.ok("begin; insert into t values (3, 'lost, too')");
    assert_eq!(c.fails("commit").state, "08006");
    let bound = [parse("", "insert into t values (4)", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(c.send(&[bound]).failure().expect("an error").state, "08006");
    c.ok("insert into plain values (1)");
    assert_eq!(rows(&mesh, "a"), "1:before:0");
    assert_eq!(mesh.node("a").sql("select count(*) from pgcanon.error_queue"), "0");
    b.psql(&format!("alter role {APPLIER} login"));
    eventually("b to take part again", || c.run("insert into t values (5, 'back')").failure().is_none().then_some(()));
    assert_eq!(
        (rows(&mesh, "a"), rows(&mesh, "b")),
        ("1:before:0 5:back:0".to_owned(), "1:before:0 5:back:0".to_owned())
    );
    clean(&mesh);
}

#[test]
fn what_the_peer_rejects_fails_here() {
    let (mesh, _b) = pair();
    mesh.node("b").sql("insert into t values (5, 'in the way')");
    let mut c = mesh.client("a");
    let error = c.fails("insert into t values (5, 'x')");
    assert_eq!(error.state, "23505");
    assert!(error.message.contains("peer \"b\": duplicate key"), "{}", error.message);
    assert_eq!(rows(&mesh, "a"), "");
    c.ok("insert into t values (6, 'y')");
    assert_eq!(rows(&mesh, "b"), "5:in the way:0 6:y:0");
    clean(&mesh);
}

#[test]
fn whatever_is_killed_it_is_everywhere_or_nowhere() {
    let (mesh, b) = pair();
    let done = AtomicBool::new(false);
    mesh.client("a").ok("insert into t select i, 'x' from generate_series(1, 8) i");
    let second = mesh.node("a").second_proxy();
    let told: Vec<i64> = std::thread::scope(|scope| {
        let writer = |id: usize| {
            let (mesh, done) = (&mesh, &done);
            scope.spawn(move || {
                let mut c = mesh.client("a");
                let mut acknowledged = 0;
                while !done.load(Ordering::Relaxed) {
                    match c.try_run(&format!("update t set n = n + 1 where id = {id}")) {
                        Ok(answer) if answer.failure().is_none() => acknowledged += 1,
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                acknowledged
            })
        };
        let stops = Stops(&done);
        let writers: Vec<_> = (1..=8).map(writer).collect();
        let written = |least: u32| {
            let sql = format!("select sum(n) > {least} from t");
            eventually("more to be committed", || (mesh.node("a").sql(&sql) == "t").then_some(()));
        };
        written(20);
        b.psql(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{APPLIER}'"));
        written(60);
        mesh.node("a").proxy.signal(Signal::KILL);
        drop(stops);
        writers.into_iter().map(|writer| writer.join().expect("a writer that ends")).collect()
    });
    // The other proxy ends what this one has left.
    second.wait_log("forwarding");
    clean(&mesh);
    assert_eq!(rows(&mesh, "a"), rows(&mesh, "b"));
    for (id, told) in (1..).zip(told) {
        let there: i64 = mesh.node("a").sql(&format!("select n from t where id = {id}")).parse().expect("a number");
        assert!((told..=told + 1).contains(&there), "{id}: {told} acknowledged, {there} there");
    }
}

#[test]
fn what_one_peer_rejects_no_other_keeps() {
    let member = |name| Member::new(name, server(Pg::V15, name.chars().next().expect("a letter")), TABLES, RULE);
    let mesh = Mesh::start(["a", "b", "c"].map(member).into());
    mesh.node("c").sql("insert into t values (5, 'in the way')");
    let mut c = mesh.client("a");
    c.ok("insert into t values (4, 'everywhere')");
    assert_eq!(c.fails("insert into t values (5, 'nowhere')").state, "23505");
    clean(&mesh);
    c.ok("insert into t values (6, 'everywhere')");
    assert_eq!(["a", "b"].map(|node| rows(&mesh, node)), ["4:everywhere:0 6:everywhere:0"; 2]);
    clean(&mesh);
}

#[test]
fn a_quiet_node_whose_proxy_was_restarted_waits_for_nothing() {
    let (mut mesh, _b) = pair();
    // Nothing was before it.
    mesh.client("a").ok("insert into t values (1, 'first')");
    eventually("the peer to have all for good", || {
        let sql = format!("select tick = (select max(id) from pgcanon.tick) and ord = {} from pgcanon.peer", i32::MAX);
        (mesh.node("a").sql(&sql) == "t").then_some(())
    });
    mesh.restart("a");
    mesh.client("a").ok("insert into t values (2, 'second')");
    assert_eq!(rows(&mesh, "b"), "1:first:0 2:second:0");
    clean(&mesh);
}
