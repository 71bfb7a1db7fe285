//! SIGTERM and SIGINT: what a client has begun it may finish, up to a second signal or the deadline.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::raw::Got;
use crate::common::{Client, Cluster, Pg, Proxy, eventually, msg};
use crate::{backends, closed, named, told_to_go};

const LONG: &str = "[node]\ndrain_timeout = \"10min\"\nlogin_timeout = \"10min\"\n";

/// Watches for a while that nothing comes.
fn stays(client: &mut Client) {
    let got = client.frame_within(Duration::from_millis(250));
    assert!(matches!(got, Got::Nothing), "{got:?}");
}

#[test]
fn idle_sessions_end_at_once_and_a_transaction_may_commit() {
    for signal in [Signal::TERM, Signal::INT] {
        let cluster = Cluster::shared(Pg::V15);
        let table = format!("drained_{}", signal.as_raw());
        cluster.psql(&format!("create table {table} (a int)"));
        let proxy = Proxy::start(&cluster, LONG);
        let mut idle = [Client::login(&proxy.tcp()), Client::login(&proxy.unix())];
        let mut failed = Client::login(&proxy.tcp());
        failed.query("begin");
        failed.query("select 1/0");
        let mut busy = Client::login(&proxy.unix());
        busy.query("begin");

        proxy.signal(signal);
        idle.iter_mut().for_each(told_to_go);
        [&mut busy, &mut failed].into_iter().for_each(stays);
        proxy.wait_log("draining");
        eventually("the listeners to be closed", || Client::try_connect(&proxy.tcp()).is_err().then_some(()));
        assert!(Client::try_connect(&proxy.unix()).is_err());

        busy.query(&format!("insert into {table} values (1)"));
        assert_eq!(busy.query("commit")[0].command(), "COMMIT");
        told_to_go(&mut busy);
        failed.query("rollback");
        told_to_go(&mut failed);
        assert_eq!(proxy.wait_exit().code(), Some(0), "{}", proxy.log());
        assert_eq!(cluster.psql(&format!("select count(*) from {table}")), "1");
        assert!(proxy.log().contains("stopped"));
    }
}

#[test]
fn a_running_statement_gets_its_answer() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, LONG);
    let mut client = named(Client::login(&proxy.tcp()), "drain statement");
    client.send(&msg::query("select pg_sleep(0.5)"));
    let running = "select 1 from pg_stat_activity where application_name = 'drain statement' and state = 'active'";
    eventually("the statement to run", || (cluster.psql(running) == "1").then_some(()));
    proxy.signal(Signal::TERM);
    let tags: Vec<u8> = client.until_ready().iter().map(|frame| frame.tag).collect();
    assert_eq!(tags, b"TDCZ");
    told_to_go(&mut client);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn an_implicit_transaction_ends_with_its_sync() {
    let cluster = Cluster::shared(Pg::V15);
    cluster.psql("create table drained_implicit (a int)");
    let proxy = Proxy::start(&cluster, LONG);
    let mut client = Client::login(&proxy.unix());
    let insert = [
        msg::parse("", "insert into drained_implicit values (1)", &[]),
        msg::bind("", "", &[]),
        msg::execute("", 0),
        msg::flush(),
    ];
    client.send(&msg::together(&insert));
    client.until(b'C');
    drains_at_sync(&proxy, &mut client);
    assert_eq!(cluster.psql("select count(*) from drained_implicit"), "1");
}

/// The session stays until its Sync has committed what is open, and is told to go then.
fn drains_at_sync(proxy: &Proxy, client: &mut Client) {
    proxy.signal(Signal::TERM);
    stays(client);
    client.send(&msg::sync());
    client.until_ready();
    told_to_go(client);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_copy_in_the_extended_protocol_ends_with_its_sync() {
    let cluster = Cluster::shared(Pg::V15);
    cluster.psql("create table drained_copy (a int)");
    let proxy = Proxy::start(&cluster, LONG);
    let mut client = Client::login(&proxy.unix());
    // As some drivers do it: a Sync behind Execute, which the COPY swallows.
    let copy =
        [msg::parse("", "copy drained_copy from stdin", &[]), msg::bind("", "", &[]), msg::execute("", 0), msg::sync()];
    client.send(&msg::together(&copy));
    client.until(b'G');
    client.send(&msg::together(&[msg::copy_data("1\n"), msg::copy_done()]));
    client.send(&msg::flush());
    client.until(b'C');
    drains_at_sync(&proxy, &mut client);
    assert_eq!(cluster.psql("select count(*) from drained_copy"), "1");
}

#[test]
fn a_second_signal_ends_now() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, LONG);
    let mut busy = named(Client::login(&proxy.tcp()), "drain now");
    busy.query("begin");
    proxy.signal(Signal::TERM);
    proxy.wait_log("draining");
    proxy.signal(Signal::TERM);
    told_to_go(&mut busy);
    assert_eq!(proxy.wait_exit().code(), Some(0));
    eventually("the backend to end", || (backends(&cluster, "drain now") == "0").then_some(()));
}

#[test]
fn the_deadline_ends_what_is_left() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "[node]\ndrain_timeout = \"300ms\"");
    let mut busy = named(Client::login(&proxy.tcp()), "drain deadline");
    busy.query("begin");
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    told_to_go(&mut busy);
    assert!(start.elapsed() >= Duration::from_millis(300), "it has had its time: {:?}", start.elapsed());
    assert_eq!(proxy.wait_exit().code(), Some(0));
    eventually("the backend to end", || (backends(&cluster, "drain deadline") == "0").then_some(()));
}

/// A server that lets everybody in and answers a query with half a row.
fn halfway() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut buffer = [0; 1000];
                let _startup = socket.read(&mut buffer)?;
                socket.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")?;
                let _query = socket.read(&mut buffer)?;
                socket.write_all(b"D\0\0\x01\0half")?;
                let _end = socket.read(&mut buffer)?;
                Ok(())
            });
        }
    });
    port
}

#[test]
fn nothing_is_put_into_the_middle_of_a_message() {
    let proxy = Proxy::start_for(&format!("host=127.0.0.1 port={} sslmode=disable", halfway()), LONG);
    let mut client = Client::login(&proxy.tcp());
    client.send(&msg::query("select"));
    let half: Vec<Option<u8>> = (0..9).map(|_| client.byte()).collect();
    assert_eq!(half, b"D\0\0\x01\0half".map(Some));
    proxy.signal(Signal::TERM);
    proxy.wait_log("draining");
    proxy.signal(Signal::TERM);
    assert_eq!(client.byte(), None, "an error would be read as part of the row");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_replication_connection_is_waited_for_and_then_closed() {
    let cluster = Cluster::shared(Pg::V15);
    let replication = |proxy: &Proxy| {
        let mut client = Client::connect(&proxy.tcp());
        let params = [("user", "postgres"), ("database", "postgres"), ("replication", "database")];
        client.send(&msg::startup(msg::version(3, 0), &params));
        client.until_ready();
        client.query("IDENTIFY_SYSTEM");
        client
    };
    let proxy = Proxy::start(&cluster, LONG);
    let mut client = replication(&proxy);
    proxy.signal(Signal::TERM);
    proxy.wait_log("draining");
    client.query("IDENTIFY_SYSTEM");
    client.send(&msg::terminate());
    closed(&mut client);
    assert_eq!(proxy.wait_exit().code(), Some(0));

    // Its messages are not looked at, so nothing can be said in between.
    let proxy = Proxy::start(&cluster, "[node]\ndrain_timeout = \"200ms\"");
    let mut client = replication(&proxy);
    proxy.signal(Signal::TERM);
    closed(&mut client);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_connection_that_has_said_nothing_is_not_waited_for() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, LONG);
    let mut silent = [Client::connect(&proxy.tcp()), Client::connect(&proxy.unix())];
    let mut client = Client::login(&proxy.tcp()); // so the others have been accepted, too
    proxy.signal(Signal::TERM);
    told_to_go(&mut client);
    silent.iter_mut().for_each(closed);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_login_ends_with_the_second_signal() {
    // Takes connections and never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = mute.local_addr().expect("an address").port();
    let server = format!("host=127.0.0.1 port={port} sslmode=disable");
    let proxy = Proxy::start_for(&server, &format!("{LONG}connect_timeout = \"10min\"\n"));
    let mut client = Client::connect(&proxy.tcp());
    client.send(&msg::startup(msg::version(3, 0), &[("user", "postgres")]));
    // One connection looks whether the server is there, the other is the session's.
    let mut held = Vec::new();
    eventually("the session to reach the server", || {
        let (mut socket, _) = mute.accept().expect("a connection");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set a time limit");
        let startup = std::io::Read::read(&mut socket, &mut [0; 8]).is_ok_and(|n| n == 8);
        held.push(socket);
        startup.then_some(())
    });
    proxy.signal(Signal::TERM);
    proxy.wait_log("draining");
    proxy.signal(Signal::TERM);
    closed(&mut client);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}
