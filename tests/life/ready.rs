//! `/healthz`, `/readyz`, `/metrics`, and a server that is not there yet.

use std::process::Command;

use crate::common::cluster::{PG15_BIN, Stop};
use crate::common::{Client, Cluster, PATIENCE, Pg, Proxy, eventually, msg, proc};
use crate::{closed, said, try_login};

/// What `pg_isready` makes of the proxy: 0 accepting, 1 rejecting, 2 no response.
fn pg_isready(proxy: &Proxy) -> Option<i32> {
    let mut command = Command::new(format!("{PG15_BIN}/pg_isready"));
    command.args(["-h", "127.0.0.1", "-p", &proxy.port().to_string()]);
    proc::output(&mut command, PATIENCE).status.code()
}

#[test]
fn a_proxy_starts_before_its_server_and_serves_when_that_is_up() {
    let cluster = Cluster::start(Pg::V15, "", "");
    for overrides in ["", "[node]\ncontrol = \"user=postgres dbname=postgres\""] {
        cluster.stop(Stop::Fast);
        let proxy = Proxy::start(&cluster, overrides);
        proxy.wait_log("the server cannot be reached");
        assert_eq!(proxy.http("/healthz"), (200, "ok\n".into()), "the process lives, whatever the server does");
        let (status, why) = proxy.http("/readyz");
        assert_eq!(status, 503, "{why}");
        assert!(why.starts_with("not ready: "), "{why}");
        let refused = try_login(&proxy.tcp()).expect_err("there is no server");
        assert_eq!(said(&refused), ("57P03".into(), "the proxy cannot reach the database server".into()));
        assert_eq!(pg_isready(&proxy), Some(1), "rejecting, so that clients try again");

        cluster.restart();
        proxy.wait_log("the server can be reached");
        eventually("the proxy to be ready", || (proxy.http("/readyz") == (200, "ready\n".into())).then_some(()));
        assert_eq!(pg_isready(&proxy), Some(0));
        Client::login(&proxy.tcp()).query("select 1");

        cluster.stop(Stop::Fast);
        eventually("the proxy to notice", || (proxy.http("/readyz").0 == 503).then_some(()));
        cluster.restart();
        eventually("the proxy to be ready again", || (proxy.http("/readyz").0 == 200).then_some(()));
    }
}

#[test]
fn counters_move() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "[[allow]]\nuser = \"postgres\"");
    for name in ["pgcanon_sessions", "pgcanon_logins_total", "pgcanon_client_bytes_total", "pgcanon_server_bytes_total"]
    {
        assert_eq!(proxy.metric(name), 0.0, "{name}");
    }
    let mut client = Client::connect(&proxy.unix());
    client.send(&msg::startup(msg::version(3, 0), &[("user", "postgres"), ("database", "postgres")]));
    let key = client.until_ready().iter().find(|frame| frame.tag == b'K').expect("a key").key();
    client.query("select repeat('x', 1000)");
    assert_eq!(proxy.metric("pgcanon_sessions"), 1.0);
    assert_eq!(proxy.metric("pgcanon_logins_total"), 1.0);
    assert_eq!(proxy.metric("pgcanon_client_bytes_total"), msg::query("select repeat('x', 1000)").len() as f64);
    // Counted after they are sent, by another thread than the one that is asked.
    eventually("the answer to be counted", || (proxy.metric("pgcanon_server_bytes_total") > 1000.0).then_some(()));

    let mut other = Client::connect(&proxy.tcp());
    other.send(&msg::cancel(key.0, &key.1));
    closed(&mut other);
    assert_eq!(proxy.metric("pgcanon_cancel_requests_total"), 1.0);

    let mut stranger = Client::connect(&proxy.tcp());
    stranger.send(&msg::startup(msg::version(3, 0), &[("user", "mallory")]));
    assert_eq!(said(&stranger.frame()).0, "28000");
    assert_eq!(proxy.metric("pgcanon_refusals_total{reason=\"allow\"}"), 1.0);

    client.send(&msg::terminate());
    closed(&mut client);
    eventually("the session to be over", || (proxy.metric("pgcanon_sessions") == 0.0).then_some(()));
    assert_eq!(proxy.http("/").0, 404);
    assert!(proxy.metrics().trim_end().ends_with("# EOF"), "whole OpenMetrics text");
}

#[test]
fn a_draining_node_is_not_ready() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "");
    let mut client = Client::login(&proxy.tcp());
    client.query("begin");
    proxy.signal(rustix::process::Signal::TERM);
    proxy.wait_log("draining");
    let status = eventually("an answer", || Some(proxy.http("/readyz")).filter(|(status, _)| *status != 200));
    assert_eq!(status, (503, "not ready: draining\n".into()));
    assert_eq!(proxy.http("/healthz").0, 200, "it is to be left alone until it has ended");
}
