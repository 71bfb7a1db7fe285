//! The console: what an operator with psql, and a script with a driver, can ask the proxy itself.

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod drivers;
mod metrics;
mod peers;
mod site;
mod users;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

use rustix::process::Signal;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use common::node::Node;
use common::{Cluster, PATIENCE, Pg, Proxy, eventually, proc, proxy};

const CONSOLE: &str = "[node]\nadmin = \"127.0.0.1:0\"\n";

/// Runs psql on the console with one query, unaligned, with the columns' names.
fn psql(proxy: &Proxy, sql: &str) -> Output {
    let mut psql = proxy::psql("127.0.0.1", proxy.console_port());
    psql.args(["-A", "-P", "footer=off", "-v", "VERBOSITY=verbose", "-c", sql]);
    proc::output(&mut psql, PATIENCE)
}

/// What psql printed, without an error.
fn shown(proxy: &Proxy, sql: &str) -> String {
    let output = psql(proxy, sql);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{sql}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The errors psql printed.
fn refused(proxy: &Proxy, sql: &str) -> String {
    let output = psql(proxy, sql);
    assert_eq!(output.stdout, b"", "{sql}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn with_driver(proxy: &Proxy, mut test: impl AsyncFnMut(&Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut config = Config::new();
        config.host("127.0.0.1").port(proxy.console_port()).user("anybody").dbname("anything");
        let (client, connection) = config.connect(NoTls).await.expect("connect to the console");
        tokio::spawn(connection);
        tokio::time::timeout(PATIENCE, test(&client)).await.expect("an answer in time");
    });
}

#[test]
fn psql_sees_what_there_is() {
    let rules = "[[peer]]\nname = \"b\"\nconnect = \"host=127.0.0.1 user=x dbname=y\"\n\
                 [[table]]\nname = \"public.a\"\nwhere = \"n > 0\"\ncolumns = [\"k\", \"n\"]\nrename = { b = \"x.y\" }\n\
                 [[table]]\nname = \"public.*\"\ndelivery = \"ack\"\ntriggers = \"skip\"\n\
                 conflict = { resolve = \"last\", by = \"column:at\", prefer = \"a\" }\n";
    // Rules are for a database that has a journal.
    let tables = "create table a (k int primary key, n int, at timestamptz)";
    let node = Node::start(Pg::V15, tables, rules);
    let control = format!("control = \"user=postgres dbname={}\"\n", node.database);
    let proxy = Proxy::start(&node.cluster, &format!("{CONSOLE}{control}{rules}"));
    assert_eq!(shown(&proxy, "show version"), concat!("version\npgcanon ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(shown(&proxy, "SHOW Lanes;"), "statement|lane|reason|count\n");
    assert_eq!(
        shown(&proxy, "show rules"),
        "rule|table|peers|rename|columns|where|delivery|on_error|triggers|conflict|unreplicable|ddl\n\
         1|public.a||b = x.y|k, n|n > 0|async|stall|||refuse|replicate\n\
         2|public.*|||||ack within 10s|stall|skip|last by column at, prefer a|refuse|replicate\n"
    );
    let mut client = common::Client::login(&proxy.tcp());
    assert_eq!(shown(&proxy, "show sessions"), "open|limit\n1|\n");
    client.query("select 1");
    assert_eq!(shown(&proxy, "show version; show sessions").lines().count(), 4, "two answers to two statements");
}

#[test]
fn an_unknown_command_is_an_error_that_lists_the_known_ones() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), CONSOLE);
    let told = refused(&proxy, "delete from pg_class");
    assert!(told.contains("ERROR:  42601: the console does not know \"delete\""), "{told}");
    assert!(told.contains("HINT:  The console's commands are SHOW CONFIG | CONFLICTS | LANES"), "{told}");
    let told = refused(&proxy, "select * from pg_class");
    assert!(told.contains("ERROR:  42601: the console reads sync_err_rec, and no \"pg_class\""), "{told}");
    with_driver(&proxy, async |client| {
        for sql in ["show nothing", "show version; show version"] {
            let error = client.query(sql, &[]).await.expect_err("no such command");
            assert_eq!(error.code(), Some(&SqlState::SYNTAX_ERROR));
        }
        client.simple_query("show version").await.expect("the console goes on after errors");
    });
}

#[test]
fn drivers_ask_by_the_extended_protocol_in_binary_and_in_their_transactions() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), "[node]\nadmin = \"127.0.0.1:0\"\nmax_connections = 7\n");
    with_driver(&proxy, async |client| {
        client.batch_execute("set extra_float_digits = 3; begin").await.expect("what drivers say by themselves");
        let row = client.query_one("SHOW SESSIONS", &[]).await.expect("one row");
        assert_eq!((row.get::<_, i64>("open"), row.get::<_, i64>("limit")), (0, 7));
        let statement = client.prepare("show lanes").await.expect("prepare");
        assert_eq!(
            statement.columns().iter().map(|c| c.name()).collect::<Vec<_>>(),
            ["statement", "lane", "reason", "count"]
        );
        assert!(client.query(&statement, &[]).await.expect("no lanes yet").is_empty());
        client.batch_execute("commit").await.expect("commit");
        client.query("", &[]).await.expect("an empty query is none");
    });
}

#[test]
fn reload_says_what_changed_and_a_bad_file_changes_nothing() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), CONSOLE);
    let edit = |from: &str, to: &str| {
        let text = std::fs::read_to_string(proxy.config_path()).expect("read the configuration");
        std::fs::write(proxy.config_path(), text.replace(from, to)).expect("write the configuration");
    };
    assert_eq!(shown(&proxy, "reload"), "key|in_force\n");
    edit("[node]\n", "[node]\nmax_connections = 9\nthreads = 2\n");
    assert_eq!(
        shown(&proxy, "RELOAD;"),
        "key|in_force\nnode.max_connections|now, for new sessions\nnode.threads|after a restart\n"
    );
    assert_eq!(shown(&proxy, "show sessions"), "open|limit\n0|9\n");
    edit("max_connections = 9", "max_connections = 10\nnonsense = 1");
    let told = refused(&proxy, "reload");
    assert!(told.contains("ERROR:  F0000: ") && told.contains("nonsense"), "{told}");
    assert!(told.contains("HINT:  Everything stays as it was."), "{told}");
    assert_eq!(shown(&proxy, "show sessions"), "open|limit\n0|9\n");
}

#[test]
fn ticks_are_those_of_the_nodes_journal() {
    let cluster = Cluster::shared(Pg::V15);
    let without = Proxy::start(&cluster, CONSOLE);
    let told = refused(&without, "show ticks");
    assert!(told.contains("55000: the proxy has no connection of its own") && told.contains("Set control"), "{told}");

    cluster.psql("create database console_ticks");
    let control = "[node]\nadmin = \"127.0.0.1:0\"\ncontrol = \"user=postgres dbname=console_ticks\"\n";
    let proxy = Proxy::start(&cluster, control);
    let told = refused(&proxy, "show ticks");
    assert!(told.contains("42P01: ") && told.contains("HINT:  Run `pgcanon init`"), "{told}");
    let mut psql = cluster_psql(&cluster, "console_ticks");
    psql.args([
        "-c",
        "create schema pgcanon; create table pgcanon.tick (id bigint primary key, system bigint, timeline int, \
         snapshot pg_snapshot, deps jsonb, created timestamptz); \
         insert into pgcanon.tick select n, 1, 3, '10:20:11', '{\"b\": 7}', '2026-01-02 03:04:05+00' \
         from generate_series(1, 120) n",
    ]);
    proc::run(&mut psql, PATIENCE);
    let ticks = shown(&proxy, "show ticks");
    assert_eq!(ticks.lines().count(), 101, "the newest hundred");
    let newest = ticks.lines().nth(1).expect("a row");
    assert!(newest.starts_with("120|3|2026-01-02 ") && newest.ends_with("|10:20:11|{\"b\": 7}"), "{newest}");
}

fn cluster_psql(cluster: &Cluster, database: &str) -> std::process::Command {
    let mut psql = proxy::psql(&cluster.socket_dir().display().to_string(), cluster.port());
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-d", database]);
    psql
}

#[test]
fn bytes_that_are_no_messages_end_one_console_only() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), CONSOLE);
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x04",
        b"\0\0\0\x08\0\x03\0\0",
        b"\x16\x03\x01\x00\x05hello",
        b"\0\0\0\x09\0\x03\0\0\0X\0\0\0\x04",
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.console_port())).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
        stream.write_all(bytes).expect("send");
        let _ = stream.shutdown(std::net::Shutdown::Write); // fails where the console was quicker
        let mut answer = Vec::new();
        // An end or a reset, as it likes; but an end.
        if let Err(e) = stream.read_to_end(&mut answer) {
            assert!(
                !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
                "{bytes:?}: {e}"
            );
        }
    }
    assert!(shown(&proxy, "show version").contains("pgcanon"));
}

#[test]
fn it_answers_while_sessions_drain_and_ends_with_the_node() {
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), CONSOLE);
    let mut client = common::Client::login(&proxy.tcp());
    client.query("begin");
    with_driver(&proxy, async |console| {
        let open = async || console.query_one("show sessions", &[]).await.expect("one row").get::<_, i64>(0);
        assert_eq!(open().await, 1);
        proxy.signal(Signal::TERM);
        proxy.wait_log("draining");
        assert_eq!(open().await, 1, "a session in a transaction is waited for, and seen");
        let error = console.query("reload", &[]).await.expect_err("too late");
        assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
        client.query("commit");
        proxy.wait_exit();
        assert!(console.query("show version", &[]).await.is_err());
    });
}

#[test]
fn it_does_not_start_where_other_machines_could_reach_it() {
    let proxy = Proxy::launch("host=/nowhere", "[node]\nadmin = \"0.0.0.0:0\"\n");
    assert_eq!(proxy.wait_exit().code(), Some(2));
    let told = eventually("the reason", || Some(proxy.log()).filter(|log| !log.is_empty()));
    assert!(told.contains("node.admin: `0.0.0.0:0` can be reached from other machines"), "{told}");
}
