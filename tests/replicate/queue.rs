//! A peer that is away, or rejects a change (scenarios B1, B3 to B6): what is for it waits in order, and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::cluster::Stop;
use crate::common::{Cluster, PATIENCE, Pg, Stops, eventually, proc, proxy};
use crate::mesh::{APPLIER, Member, Mesh, server};

const TABLE: &str = "create table t (id int primary key, v text, n int default 0)";
const RULE: &str = "[[table]]\nname = \"public.*\"\n";

/// Two nodes of which *b* can be hurt.
fn pair(rule: &str) -> (Mesh, Arc<Cluster>) {
    let hurt = Arc::new(Cluster::start(Pg::V15, "max_connections = 50\n", ""));
    let a = Member::new("a", server(Pg::V15, 'a'), TABLE, rule).peers("spill_after = \"200ms\"");
    let b = Member::new("b", hurt.clone(), TABLE, rule);
    (Mesh::start(vec![a, b]), hurt)
}

impl Mesh {
    fn queued(&self) -> i64 {
        self.node("a").sql("select count(*) from pgcanon.sync_err_rec").parse().expect("a number")
    }

    fn peer(&self, column: &str) -> String {
        self.node("a").sql(&format!("select {column} from pgcanon.peer where name = 'b'"))
    }
}

/// Nobody logs in at *b* to apply anything.
fn lock_out(b: &Cluster) {
    b.psql(&format!(
        "alter role {APPLIER} nologin; select pg_terminate_backend(pid) from pg_stat_activity where usename = '{APPLIER}'"
    ));
}

#[test]
fn b1_b3_what_waits_keeps_its_order() {
    let (mesh, b) = pair(RULE);
    let mut c = mesh.client("a");
    c.ok("insert into t values (0, 'before')");
    mesh.assert_all_equal("t");
    // What b has not on its disk yet would be in the queue, too.
    eventually("b to have it for good", || (mesh.peer("tick > 0") == "t").then_some(()));
    lock_out(&b);
    c.ok("insert into t select i, 'first' || random() from generate_series(1, 10000) i");
    assert_eq!(mesh.node("a").sql("select count(*) from t"), "10001");
    eventually("the queue to fill", || (mesh.queued() == 10_000).then_some(()));
    assert_eq!(mesh.peer("state"), "spilling");
    assert!(mesh.peer("reason").contains("not permitted to log in"), "{}", mesh.peer("reason"));
    let first = mesh.node("a").sql(
        "select nsp_name, table_name, dst_server, dst_query, create_time <= now() from pgcanon.sync_err_rec where id = (select min(id) from pgcanon.sync_err_rec)",
    );
    assert!(first.starts_with("public|t|b|INSERT INTO public.t (id, v, n) VALUES (1, 'first0."), "{first}");
    assert!(first.ends_with("|t"), "{first}");
    // The same rows again: what is done last must be what is there in the end.
    c.ok("delete from t where id between 1 and 100");
    c.ok("insert into t select i, 'second' || random() from generate_series(1, 50) i");
    c.ok("update t set v = 'third' where id = 7");
    c.ok("begin; update t set n = n + 1 where id = 200; delete from t where id = 201; insert into t values (201, 'again'); commit");
    eventually("all of that to wait", || (mesh.queued() == 10_000 + 100 + 50 + 1 + 3).then_some(()));
    assert_eq!(b.psql("select 1"), "1");
    b.psql(&format!("alter role {APPLIER} login"));
    mesh.assert_all_equal("t");
    assert_eq!(mesh.node("b").sql("select v from t where id = 7"), "third");
    eventually("nothing to wait any more", || (mesh.queued() == 0 && mesh.peer("state") == "live").then_some(()));
}

#[test]
fn b4_changes_that_come_while_it_drains_stay_behind() {
    let (mesh, b) = pair(RULE);
    mesh.client("a").ok("insert into t select i, 'x' from generate_series(0, 39) i");
    lock_out(&b);
    mesh.client("a").ok("update t set v = 'queued' || id");
    eventually("the queue to fill", || (mesh.queued() > 0).then_some(()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stops = Stops(&done);
        for client in 0..32 {
            let (mesh, done) = (&mesh, &done);
            scope.spawn(move || {
                let mut c = mesh.client("a");
                let mut n = 0;
                while !done.load(Ordering::Relaxed) {
                    n += 1;
                    let id = (client + n) % 40;
                    // Neither change can be applied before the other.
                    c.ok(&format!("update t set v = md5(v || {n}), n = n * 3 % 1000003 + 1 where id = {id}"));
                }
            });
        }
        b.psql(&format!("alter role {APPLIER} login"));
        eventually("the queue to be empty under load", || (mesh.peer("state") == "live").then_some(()));
        drop(stops);
    });
    mesh.assert_all_equal("t");
    assert_eq!(mesh.queued(), 0);
}

#[test]
fn b5_a_peer_that_crashes_or_freezes_comes_back() {
    let (mesh, b) = pair(RULE);
    let mut c = mesh.client("a");
    c.ok("insert into t values (1, 'x')");
    mesh.assert_all_equal("t");
    for round in 0..2 {
        match round {
            0 => b.stop(Stop::Immediate),
            _ => b.pause(),
        }
        for n in 0..20 {
            c.ok(&format!("update t set n = n * 3 % 1000003 + {n} where id = 1"));
            c.ok(&format!("insert into t values ({round}100{n}, 'y')"));
        }
        eventually("the changes to wait", || (mesh.queued() >= 40).then_some(()));
        match round {
            0 => b.restart(),
            _ => b.resume(),
        }
        mesh.assert_all_equal("t");
        eventually("nothing to wait any more", || (mesh.queued() == 0).then_some(()));
    }
}

#[test]
fn b5_a_peer_whose_disk_is_full_gets_everything_when_there_is_room() {
    // A row that it has no room for is not one that it rejects.
    let (mesh, b) = pair(&format!("{RULE}on_error = \"discard\"\n"));
    let mut c = mesh.client("a");
    c.ok("insert into t select i, repeat('x', 1900) from generate_series(1, 9000) i");
    mesh.assert_all_equal("t");
    let size: u64 = mesh.node("b").sql("select pg_relation_size('t')").parse().expect("a number");
    assert!(size > 16 << 20, "the log's files must fit: {size}");
    b.limit_files(Some(size + 100));
    for n in 1..=40 {
        c.ok(&format!("insert into t values (10000 + {n}, repeat('y', 1900))"));
        c.ok(&format!(
            "begin; update t set n = n * 3 % 1000003 + {n} where id = 10001; delete from t where id = {n}; commit"
        ));
    }
    eventually("the changes to wait", || (mesh.queued() >= 110).then_some(()));
    assert_eq!(mesh.peer("state"), "spilling");
    let why = mesh.peer("reason");
    assert!(why.contains("could not extend file") && why.contains("(53100): Check free disk space."), "{why}");
    let stuck = "select sqlstate, message from pgcanon.sync_err_rec where attempts > 1";
    eventually("the row to be named that has no room", || {
        mesh.node("a").sql(stuck).starts_with("53100|could not extend file").then_some(())
    });
    b.limit_files(None);
    mesh.assert_all_equal("t");
    eventually("nothing to wait any more", || (mesh.queued() == 0 && mesh.peer("state") == "live").then_some(()));
    assert_eq!(mesh.node("a").sql("select count(*) from pgcanon.conflict"), "0");
}

#[test]
fn b5_what_the_peer_itself_lacks_is_waited_for_whatever_is_done_with_a_rejected_row() {
    let rule =
        |name: &str| format!("[[table]]\nname = \"public.{name}\"\ntriggers = \"fire\"\non_error = \"{name}\"\n");
    let tables = "create table park (id text primary key); create table discard (id text primary key)";
    let rules = rule("park") + &rule("discard");
    let a = Member::new("a", server(Pg::V15, 'a'), tables, &rules).peers("spill_after = \"200ms\"");
    // What b has taken last is not on its disk for long.
    let hurt = Arc::new(Cluster::start(Pg::V15, "max_connections = 50\nwal_writer_delay = 10s\n", ""));
    let b = Member::new("b", hurt, tables, &rules);
    let mesh = Mesh::start(vec![a, b]);
    mesh.node("b").sql(
        "create table outage (state text);
         create function fails() returns trigger language plpgsql as $$ declare o text;
         begin for o in select state from public.outage loop raise 'an outage' using errcode = o; end loop; return new; end $$;
         create trigger fails before insert on park for each row execute function fails();
         create trigger fails before insert on discard for each row execute function fails();
         grant select on outage to public",
    );
    let mut c = mesh.client("a");
    for (table, state) in [("park", "08006"), ("discard", "08006"), ("park", "58030"), ("discard", "57000")] {
        c.ok(&format!("insert into {table} values ('{state}, before')"));
        mesh.settle();
        mesh.node("b").sql(&format!("insert into outage values ('{state}')"));
        c.ok(&format!("insert into {table} values ('{state}')"));
        c.ok(&format!("insert into {table} values ('{state}, behind')"));
        eventually("the changes to wait", || (mesh.queued() == 2).then_some(()));
        assert!(mesh.peer("reason").contains(&format!("an outage ({state})")), "{}", mesh.peer("reason"));
        let tried = || mesh.node("a").sql("select sqlstate, attempts > 1 from pgcanon.sync_err_rec order by id");
        eventually("it to be tried again", || (tried() == format!("{state}|t\n|f")).then_some(()));
        assert_eq!(mesh.node("a").sql("select count(*) from pgcanon.sync_err_rec where parked"), "0");
        mesh.node("b").sql("truncate outage");
        eventually("nothing to wait", || (mesh.queued() == 0 && mesh.peer("state") == "live").then_some(()));
    }
    mesh.assert_all_equal("park");
    mesh.assert_all_equal("discard");
    assert_eq!(mesh.node("b").sql("select (select count(*) from park), (select count(*) from discard)"), "6|6");
    assert_eq!(mesh.node("a").sql("select count(*) from pgcanon.conflict"), "0");
}

#[test]
fn b6_what_is_rejected_holds_up_everything_until_it_is_mended() {
    let (mesh, _b) = pair(RULE);
    mesh.node("b").sql("insert into t values (5, 'in the way')");
    let mut c = mesh.client("a");
    c.ok("insert into t values (4, 'before')");
    c.ok("begin; insert into t values (6, 'with it'); insert into t values (5, 'x'); commit");
    c.ok("insert into t values (7, 'behind')");
    let stuck = || {
        mesh.node("a")
            .sql("select sqlstate, attempts > 0, dst_query from pgcanon.sync_err_rec where sqlstate is not null")
    };
    eventually("the rejection to be seen", || (!stuck().is_empty()).then_some(()));
    assert_eq!(stuck(), "23505|t|insert into public.t values (5, 'x');");
    // Its transaction waits as a whole, and so does what came later.
    eventually("the others to wait", || (mesh.queued() == 3).then_some(()));
    assert_eq!(mesh.node("b").sql("select string_agg(id::text, ' ' order by id) from t"), "4 5");
    mesh.node("b").sql("delete from t where id = 5");
    mesh.assert_all_equal("t");
    eventually("nothing to wait any more", || (mesh.queued() == 0).then_some(()));
}

#[test]
fn b6_what_is_rejected_may_be_discarded() {
    let (mesh, _b) = pair(&format!("{RULE}on_error = \"discard\"\n"));
    mesh.node("b").sql("insert into t values (5, 'in the way')");
    let mut c = mesh.client("a");
    c.ok("insert into t select i, 'many' from generate_series(1, 9) i");
    c.ok("update t set n = 1 where id = 9");
    mesh.settle();
    assert_eq!(mesh.node("b").sql("select count(*), count(*) filter (where v = 'many'), sum(n) from t"), "9|8|1");
    let record = mesh.node("a").sql(
        "select kind, decision, nsp_name, table_name, incoming->>'sqlstate', incoming->>'query' from pgcanon.conflict",
    );
    assert_eq!(record, "rejected|discarded|public|t|23505|INSERT INTO public.t (id, v, n) VALUES (5, 'many', 0);");
}

#[test]
fn b6_what_is_rejected_may_be_parked() {
    let (mesh, _b) = pair(&format!("{RULE}on_error = \"park\"\n"));
    mesh.node("b").sql("insert into t values (5, 'in the way'), (50, 'in the way, too')");
    let mut c = mesh.client("a");
    c.ok("insert into t select i, 'many' from generate_series(1, 9) i");
    assert_eq!(c.copy("copy t (id, v) from stdin", &[b"50\talone\n53\tcopied\n"]).tags(), ["COPY 2"]);
    c.ok("update t set n = n + 1 where id in (4, 5, 6)");
    c.ok("begin; delete from t where id = 50; insert into t values (51, 'beside'); commit");
    c.ok("insert into t values (52, 'behind')");
    c.ok("delete from t where id = 52; insert into t values (52, 'again')");
    let there = |expected: &str| {
        let sql = "select string_agg(id || v || n, ' ' order by id) from t where id > 3 and v not like 'in the way%'";
        eventually(expected, || (mesh.node("b").sql(sql) == expected).then_some(()));
    };
    // All of it but what touches the rows in the way.
    there("4many1 6many1 7many0 8many0 9many0 51beside0 52again0 53copied0");
    let parked =
        "select string_agg(coalesce(sqlstate, 'behind') || ':' || parked, ' ' order by id) from pgcanon.sync_err_rec";
    eventually("four pieces to be parked", || {
        (mesh.node("a").sql(parked) == "23505:true 23505:true behind:true behind:true").then_some(())
    });
    // A proxy that begins anew knows what has to wait.
    mesh.node("a").proxy.signal(rustix::process::Signal::KILL);
    let proxy = mesh.node("a").second_proxy();
    let mut c = mesh.node("a").client_at(&proxy.tcp());
    c.ok("update t set v = 'last' where id in (5, 8)");
    there("4many1 6many1 7many0 8last0 9many0 51beside0 52again0 53copied0");
    assert_eq!(mesh.queued(), 5);
    mesh.node("b").sql("delete from t where id = 50");
    there("4many1 6many1 7many0 8last0 9many0 51beside0 52again0 53copied0");
    eventually("the other row to be through", || (mesh.queued() == 3).then_some(()));
    mesh.node("b").sql("delete from t where id = 5");
    eventually("nothing to wait any more", || (mesh.queued() == 0 && mesh.peer("state") == "live").then_some(()));
    mesh.assert_all_equal("t");
    assert_eq!(mesh.node("b").sql("select count(*) from pgcanon.applied"), "0");
}

#[test]
fn a_trial_of_parked_changes_lets_nothing_overtake_them() {
    let (mesh, _b) = pair(&format!("{RULE}on_error = \"park\"\n"));
    mesh.node("b").sql("insert into t values (5, 'in the way')");
    mesh.client("a").ok("insert into t values (5, 'first')");
    eventually("the change to be parked", || (mesh.queued() == 1).then_some(()));
    let ask = |sql: &str| {
        let mut psql = proxy::psql("127.0.0.1", mesh.node("a").proxy.console_port());
        proc::output(psql.args(["-Atc", sql]), PATIENCE)
    };
    assert!(!ask("select try_sync_err_rec(10)").status.success(), "from here on the queue is the operator's");
    mesh.node("b").sql("delete from t where id = 5");
    assert_eq!(ask("select try_sync_err_rec(10)").stdout, b"1\n");
    mesh.client("a").ok("insert into t values (5, 'x') on conflict (id) do update set v = 'second'");
    eventually("the later change to wait behind it", || (mesh.queued() == 2).then_some(()));
    assert_eq!(mesh.node("b").sql("select count(*) from t"), "0");
    eventually("both to be there when the operator has left", || (mesh.queued() == 0).then_some(()));
    mesh.client("a").ok("insert into t values (6, 'third')");
    mesh.assert_all_equal("t");
}

#[test]
fn b2_an_operator_deals_with_the_queue_by_hand() {
    let (mesh, b) = pair(RULE);
    lock_out(&b);
    mesh.client("a").ok("insert into t select i, 'first' from generate_series(1, 10000) i");
    eventually("the queue to fill", || (mesh.queued() == 10_000).then_some(()));
    let deal = |n: u32| {
        let mut psql = proxy::psql("127.0.0.1", mesh.node("a").proxy.console_port());
        let output = proc::output(psql.args(["-Atc", &format!("select deal_sync_err_rec({n})")]), PATIENCE);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    // The proxy tries by itself, too, ever more rarely: between two of its attempts there is time.
    let failures = || b.log().matches("is not permitted to log in").count();
    eventually("some attempts to fail", || (failures() >= 5).then_some(()));
    let before = failures();
    eventually("another one to fail", || (failures() > before).then_some(()));
    b.psql(&format!("alter role {APPLIER} login"));
    assert_eq!(deal(1000), "1000");
    assert_eq!((mesh.queued(), mesh.node("b").sql("select count(*) from t")), (9000, "1000".to_owned()));
    assert_eq!(deal(10_000), "9000");
    assert_eq!(mesh.queued(), 0);
    mesh.assert_all_equal("t");
}
