//! DDL through one proxy (scenarios D1, D4): tables are made and changed on every node, in order with what is written to them.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::cluster::PG15_BIN;
use crate::common::session::Session;
use crate::common::{PATIENCE, Pg, Stops, eventually, msg, node, proc, proxy};
use crate::mesh::{Member, Mesh, server};

const PUBLIC: &str = "[[table]]\nname = \"public.*\"\n";

/// What a database must allow for its peers to make tables there, and to write those that are made here.
const GRANT: &str = "grant create on schema public to applier; \
    alter default privileges in schema public grant all on tables to applier";

/// Two nodes with these rules, and nothing in them.
fn pair(rules: &str) -> Mesh {
    pair_of(rules, rules)
}

fn pair_of(a: &str, b: &str) -> Mesh {
    let member = |name, which, rules| Member::new(name, server(Pg::V15, which), "", rules);
    let members = vec![member("a", 'a', a).peers("spill_after = \"200ms\""), member("b", 'b', b)];
    Mesh::start_with(members, |cluster, database| {
        Session::open(&cluster.unix(), "postgres", database).ok(GRANT);
    })
}

/// Runs it, and again where the table was changed meanwhile.
fn insist(c: &mut Session, sql: &str, params: Option<&[Option<&str>]>) {
    loop {
        let answer = match params {
            None => c.run(sql),
            Some(params) => c.try_bound(sql, params),
        };
        match answer.failure() {
            None => return,
            Some(failure) => assert_eq!(failure.state, "40001", "{sql}: {failure:?}"),
        }
        if answer.status() == 'E' {
            c.ok("rollback");
        }
    }
}

fn pgbench(mesh: &Mesh, node: &str, args: &[&str]) -> Command {
    let node = mesh.node(node);
    let mut pgbench = Command::new(format!("{PG15_BIN}/pgbench"));
    pgbench.args(["-h", "127.0.0.1", "-p", &node.proxy.port().to_string(), "-U", "postgres"]);
    pgbench.args(args).arg(&node.database);
    pgbench
}

const TABLES: [&str; 4] = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"];

/// What a schema consists of, as far as names and shapes go.
const SHAPE: &str = "select c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
    pg_get_expr(d.adbin, d.adrelid), pg_get_indexdef(c.oid), pg_get_expr(c.relpartbound, c.oid), \
    obj_description(c.oid), col_description(c.oid, a.attnum), \
    (select string_agg(conname || pg_get_constraintdef(oid), ',' order by conname) from pg_constraint where conrelid = c.oid) \
    from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum \
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'i', 'I')";

impl Mesh {
    fn assert_same_shape(&self) {
        self.assert_same(&[("a", SHAPE.to_owned()), ("b", SHAPE.to_owned())]);
    }
}

#[test]
fn d1_pgbench_builds_all_nodes_through_one_proxy() {
    let mesh = pair("[[table]]\nname = \"public.pgbench_*\"\n");
    for how in [&["-I", "dtgvp"][..], &["-I", "dtgvpf"], &["-I", "dtgvpf", "--partitions=3"], &["-I", "dtGvp"]] {
        proc::run(pgbench(&mesh, "a", &["-i", "-q", "-s", "1"]).args(how), Duration::from_secs(120));
        for table in TABLES {
            mesh.assert_all_equal(table);
        }
        mesh.assert_same_shape();
        assert_eq!(mesh.node("b").sql("select count(*) from pgbench_accounts"), "100000", "{how:?}");
    }
    // Both can be written at once then.
    std::thread::scope(|scope| {
        for node in ["a", "b"] {
            let mesh = &mesh;
            scope.spawn(move || {
                proc::run(&mut pgbench(mesh, node, &["-n", "-c", "4", "-t", "50"]), Duration::from_secs(120))
            });
        }
    });
    for table in TABLES {
        mesh.assert_all_equal(table);
    }
    assert_eq!(mesh.node("b").sql("select count(*) from pgbench_history"), "400");
}

/// What only adds to a table is done while clients of both nodes write it; what takes something away, while those of one do.
#[test]
fn d4_a_table_is_changed_under_load() {
    let mesh = pair(PUBLIC);
    let mut ddl = mesh.client("a");
    ddl.ok("create table t (id int primary key, v text, n int not null default 0)");
    ddl.ok("insert into t select i, 'x' from generate_series(1, 200) i");
    mesh.assert_all_equal("t");
    under_load(
        &mesh,
        &["a", "a", "b", "b"],
        &[
            "alter table t add column x int default 0",
            "create index t_v on t (v)",
            "comment on table t is 'busy'",
            "update t set x = id where id <= 200",
            "alter table t add column z text default 'z' check (length(z) > 0), alter column n set default 1",
            "create unique index on t (id, v)",
            "drop index t_v",
        ],
    );
    under_load(
        &mesh,
        &["a", "a", "a"],
        &[
            "alter table t rename column x to y",
            "alter table t alter column v type varchar(100)",
            "alter table t drop column z",
            "comment on column t.y is 'why'",
        ],
    );
    mesh.assert_same_shape();
    assert_eq!(
        mesh.node("b").sql("select sum(y), max(obj_description('t'::regclass)) from t where id <= 200"),
        "20100|busy"
    );
}

/// Runs these on *a* one by one, while a client writes on each of those nodes.
fn under_load(mesh: &Mesh, clients: &[&str], statements: &[&str]) {
    let mut ddl = mesh.client("a");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stops = Stops(&done);
        for (node, from) in clients.iter().zip([1, 51, 101, 151]) {
            let done = &done;
            scope.spawn(move || {
                let mut c = mesh.client(node);
                for round in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = from + round % 50;
                    insist(&mut c, &format!("update t set n = n + 1 where id = {id}"), None);
                    insist(
                        &mut c,
                        "update t set v = md5(random()::text) where id = $1",
                        Some(&[Some(&id.to_string())]),
                    );
                    let more = from * 10_000 + round;
                    insist(
                        &mut c,
                        &format!("begin; delete from t where id in ({more}, {more} - 1); insert into t (id, v) values ({more}, now()); commit"),
                        None,
                    );
                }
            });
        }
        for sql in statements {
            let sum =
                || -> i64 { mesh.node("a").sql("select sum(n) from t where id <= 50").parse().expect("a number") };
            let before = sum();
            ddl.ok(sql);
            // Everybody goes on.
            eventually(sql, || (sum() > before).then_some(()));
        }
        drop(stops);
    });
    mesh.assert_all_equal("t");
}

#[test]
fn d4_what_comes_next_finds_the_table_as_it_is_now() {
    let mesh = pair(PUBLIC);
    let mut c = mesh.client("a");
    // In the next statement, in the same query, in the same block, by the other protocol, in a pipeline.
    c.ok("create table one (id int primary key, at timestamptz default now(), s serial)");
    c.ok("insert into one (id) values (1)");
    c.ok("create table two (id int primary key, r float default random()); insert into two values (1); alter table two add column x int; \
          update two set x = 5 where id = 1; create table two_b (like two including all); insert into two_b values (7)");
    c.ok("begin; create table three (id int primary key)");
    c.ok("insert into three values (1)");
    c.ok("alter table three add column at timestamptz");
    c.ok("insert into three values (2, clock_timestamp())");
    c.ok("savepoint s; drop table three; create table three (other int primary key); insert into three values (9); rollback to s");
    c.ok(&format!(
        "insert into three values (3), (4); insert into three select i, now() + '{}' from generate_series(5, 9) i",
        "1 ms"
    ));
    c.ok("commit");
    c.bound("create table four (id int primary key, at timestamptz default clock_timestamp())", &[]);
    c.bound("insert into four values ($1)", &[Some("1")]);
    let step = |sql: &str| [msg::parse("", sql, &[]), msg::bind("", "", &[]), msg::execute("", 0)];
    let mut pipeline: Vec<Vec<u8>> = Vec::new();
    for sql in [
        "create table five (id int primary key)",
        "insert into five values (1)",
        "alter table five add v text default 'v'",
        "insert into five values (2)",
    ] {
        pipeline.extend(step(sql));
    }
    pipeline.push(msg::sync());
    assert_eq!(c.send(&pipeline).failure(), None);
    // Too long to be held for nothing.
    c.ok(&format!(
        "create table six (id int primary key, v text); insert into six values (1, '{}')",
        "x".repeat(400_000)
    ));
    c.ok("begin; create table seven (id int primary key, v text)");
    c.ok(&format!("insert into seven values (1, '{}')", "y".repeat(400_000)));
    c.ok("commit");
    // What is rolled back is nowhere.
    c.ok("begin; create table never (id int); insert into never values (1); rollback");
    c.ok("begin; alter table one add column never int; rollback; insert into one (id) values (2)");
    c.fails("create table never_too (id int); insert into never_too values (1); select 1/0");
    for table in ["one", "two", "two_b", "three", "four", "five", "six", "seven"] {
        mesh.assert_all_equal(table);
    }
    mesh.assert_same_shape();
    assert_eq!(mesh.node("b").sql("select count(*) from three"), "9");
    // The other node knows it by then.
    for (n, table) in ["one", "four", "five", "six"].into_iter().enumerate() {
        mesh.client("b").ok(&format!("insert into {table} (id) values (1000 + {n})"));
        mesh.assert_all_equal(table);
    }
    c.ok("create table eight (id int primary key)");
    mesh.settle();
    let mut b = mesh.client("b");
    b.ok("insert into eight values (1)");
    mesh.assert_all_equal("eight");
    assert_eq!(mesh.node("a").sql("select count(*) from eight"), "1");
    c.ok("drop table one, two, if_not_there_it_fails_not, three".replace(", if_not_there_it_fails_not", "").as_str());
    c.ok("drop table if exists four, not_there, five");
    c.ok("drop table if exists one; drop index if exists not_there");
    mesh.assert_same_shape();
}

#[test]
fn a_transaction_with_ddl_is_one_on_the_peer_and_alone_in_it() {
    let mesh = pair(PUBLIC);
    let mut c = mesh.client("a");
    c.ok("create table t (id int primary key, v text)");
    mesh.settle();
    let there = mesh.node("b");
    there.sql("create table seen (x xid8, n int); create function see() returns trigger language plpgsql as \
               'begin insert into public.seen values (pg_current_xact_id(), new.id); return null; end'; \
               create trigger see after insert on t for each row execute function see(); alter table t enable always trigger see; \
               grant all on seen to public");
    // While the peer waits for this lock everything gathers, and could go in one transaction.
    let mut blocker = there.direct();
    blocker.ok("begin; lock table t in exclusive mode");
    for id in 1..=5 {
        c.ok(&format!("insert into t (id) values ({id})"));
    }
    c.ok("begin; insert into t (id) values (6); alter table t add column x int default 1; insert into t (id) values (7); commit");
    for id in 8..=12 {
        c.ok(&format!("insert into t (id) values ({id})"));
    }
    blocker.ok("commit");
    mesh.assert_all_equal("t");
    let mine = "select string_agg(n::text, ',' order by n) from seen where x = (select x from seen where n = 6)";
    assert_eq!(there.sql(mine), "6,7");
}

#[test]
fn names_are_those_of_the_peer() {
    let side = |other: &str, here: &str, there: &str, table: &str, far: &str| {
        let exact = |from: &str, to: &str| {
            format!("[[table]]\nname = \"{here}.{from}\"\nrename = {{ {other} = \"{there}.{to}\" }}\n")
        };
        format!(
            "{}{}{}",
            exact(table, far),
            exact(&format!("{table}_to"), &format!("{far}_to")),
            exact("odd \\\"name", "even")
        )
    };
    let (a, b) = (
        side("b", "local", "remote", "loc_test", "rmt_test"),
        "[[table]]\nname = \"remote.*\"\nddl = \"local\"\npeers = []\n",
    );
    let mesh = Mesh::start(vec![
        Member::new(
            "a",
            server(Pg::V15, 'a'),
            "create schema local; create type local.mood as enum ('sad', 'glad')",
            &a,
        ),
        Member::new(
            "b",
            server(Pg::V15, 'b'),
            "create schema remote; create schema local; create type local.mood as enum ('sad', 'glad'); \
            grant all on schema remote to applier; grant usage on schema local to applier",
            b,
        ),
    ]);
    let mut c = mesh.client("a");
    c.ok("set search_path = local, public");
    c.ok("create table loc_test_to (id int primary key)");
    c.ok("create table loc_test (id int, loc_test text default 'loc_test', m mood default 'sad', t int references loc_test_to, primary key (id, t)) partition by range (id)");
    c.ok("create table loc_part partition of loc_test for values from (0) to (100)");
    c.ok("create table local.loc_rest (like local.loc_test including defaults including constraints)");
    c.ok("insert into loc_test_to values (1); insert into loc_test (id, t) values (1, 1)");
    c.ok("alter table loc_test add column loc_part text default 'local.loc_test'");
    c.ok("create index loc_index on only local.loc_test (loc_test)");
    c.ok("create index loc_part_index on loc_part (loc_test); alter index loc_index attach partition loc_part_index");
    c.ok("create index gone on loc_test_to (id); drop index gone; alter index loc_index rename to loc_index_2");
    c.ok("comment on column loc_test.loc_test is 'of local.loc_test'");
    c.ok("create table \"odd \"\"name\" (id int primary key); insert into \"odd \"\"name\" values (1)");
    c.ok("insert into loc_test (id, t, m) values (2, 1, 'glad')");
    mesh.assert_equal(&[("a", "local.loc_test"), ("b", "remote.rmt_test")]);
    mesh.assert_equal(&[("a", "local.\"odd \"\"name\""), ("b", "remote.even")]);
    let names = "select string_agg(relname || ' ' || relkind::text, ',' order by relname) from pg_class \
                 where relnamespace = 'remote'::regnamespace and relkind in ('r', 'p', 'i', 'I') and relname not like '%pkey'";
    assert_eq!(mesh.node("b").sql(names), "even r,loc_index_2 I,loc_part r,loc_part_index i,rmt_test p,rmt_test_to r");
    assert_eq!(mesh.node("b").sql("select col_description('remote.rmt_test'::regclass, 2)"), "of local.loc_test");
    // A name that a rule has for itself is another name elsewhere.
    let refused = c.fails("alter table loc_test rename to loc_other");
    assert!(refused.state == "0A000" && refused.hint.is_some(), "{refused:?}");
    c.ok("alter table loc_part rename to loc_part_2; drop table loc_part_2; drop table loc_test, loc_test_to, local.\"odd \"\"name\"");
    mesh.settle();
    assert_eq!(mesh.node("b").sql(names), "");
    assert_eq!(
        mesh.node("b")
            .sql("select count(*) from pg_class where relnamespace = 'local'::regnamespace and relkind = 'r'"),
        "0"
    );
}

#[test]
fn what_cannot_travel_is_refused_or_runs_here_alone() {
    let rules = "[[table]]\nname = \"public.warned\"\nunreplicable = \"warn\"\n[[table]]\nname = \"public.alone\"\nddl = \"local\"\n\
        [[table]]\nname = \"public.fixed\"\nddl = \"refuse\"\n[[table]]\nname = \"public.t*\"\n";
    let mesh = pair(rules);
    let mut c = mesh.client("a");
    c.ok("create table t (id int primary key, v text); create table warned (id int primary key); create index i on t (v)");
    for (sql, hint) in [
        ("create index concurrently on t (v)", "Leave CONCURRENTLY out"),
        ("drop index concurrently i", "Leave CONCURRENTLY out"),
        ("create table t2 as select 1 a", "CREATE TABLE and then INSERT ... SELECT"),
        ("select 1 a into t2", "CREATE TABLE and then INSERT ... SELECT"),
        ("alter table t rename to other", "ddl = \"local\""),
        ("alter table t add column at timestamptz default now()", "UPDATE the rows"),
        ("create table fixed (id int)", "ddl = \"replicate\""),
        ("drop schema public cascade", "DROP the replicated tables"),
    ] {
        let failure = c.fails(sql);
        assert!(
            failure.state == "0A000" && failure.hint.as_deref().unwrap_or_default().contains(hint),
            "{sql}: {failure:?}"
        );
        // Whatever the protocol, nothing is left behind.
        assert_eq!(c.try_bound(sql, &[]).failure().map(|f| f.state).as_deref(), Some("0A000"), "{sql}");
    }
    assert_eq!(c.ok("create index concurrently on warned (id)").shape(), "NCZ");
    assert_eq!(
        c.ok("create table alone (id int); create temp table t (id int); insert into t values (1); drop table t")
            .failure(),
        None
    );
    c.ok("create table unruled (id int); ");
    c.ok("create index concurrently on unruled (id)");
    c.ok("drop table unruled");
    c.ok("alter table t rename to t_renamed; insert into t_renamed values (1, 'x'); alter table t_renamed rename to t");
    mesh.assert_all_equal("t");
    let tables = "select string_agg(relname, ',' order by relname) from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'";
    assert_eq!([mesh.node("a").sql(tables), mesh.node("b").sql(tables)], ["alone,t,warned", "t,warned"]);
    assert_eq!(mesh.node("b").sql("select count(*) from pg_index where indrelid = 'warned'::regclass"), "1");
}

#[test]
fn a_table_belongs_to_the_same_role_on_every_node() {
    let mesh = pair("[[table]]\nname = \"public.owned*\"\n");
    let b = mesh.node("b");
    for node in ["a", "b"] {
        mesh.node(node).sql(
            "do $$ begin create role owner_ddl login; exception when duplicate_object then null; end $$; \
            grant create on schema public to owner_ddl; grant owner_ddl to applier",
        );
    }
    mesh.node("a").sql("do $$ begin create role stranger_ddl login; exception when duplicate_object then null; end $$; grant create on schema public to stranger_ddl");
    let mut c = mesh.node("a").client_as("owner_ddl");
    c.ok("create table owned (id int primary key, v text); insert into owned values (1, 'x')");
    mesh.node("a").client_as("postgres").ok("alter table owned add column by_another int default 1");
    mesh.node("a").client_as("stranger_ddl").ok("create table owned_by_nobody (id int primary key)");
    mesh.assert_all_equal("owned");
    let owner =
        |table: &str| b.sql(&format!("select pg_get_userbyid(relowner) from pg_class where relname = '{table}'"));
    assert_eq!([owner("owned"), owner("owned_by_nobody")], ["owner_ddl", "applier"]);
    // Where a right is missing it waits, and says so.
    b.sql("revoke create on schema public from owner_ddl");
    c.ok("create table owned_too (id int primary key); insert into owned_too values (1)");
    let said = "select sqlstate, message, dst_query from pgcanon.sync_err_rec where sqlstate is not null";
    eventually("the rejection", || (!mesh.node("a").sql(said).is_empty()).then_some(()));
    assert_eq!(
        mesh.node("a").sql(said),
        "42501|permission denied for schema public|-- with DateStyle = ISO, MDY; IntervalStyle = postgres; TimeZone = UTC; \
         search_path = \"public\"; role = owner_ddl\ncreate table \"public\".\"owned_too\" (id int primary key);"
    );
    b.sql("grant create on schema public to owner_ddl");
    mesh.assert_all_equal("owned_too");
}

#[test]
fn ddl_waits_in_the_queue_like_everything_else() {
    let mesh = pair_of(
        "[[table]]\nname = \"public.t\"\nrename = { b = \"public.u\" }\n[[table]]\nname = \"public.*\"\n",
        PUBLIC,
    );
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    let mut c = mesh.client("a");
    c.ok("create table t (id int primary key, v text); create table other (id int primary key)");
    mesh.settle();
    // Somebody has done there by hand what comes now.
    b.sql("alter table u add column x int default 0");
    c.ok("begin; insert into t values (1, 'x'); alter table t add column x int default 0; insert into t values (2, 'y', 5); commit");
    c.ok("create index t_x on t (x); alter table t add column z int references other");
    c.ok("insert into t values (3, 'z', 6, null)");
    let stuck = "select id from pgcanon.sync_err_rec where sqlstate = '42701'";
    eventually("the rejection", || (!a.sql(stuck).is_empty()).then_some(()));
    eventually("the rest to wait", || (a.sql("select count(*) from pgcanon.sync_err_rec") == "6").then_some(()));
    let shown = a.sql("select string_agg(regexp_replace(dst_query, '-- with.*\n', ''), ' ' order by id) from pgcanon.sync_err_rec where dst_query ~ 'alter|create'");
    assert_eq!(
        shown,
        r#"alter table "public"."u" add column x int default 0; create index t_x on "public"."u" (x); alter table "public"."u" add column z int references "public"."other";"#
    );
    let console = |sql: &str| {
        let mut psql = proxy::psql("127.0.0.1", a.proxy.console_port());
        let output = proc::output(psql.args(["-Atc", sql]), PATIENCE);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(console(&format!("select skip_sync_err_rec({})", a.sql(stuck))), "t");
    mesh.assert_equal(&[("a", "t"), ("b", "u")]);
    eventually("nothing to wait", || (a.sql("select count(*) from pgcanon.sync_err_rec") == "0").then_some(()));
    assert_eq!(b.sql("select string_agg(id || ':' || x, ' ' order by id) from u"), "1:0 2:5 3:6");
    let dump = node::output(&["journal", "dump", "--config"], &a.config());
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("alter table public.t add column z int references public.other;"), "{dump}");
}
