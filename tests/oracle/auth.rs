//! Authentication is the server's: every method's messages pass untouched, and so does every refusal.

use std::sync::Arc;

use crate::common::msg::{self, version};
use crate::common::oracle::{Way, same_on, states, tags};
use crate::common::{Cluster, Pg};

const HBA: &str = "\
local all postgres trust
host  all postgres 127.0.0.1/32 trust
local all scram scram-sha-256
host  all scram 127.0.0.1/32 scram-sha-256
local all md5 md5
host  all md5 127.0.0.1/32 md5
local all upgraded md5
host  all upgraded 127.0.0.1/32 md5
local all clear password
host  all clear 127.0.0.1/32 password
local all trusted trust
host  all trusted 127.0.0.1/32 trust
local all refused reject
host  all refused 127.0.0.1/32 reject
local all absent scram-sha-256
host  all absent 127.0.0.1/32 scram-sha-256
";

fn cluster(pg: Pg) -> Arc<Cluster> {
    let cluster = Cluster::start(pg, "", HBA);
    cluster.psql(
        "create role scram login password 'secret \u{00fc}'; create role upgraded login password 'secret';
         create role clear login password 'secret'; create role trusted login; create role refused login;
         create role nologin nologin; create role empty login;
         set password_encryption = md5; create role md5 login password 'secret'",
    );
    Arc::new(cluster)
}

#[test]
fn every_method_lets_in_and_keeps_out() {
    for pg in [Pg::V15, Pg::V18] {
        let way = Way::to(cluster(pg));
        for (user, password) in
            [("scram", "secret \u{00fc}"), ("md5", "secret"), ("upgraded", "secret"), ("clear", "secret")]
        {
            way.same(|c| {
                c.startup(&[("user", user), ("database", "postgres")]);
                c.authenticate(user, password);
                c.ready();
                c.query("select session_user");
                c.send(&msg::terminate());
                c.closed();
            });
            way.same(|c| {
                c.startup(&[("user", user), ("database", "postgres")]);
                c.authenticate(user, "wrong");
                c.closed();
            });
        }
    }
}

#[test]
fn a_trusted_role_is_asked_for_nothing() {
    // The proxy's guard would not let in a role that the server trusts but not everyone: it could be the proxy's own.
    let way = Way::with(cluster(Pg::V15), "allow = [{ trust = true }]");
    way.same(|c| {
        c.startup(&[("user", "trusted"), ("database", "postgres")]);
        c.ready();
        c.query("select session_user");
    });
}

#[test]
fn refusals_are_the_servers_own() {
    let cluster = cluster(Pg::V15);
    let way = Way::to(Arc::clone(&cluster));
    for user in ["refused", "nologin", "empty", "no line for this one"] {
        way.same_where_the_address_shows(|c| {
            c.startup(&[("user", user), ("database", "postgres")]);
            assert_eq!(states(&c.closed()), ["28000"]);
        });
    }
    // a role that is not there is asked for its password all the same, with a salt made up for it
    same_on(Arc::clone(&cluster), |c| {
        c.startup(&[("user", "absent"), ("database", "postgres")]);
        c.authenticate("absent", "whatever");
        c.closed();
    });
}

#[test]
fn answers_out_of_place() {
    let cluster = cluster(Pg::V15);
    for bad in [
        msg::query("select 1"),
        msg::password("not SASL"),
        msg::sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=x"),
        msg::sasl_initial("NONSENSE", b""),
        msg::sasl_initial("SCRAM-SHA-256", b"nonsense"),
        msg::sasl_initial("SCRAM-SHA-256", b"y,,n=,r=x"),
        msg::frame(b'p', b""),
        msg::frame(b'p', &[b'x'; 70_000]),
        msg::terminate(),
        b"p\0\0".to_vec(),
    ] {
        same_on(Arc::clone(&cluster), |c| {
            c.startup(&[("user", "scram"), ("database", "postgres")]);
            assert_eq!(tags(&c.until(b'R')), "R");
            c.send(&bad);
            c.client.finish_writing();
            c.closed();
        });
    }
}

#[test]
fn the_server_gives_up_on_a_client_that_says_nothing() {
    let cluster = Arc::new(Cluster::start(Pg::V15, "authentication_timeout = 1s", HBA));
    cluster.psql("create role clear login password 'secret'");
    same_on(Arc::clone(&cluster), |c| {
        c.startup(&[("user", "clear"), ("database", "postgres")]);
        c.until(b'R');
        c.closed();
    });
    same_on(cluster, |c| {
        c.send(&msg::startup(version(3, 0), &[("user", "clear")])[..6]);
        c.client.finish_writing();
        c.closed();
    });
}
