//! What a change may hang on comes before it (§5): an update never reaches a third node before the insert that it saw.

use std::process::Command;
use std::time::Duration;

use crate::common::{Pg, eventually, proc, proxy, within};
use crate::mesh::{Member, Mesh, server};
use crate::settle::{LIMIT, console};

const TABLE: &str = "create table t (id int primary key, v text)";
const RULES: &str = "[[table]]\nname = \"public.*\"\n";

fn three() -> Mesh {
    let member = |name, which| Member::new(name, server(Pg::V15, which), TABLE, RULES);
    Mesh::start(vec![member("a", 'a'), member("b", 'b'), member("c", 'c')])
}

/// What a node's console says of its peers.
fn peers(mesh: &Mesh, node: &str) -> String {
    let mut psql: Command = proxy::psql("127.0.0.1", mesh.node(node).proxy.console_port());
    proc::run(psql.args(["-Atc", "show peers"]), Duration::from_secs(30))
}

fn row(mesh: &Mesh, node: &str) -> String {
    mesh.node(node).sql("select v from t where id = 1")
}

/// Node c lacks what b has written, and a has written over it.
fn overtaken(mesh: &Mesh) {
    mesh.client("c").ok("insert into t values (0, 'all know all')");
    mesh.settle();
    console(mesh, "b", "pause c");
    mesh.client("b").ok("insert into t values (1, 'b')");
    eventually("b's row on a", || (row(mesh, "a") == "b").then_some(()));
    mesh.client("a").ok("update t set v = v || ', then a' where id = 1");
    let waits = "waits for changes of b that came before";
    eventually("a to say what it waits for", || peers(mesh, "a").contains(waits).then_some(()));
    assert_eq!(row(mesh, "c"), "");
}

const GOES_ON: &str = "changes go on without";

#[test]
fn an_update_waits_for_the_insert_that_it_saw() {
    let mesh = three();
    overtaken(&mesh);
    // Who waits does as it is told meanwhile.
    console(&mesh, "a", "pause c");
    assert!(peers(&mesh, "a").contains("|paused|"), "{}", peers(&mesh, "a"));
    console(&mesh, "a", "resume c");
    console(&mesh, "b", "resume c");
    mesh.settle();
    assert_eq!(row(&mesh, "c"), "b, then a");
    assert!(!peers(&mesh, "a").contains("waits for"), "{}", peers(&mesh, "a"));
    assert!(!mesh.node("a").proxy.log().contains(GOES_ON));
    mesh.assert_without_conflict();
}

#[test]
fn a_wait_has_an_end() {
    let mesh = three();
    overtaken(&mesh);
    let gone_on = || mesh.node("a").proxy.log().contains(GOES_ON).then_some(());
    assert!(within(LIMIT, gone_on).is_some(), "{}", mesh.node("a").proxy.log());
    // Without a policy a row that is not there is an error, which is in the queue until the row has come.
    eventually("the update in the queue", || {
        (mesh.node("a").sql("select count(*) from pgcanon.error_queue") == "1").then_some(())
    });
    console(&mesh, "b", "resume c");
    eventually("the update on c", || (row(&mesh, "c") == "b, then a").then_some(()));
}
