//! `delivery = "ack"` (§7): whoever has been answered finds the change on the peers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::cluster::Stop;
use crate::common::msg::{bind, execute, parse, query, sync};
use crate::common::{Cluster, Pg};
use crate::mesh::{Member, Mesh, server};

const TABLES: &str = "create table t (id int primary key, v text); create table other (id int primary key)";

fn pair(wait: &str) -> (Mesh, Arc<Cluster>) {
    let rule = format!(
        "[[table]]\nname = \"public.t\"\ndelivery = \"ack\"\nack_timeout = \"{wait}\"\n\n[[table]]\nname = \"public.*\"\n"
    );
    let hurt = Arc::new(Cluster::start(Pg::V15, "max_connections = 50\n", ""));
    let a = Member::new("a", server(Pg::V15, 'a'), TABLES, &rule);
    let b = Member::new("b", hurt.clone(), TABLES, "[[table]]\nname = \"public.*\"\n");
    (Mesh::start(vec![a, b]), hurt)
}

#[test]
fn the_answer_comes_when_the_peer_has_it() {
    let (mesh, _b) = pair("60s");
    let mut c = mesh.client("a");
    let mut there = mesh.node("b").direct();
    let mut on_b = |sql: &str| there.ok(sql).value();
    for n in 1..=20 {
        // Alone, in a block, among others in one query, by the extended protocol, and as rows.
        assert_eq!(c.ok(&format!("insert into t values ({n}, 'x')")).shape(), "CZ");
        assert_eq!(on_b("select max(id) from t"), n.to_string());
        c.ok("begin");
        c.ok(&format!("update t set v = 'block {n}' where id = {n}"));
        assert_eq!(on_b(&format!("select v from t where id = {n}")), "x");
        c.ok("commit");
        assert_eq!(on_b(&format!("select v from t where id = {n}")), format!("block {n}"));
        let answer = c.ok(&format!("update t set v = 'many' where id = {n}; insert into other values ({n}); select 7"));
        assert_eq!(
            (answer.shape().as_str(), on_b("select v from t order by id desc limit 1").as_str()),
            ("CCTDCZ", "many")
        );
        let id = n.to_string();
        c.send(&[
            parse("", "update t set v = random()::text where id = $1", &[]),
            bind("", "", &[Some(id.as_bytes())]),
            execute("", 0),
            sync(),
        ]);
        let here = c.ok(&format!("select v from t where id = {n}")).value();
        assert_eq!(on_b(&format!("select v from t where id = {n}")), here);
    }
    // What changes nothing, or fails, waits for nobody.
    let began = Instant::now();
    c.ok("update t set v = '' where id = -1");
    c.fails("insert into t values (1, 'dup')");
    c.ok("begin; insert into t values (1000, 'x'); rollback");
    assert!(began.elapsed() < Duration::from_secs(30), "an answer that waited for nothing");
    // Nobody can have what is only prepared.
    c.ok("begin; insert into t values (1500, 'prepared')");
    c.ok("prepare transaction 'later'");
    assert!(began.elapsed() < Duration::from_secs(30), "PREPARE TRANSACTION that waited for the peer");
    c.ok("commit prepared 'later'");
    // What the client sends ahead is answered in its order.
    c.send(&[query("insert into t values (2000, 'a')"), query("insert into t values (2001, 'b')")]);
    c.send(&[]);
    assert_eq!(on_b("select count(*) from t where id >= 2000"), "2");
}

#[test]
fn a_peer_that_is_away_is_warned_of() {
    let (mesh, b) = pair("500ms");
    let mut c = mesh.client("a");
    assert_eq!(c.ok("insert into t values (1, 'x')").shape(), "CZ");
    b.stop(Stop::Immediate);
    assert_eq!(c.ok("insert into t values (2, 'x')").shape(), "CNZ");
    assert_eq!(c.ok("insert into other values (1)").shape(), "CZ", "nobody waits for this table");
    c.ok("begin");
    c.ok("insert into t values (3, 'x')");
    assert_eq!(c.ok("commit").shape(), "CNZ");
    b.restart();
    mesh.assert_all_equal("t");
}
