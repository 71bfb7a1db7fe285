//! `pgcanon check` tells whether what `init` has to do on the other nodes is done.

use crate::common::{Cluster, free_port};
use crate::{Site, on_15_and_18};

on_15_and_18! { check_tells_whether_a_peer_takes_changes }

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
