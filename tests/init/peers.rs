//! `pgcanon check` tells whether what `init` has to do on the other nodes is done.

use crate::common::{Cluster, free_port};
use crate::{Site, on_15_and_18, sql};

on_15_and_18! {
    check_tells_whether_a_peer_takes_changes,
    check_warns_where_two_nodes_hand_out_the_same_keys,
    check_warns_where_a_peer_has_no_room_for_all_origins,
}

fn check_tells_whether_a_peer_takes_changes(cluster: &Cluster) {
    cluster.psql("create database there");
    cluster.psql("create role canon login");
    let with_peer = |port: u16, database: &str| {
        let connect = format!("host=127.0.0.1 port={port} dbname={database} user=canon");
        let rules = format!("[[peer]]\nname = \"b\"\nconnect = \"{connect}\"\n");
        Site::new(cluster, "user=postgres dbname=postgres", &rules)
    };
    let here = with_peer(cluster.port(), "there");

    let out = here.run("check", &[]).code(1);
    assert!(out.contains("FAILED  peer b: relation \"pgcanon.progress\" does not exist"), "{out}");
    Site::new(cluster, "user=postgres dbname=there", "").init(&[]).code(0);
    let out = here.run("check", &[]).code(1);
    assert!(out.contains("permission denied") && out.contains("GRANT pgcanon_apply TO canon"), "{out}");
    cluster.psql("grant pgcanon_apply to canon");
    let out = here.run("check", &[]).code(0);
    assert!(out.contains("ok      peer b: takes changes from role canon\n"), "{out}");

    let out = with_peer(cluster.port(), "postgres").run("check", &[]).code(1);
    assert!(out.contains("FAILED  peer b: `connect` leads to this node itself\n"), "{out}");
    // One that is away need not be away later.
    let out = with_peer(free_port(), "there").run("check", &[]).code(0);
    assert!(out.contains("warning peer b: cannot connect to 127.0.0.1:"), "{out}");
}

/// A node of two, with its own database.
fn one_of_two(cluster: &Cluster, name: &str, peer: &str, rules: &str) -> Site {
    let (socket, port) = (cluster.socket_dir().display(), cluster.port());
    Site::with(&format!(
        "[node]\nname = \"{name}\"\nserver = \"host={socket} port={port}\"\ncontrol = \"user=postgres dbname={name}\"\n\
         [[peer]]\nname = \"{peer}\"\nconnect = \"host=127.0.0.1 port={port} dbname={peer} user=canon\"\n{rules}"
    ))
}

fn check_warns_where_two_nodes_hand_out_the_same_keys(cluster: &Cluster) {
    cluster.psql("create role canon login");
    let on = |node: &str, text: &str| sql(cluster, node, "postgres", text).unwrap_or_else(|e| panic!("{e}"));
    // No two nodes can make the same of any of these but the first.
    let others = "create table uuids (id uuid primary key default gen_random_uuid());
        create table unkeyed (nr serial, id int primary key);
        create table unsent (id int primary key, nr serial unique)";
    for (node, orders) in [("a", "orders"), ("b", "bestellung")] {
        cluster.psql(&format!("create database {node}"));
        on(node, &format!("create table {orders} (id serial primary key, note text); {others}"));
    }
    let rest = "[[table]]\nname = \"public.unsent\"\ncolumns = [\"id\"]\n[[table]]\nname = \"public.*\"\n";
    let rule = |here: &str, peer: &str, there: &str| {
        format!("[[table]]\nname = \"public.{here}\"\nrename = {{ {peer} = \"public.{there}\" }}\n{rest}")
    };
    let a = one_of_two(cluster, "a", "b", &rule("orders", "b", "bestellung"));
    let b = one_of_two(cluster, "b", "a", &rule("bestellung", "a", "orders"));
    for site in [&a, &b] {
        site.init(&[]).code(0);
    }
    cluster.psql("grant pgcanon_apply to canon");

    let out = a.run("check", &[]).code(0);
    let told = "warning peer b: both nodes will hand out the same keys for public.orders.id (public.bestellung there): \
        public.orders_id_seq (INCREMENT 1, at 1) here, public.bestellung_id_seq (INCREMENT 1, START 1) there; unless \
        applications write on one of them only: `pgcanon init --sequences` on both\n";
    assert!(out.contains(told), "{out}");
    assert_eq!(out.matches("same keys").count(), 1, "{out}");
    // On one node alone it is no use.
    a.init(&["--sequences"]).code(0);
    assert!(a.run("check", &[]).code(0).contains("(INCREMENT 2, at 1) here"));
    b.init(&["--sequences"]).code(0);
    for (site, peer) in [(&a, "b"), (&b, "a")] {
        let out = site.run("check", &[]).code(0);
        let apart = out.contains(&format!("ok      peer {peer}: hands out other keys than this node\n"));
        assert!(apart && !out.contains("same keys"), "{out}");
    }
    // Where it stands, and not where it once began, says what it hands out; who may not read it sees the latter.
    on("b", "alter sequence bestellung_id_seq restart with 7");
    assert!(!a.run("check", &[]).code(0).contains("same keys"));
    on("b", "grant select on sequence bestellung_id_seq to canon");
    let out = a.run("check", &[]).code(0);
    assert!(out.contains("(INCREMENT 2, at 1) here, public.bestellung_id_seq (INCREMENT 2, at 7) there"), "{out}");
    // Only this node has one: it makes all keys.
    on("b", "alter table bestellung alter id drop default; drop sequence bestellung_id_seq");
    let out = a.run("check", &[]).code(0);
    assert!(!out.contains("same keys") && !out.contains("other keys"), "{out}");
}

fn check_warns_where_a_peer_has_no_room_for_all_origins(cluster: &Cluster) {
    cluster.psql("create database there");
    cluster.psql("create role canon login");
    Site::new(cluster, "user=postgres dbname=there", "").init(&[]).code(0);
    cluster.psql("grant pgcanon_apply to canon");
    let with_peers = |peers: &[&str], conflict: &str| {
        let peer = |name: &&str| {
            let connect = format!("host=127.0.0.1 port={} dbname=there user=canon", cluster.port());
            format!("[[peer]]\nname = \"{name}\"\nconnect = \"{connect}\"\n")
        };
        let peers: String = peers.iter().map(peer).collect();
        let rules = format!("{peers}[[table]]\nname = \"public.*\"\n{conflict}\n");
        Site::new(cluster, "user=postgres dbname=postgres", &rules)
    };
    let setting = match cluster.psql("select current_setting('server_version_num')::int >= 180000").as_str() {
        "t" => "max_active_replication_origins",
        _ => "max_replication_slots",
    };
    let told = |needs: i64| {
        format!(
            "{setting} is 10, and 4 nodes that settle conflicts need {needs} (with those that others have made there), or \
             changes will wait for room: ALTER SYSTEM SET {setting} = {needs}, and restart that server\n"
        )
    };
    // The server keeps no times, which is a failure of its own.
    let timed = "conflict = { resolve = \"last\" }";
    let out = with_peers(&["b", "c", "d"], timed).run("check", &[]).code(1);
    assert!(out.contains(&format!("warning peer d: {}", told(12))), "{out}");
    assert!(out.contains(&format!("warning this node: {}", told(12))), "{out}");
    cluster.psql("select pg_replication_origin_create('of another')");
    let out = with_peers(&["b", "c", "d"], timed).run("check", &[]).code(1);
    assert!(out.contains(&told(13)), "{out}");
    let out = with_peers(&["b", "c"], timed).run("check", &[]).code(1);
    assert!(!out.contains(setting), "{out}");
    let by_column = "conflict = { resolve = \"last\", by = \"column:n\" }";
    let out = with_peers(&["b", "c", "d"], by_column).run("check", &[]).code(0);
    assert!(!out.contains(setting), "{out}");
}
