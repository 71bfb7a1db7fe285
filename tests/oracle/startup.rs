//! Protocol versions, requests for encryption, and every startup parameter untouched.

use std::sync::Arc;

use rustix::process::Signal;

use crate::common::msg::{self, GSSENC_REQUEST, SSL_REQUEST, packet, query, startup, version};
use crate::common::oracle::{Conversation, Way, same, same_on, states, tags};
use crate::common::{Client, Cluster, Pg, eventually, proc};

const WHO: [(&str, &str); 2] = [("user", "postgres"), ("database", "postgres")];

#[test]
fn newer_minor_versions_are_negotiated_by_the_server() {
    for minor in [0, 1, 2, 3, 9999] {
        same(|c| {
            c.send(&startup(version(3, minor), &WHO));
            c.ready();
            c.query("select 1");
        });
    }
}

#[test]
fn protocol_options_are_the_servers_to_answer() {
    for minor in [0, 2, 9999] {
        same(|c| {
            let options = [("_pq_.test_protocol_negotiation", ""), ("application_name", "x"), ("_pq_.other", "on")];
            c.send(&startup(version(3, minor), &[&WHO[..], &options].concat()));
            assert_eq!(c.ready()[0].tag, b'v');
            c.query("show application_name");
        });
    }
}

#[test]
fn parameters_reach_the_server_in_order() {
    same(|c| {
        c.login_with(&[
            ("application_name", "first"),
            ("options", "-c search_path=pg_catalog,\\ public -c work_mem=1MB --statement-timeout=7s"),
            ("DateStyle", "german, dmy"),
            ("TimeZone", "Europe/Vienna"),
            ("extra_float_digits", "0"),
            ("client_encoding", "'utf-8'"),
            ("my.own_setting", "a b'c\\d"),
            ("application_name", "last \u{1F418}"),
        ]);
        c.query("select current_setting('application_name'), current_setting('my.own_setting'), now() > '1.2.2024'");
        c.query("show search_path; show work_mem; show statement_timeout; show datestyle; show timezone");
        c.query("reset timezone");
    });
    same(|c| {
        c.startup(&[("user", "postgres")]); // the database defaults to the user's name
        c.ready();
        c.query("select current_database()");
    });
}

#[test]
fn parameters_the_server_refuses() {
    for (name, value) in [
        ("client_encoding", "nonsense"),
        ("work_mem", "a lot"),
        ("no_such_setting", "1"),
        ("wal_level", "logical"),
        ("port", "1"),
        ("options", "-c nonsense"),
        ("options", "--nonsense=1"),
        ("options", "-p 1"),
        ("replication", "maybe"),
    ] {
        same(|c| {
            c.startup(&[&WHO[..], &[(name, value)]].concat());
            c.closed();
        });
    }
}

#[test]
fn databases_and_users_that_do_not_exist() {
    same(|c| {
        c.startup(&[("user", "postgres"), ("database", "nowhere")]);
        assert_eq!(states(&c.closed()), ["3D000"]);
    });
    same(|c| {
        c.startup(&[("user", "nobody"), ("database", "postgres")]);
        assert_eq!(states(&c.closed()), ["28000"]);
    });
    same(|c| {
        c.startup(&[("user", &"x".repeat(200)), ("database", &"y".repeat(200))]);
        c.closed();
    });
    same(|c| {
        c.startup(&[("user", "postgres"), ("database", "template0")]);
        assert_eq!(states(&c.closed()), ["55000"]);
    });
}

/// The server offers GSSAPI over TCP only; the proxy reaches it over its Unix socket, and offers it nowhere.
fn same_without_gssapi(script: impl Fn(&mut Conversation)) {
    for pg in [Pg::V15, Pg::V18] {
        Way::to(Cluster::shared(pg)).same_where_the_address_shows(&script);
    }
}

#[test]
fn no_encryption_to_be_had() {
    for requests in
        [&[SSL_REQUEST][..], &[GSSENC_REQUEST], &[GSSENC_REQUEST, SSL_REQUEST], &[SSL_REQUEST, GSSENC_REQUEST]]
    {
        same_without_gssapi(|c| {
            for request in requests {
                c.send(&packet(*request, b""));
                assert_eq!(c.byte(), Some(b'N'));
            }
            c.login();
        });
    }
    // That each may be asked for once is in tests/auth: the refusal names no source line and no version of the server's.
}

#[test]
fn requests_sent_along_with_the_startup() {
    same(|c| {
        // nobody has to wait for ReadyForQuery before asking
        c.pipeline(&[startup(version(3, 0), &WHO), query("select 1"), query("select 2"), msg::terminate()]);
        assert_eq!(tags(&c.closed()).matches('Z').count(), 3);
    });
}

#[test]
fn too_many_connections() {
    let cluster = Arc::new(Cluster::start(
        Pg::V15,
        "max_connections = 5\nsuperuser_reserved_connections = 0\nmax_wal_senders = 0",
        "",
    ));
    // four, so that a proxy's control connection would have its place
    let held: Vec<Client> = (0..4).map(|_| Client::login(&cluster.unix())).collect();
    let last = Client::login(&cluster.unix());
    same_on(Arc::clone(&cluster), |c| {
        c.startup(&WHO);
        assert_eq!(states(&c.closed()), ["53300"]);
    });
    drop((held, last));
}

#[test]
fn a_server_that_starts_or_stops_says_so_itself() {
    let cluster = Arc::new(Cluster::start(Pg::V15, "", ""));
    let held = Client::login(&cluster.unix());
    proc::kill(cluster.pid(), Signal::TERM); // a smart shutdown, which waits for the held session
    eventually("the shutdown to begin", || cluster.log().contains("smart shutdown").then_some(()));
    same_on(Arc::clone(&cluster), |c| {
        c.startup(&WHO);
        assert_eq!(states(&c.closed()), ["57P03"]);
    });
    drop(held);
}
