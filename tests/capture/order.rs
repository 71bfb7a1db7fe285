//! Races built to break the order: what one transaction saw of another must come behind it in the journal, for one proxy and two.

use crate::common::eventually;
use crate::common::node::{Node, PUBLIC};
use crate::common::rng::{Rng, seed};
use crate::common::session::Session;
use crate::common::{Addr, Pg, proc};

/// Runs a race on a node with one proxy, and on one with two; the rows that it leaves are those that the journal makes.
fn race(tables: &str, run: impl Fn(&Node, &[Addr; 2])) {
    for (pg, proxies) in [(Pg::V15, 1), (Pg::V15, 2), (Pg::V18, 2)] {
        let node = Node::start(pg, tables, PUBLIC);
        let second = (proxies == 2).then(|| node.second_proxy());
        let ways = [node.proxy.tcp(), second.as_ref().map_or_else(|| node.proxy.unix(), |proxy| proxy.tcp())];
        run(&node, &ways);
        node.assert_replays();
    }
}

/// So many clients at once, on both ways in turn, each with its own chance.
fn clients(node: &Node, ways: &[Addr; 2], count: u64, seed: u64, life: impl Fn(u64, &mut Session, &mut Rng) + Sync) {
    let rng = Rng::new(seed);
    std::thread::scope(|scope| {
        for n in 0..count {
            let (mut own, life) = (rng.fork(n), &life);
            scope.spawn(move || life(n, &mut node.client_at(&ways[n as usize % 2]), &mut own));
        }
    });
}

/// Runs until nothing fails that only two clients at once can make fail.
fn retried(c: &mut Session, sql: &str) {
    loop {
        match c.run(sql).failure() {
            None => return,
            Some(failure) => assert!(["40001", "40P01"].contains(&failure.state.as_str()), "{sql}: {failure:?}"),
        }
        c.run("rollback");
    }
}

fn ticks(node: &Node) -> u64 {
    node.sql("select coalesce(max(id), 0) from pgcanon.tick").parse().expect("a number")
}

#[test]
fn updates_of_one_row() {
    let tables =
        "create table t (id int primary key, n bigint default 1, v text default ''); insert into t values (1), (2)";
    race(tables, |node, ways| {
        clients(node, ways, 8, seed("updates"), |n, c, rng| {
            for _ in 0..60 {
                let (id, by) = (rng.below(2) + 1, n + 1);
                match rng.below(3) {
                    0 => c.ok(&format!("update t set n = (n * 3 + {by}) % 1000003 where id = {id}")), // order shows
                    1 => c.ok(&format!("update t set v = right(v || '{n}', 40) where id = {id}")),
                    _ => c.ok(&format!("update t set v = right(v || random()::text, 40) where id = {id}")),
                };
            }
        });
    });
}

#[test]
fn update_against_delete_and_insert() {
    let tables = "create table t (id int primary key, v text); insert into t values (1), (2), (3)";
    race(tables, |node, ways| {
        clients(node, ways, 12, seed("delete"), |_, c, rng| {
            for n in 0..60 {
                let id = rng.below(3) + 1;
                let sql = match rng.below(6) {
                    0 => format!("delete from t where id = {id}"),
                    1 => format!("insert into t values ({id}, '{n}')"),
                    2 => format!("update t set v = v || '{n}' where id = {id}"),
                    3 => format!(
                        "insert into t values ({id}, random()::text) on conflict (id) do update set v = excluded.v"
                    ),
                    4 => "delete from t where random() < 0.5".to_owned(),
                    _ => "update t set v = random()::text".to_owned(),
                };
                if let Some(failure) = c.run(&sql).failure() {
                    assert!(["23505", "40P01"].contains(&failure.state.as_str()), "{sql}: {failure:?}");
                }
            }
        });
    });
}

#[test]
fn parents_and_children() {
    let tables = "create table p (id int primary key, v text);
        create table k (id int primary key, p int references p on delete cascade);
        create table l (id int primary key, p int references p deferrable initially deferred)";
    race(tables, |node, ways| {
        clients(node, ways, 12, seed("foreign keys"), |n, c, rng| {
            for _ in 0..60 {
                let (p, k) = (rng.below(4), n * 10 + rng.below(3));
                let sql = match rng.below(8) {
                    0 => format!("insert into p values ({p}, 'p')"),
                    1 => format!("insert into p values ({p}, random()::text) on conflict do nothing"),
                    2 => format!("delete from p where id = {p}"),
                    3 => format!("insert into k values ({k}, {p})"),
                    4 => format!("insert into k values ({k}, {p}) on conflict (id) do update set p = excluded.p"),
                    5 => format!("insert into l values ({k}, {p}) on conflict (id) do nothing"),
                    6 => format!("delete from l where id = {k}"),
                    _ => format!("update k set p = {p} where id = {k}"),
                };
                if let Some(failure) = c.run(&sql).failure() {
                    let expected = ["23503", "23505", "40P01"].contains(&failure.state.as_str());
                    assert!(expected, "{sql}: {failure:?}");
                }
            }
        });
    });
}

#[test]
fn unique_values_handed_on() {
    let tables = "create table u (id int primary key, n int unique); insert into u select i, i from generate_series(1, 4) i;
        create table d (id int primary key, n int unique deferrable initially deferred); insert into d select i, i from generate_series(1, 4) i;";
    race(tables, |node, ways| {
        clients(node, ways, 8, seed("unique"), |n, c, rng| {
            for _ in 0..50 {
                let (a, b, free) = (rng.below(4) + 1, rng.below(4) + 1, 100 + n);
                let sql = match rng.below(6) {
                    0 => format!("update u set n = {a} where id = {b}"),
                    1 => format!("delete from u where n = {a}"),
                    2 => format!("insert into u values ({a}, {b}) on conflict do nothing"),
                    3 => format!("update u set n = {free} where id = {a}"),
                    4 => format!(
                        "begin; update d set n = {free} where id = {a}; update d set n = {a} where id = {b}; commit"
                    ),
                    _ => format!("update d set n = case id when {a} then {b} else {a} end where id in ({a}, {b})"),
                };
                let answer = c.run(&sql);
                if let Some(failure) = answer.failure() {
                    assert!(["23505", "40P01"].contains(&failure.state.as_str()), "{sql}: {failure:?}");
                    c.run("rollback");
                }
            }
        });
    });
}

#[test]
fn long_transactions_across_many_ticks() {
    let tables = "create table t (id int primary key, n bigint default 1); insert into t select generate_series(1, 20);
                  create table busy (id int primary key, n int default 0); insert into busy values (1), (2)";
    race(tables, |node, ways| {
        clients(node, ways, 8, seed("long"), |n, c, rng| {
            for round in 0..4 {
                if n < 4 {
                    // long ones: they meet each other and the short ones on the same rows
                    retried(c, "begin");
                    let mut failed = false;
                    for _ in 0..4 {
                        let id = rng.below(20) + 1;
                        failed |= c
                            .run(format!("update t set n = (n * 3 + {n}) % 1000003 where id = {id}"))
                            .failure()
                            .is_some();
                        let now = ticks(node);
                        let mut busy = node.client_at(&ways[0]);
                        for _ in 0..2 {
                            busy.ok(&format!("update busy set n = n + 1 where id = {}", n % 2 + 1));
                        }
                        eventually("the ticks to go on beside a long transaction", || {
                            (ticks(node) > now).then_some(())
                        });
                    }
                    let end = if round == 1 { "rollback" } else { "commit" };
                    let answer = c.run(end);
                    assert_eq!(answer.tags() == ["COMMIT"], !failed && end == "commit", "{answer:?}");
                } else {
                    for _ in 0..10 {
                        let id = rng.below(20) + 1;
                        retried(c, &format!("update t set n = (n * 5 + {n}) % 1000003 where id = {id}"));
                    }
                }
            }
        });
    });
}

#[test]
fn two_phase_commit_that_comes_late() {
    let tables = "create table t (id int primary key, v text); insert into t select i, '' from generate_series(1, 9) i";
    race(tables, |node, ways| {
        let mut c = node.client_at(&ways[0]);
        let name = format!("{}_late", node.database);
        c.ok("begin; update t set v = 'prepared' where id in (1, 2); insert into t values (50, 'prepared'); delete from t where id = 9");
        c.ok(&format!("prepare transaction '{name}'"));
        // Those that touch its rows wait for it; the others go on, and the ticks with them.
        let waiting: Vec<_> = [
            "update t set v = v || ' after' where id = 1",
            "insert into t values (9, 'again')",
            "update t set v = v || random()::text where id = 2",
            "insert into t values (50, 'late') on conflict (id) do update set v = t.v || '!'",
        ]
        .into_iter()
        .enumerate()
        .map(|(n, sql)| {
            let mut client = node.client_at(&ways[n % 2]);
            std::thread::spawn(move || client.ok(sql))
        })
        .collect();
        let stuck =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        eventually("four clients to wait", || (node.sql(stuck) == "4").then_some(()));
        let now = ticks(node);
        for n in 0..20 {
            c.ok(&format!("update t set v = '{n}' where id = {}", n % 5 + 3));
            if n % 5 == 0 {
                let (before, mut other) = (ticks(node), node.client_at(&ways[1]));
                other.ok(&format!("update t set v = 'other {n}' where id = 8"));
                eventually("another tick", || (ticks(node) > before).then_some(()));
            }
        }
        assert!(ticks(node) > now);
        c.ok(&format!("commit prepared '{name}'"));
        waiting.into_iter().for_each(|client| drop(client.join().expect("a client that waited")));
        assert_eq!(node.sql("select v from t where id = 1"), "prepared after");
    });
}

#[test]
fn a_large_transaction_beside_small_ones() {
    // `make soak` runs it at full size.
    let large = std::env::var("LARGE_MIB").map_or(100, |mib| mib.parse::<u64>().expect("a number")) << 20;
    let tables = "create table big (id int primary key, v text); create table small (id int primary key, n bigint default 1); insert into small values (1), (2)";
    let node = Node::alone(Pg::V15, "max_wal_size = 4GB\n", tables, PUBLIC);
    let row = 8192;
    let rows = large / 2 / row;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut c = node.client();
            c.ok("begin; update small set n = n * 3 % 1000003 where id = 1");
            for part in 0..4 {
                let sql = format!(
                    "insert into big select {part} * {rows} + i, (select string_agg(md5(i::text || j || random()), '') from generate_series(1, {}) j) \
                     from generate_series(1, {}) i",
                    row / 32,
                    rows / 4
                );
                c.ok(&sql);
            }
            let text = "x".repeat(row as usize);
            let lines: Vec<String> = (0..rows).map(|n| format!("{}\t{n}{text}\n", 1_000_000 + n)).collect();
            let lines: Vec<&[u8]> = lines.iter().map(String::as_bytes).collect();
            assert_eq!(c.copy("copy big from stdin", &lines).tags(), [format!("COPY {rows}")]);
            c.ok("commit");
        });
        scope.spawn(|| {
            let mut c = node.client();
            for _ in 0..300 {
                c.ok("update small set n = (n * 7 + 1) % 1000003 where id = 2");
            }
        });
    });
    let entries = node.assert_replays();
    let bytes: usize = entries
        .iter()
        .map(|e| e.data.len() + e.rows.iter().flatten().map(|d| d.value.as_ref().map_or(0, Vec::len)).sum::<usize>())
        .sum();
    assert!(bytes as u64 >= large, "only {bytes} bytes in the journal");
    let peak = proc::peak_memory(node.proxy.pid());
    assert!(peak < 96 * 1024 * 1024, "the proxy took {peak} bytes");
}
