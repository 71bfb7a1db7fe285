//! `max_connections`, in PostgreSQL's own words.

use crate::common::raw::Frame;
use crate::common::{Client, Cluster, Pg, Proxy, eventually, msg};
use crate::{closed, try_login};

const FIELDS: [u8; 4] = [b'S', b'V', b'C', b'M'];

fn fields(frame: &Frame) -> Vec<Option<String>> {
    FIELDS.iter().map(|field| frame.field(*field)).collect()
}

#[test]
fn one_client_too_many_hears_what_the_server_would_say() {
    let cluster = Cluster::start(Pg::V15, "max_connections = 3\nsuperuser_reserved_connections = 0", "");
    let full: Vec<Client> = std::iter::from_fn(|| try_login(&cluster.unix()).ok()).collect();
    let expected = try_login(&cluster.unix()).expect_err("the server is full");
    drop(full);
    assert_eq!(expected.field(b'C').as_deref(), Some("53300"), "{expected:?}");

    let proxy = Proxy::start(&cluster, "[node]\nmax_connections = 1");
    let mut first = Client::connect(&proxy.tcp());
    first.send(&msg::startup(msg::version(3, 0), &[("user", "postgres")]));
    let key = first.until_ready().iter().find(|frame| frame.tag == b'K').expect("a key").key();
    for addr in [proxy.tcp(), proxy.unix()] {
        let refused = try_login(&addr).expect_err("the proxy is full");
        assert_eq!(fields(&refused), fields(&expected));
    }
    assert_eq!(proxy.metric("pgcanon_refusals_total{reason=\"too_many\"}"), 2.0);

    // A full proxy can still be told to cancel what fills it.
    first.send(&msg::query("select pg_sleep(60)"));
    let running =
        "select 1 from pg_stat_activity where query ~ 'pg_sleep.60' and state = 'active' and pid <> pg_backend_pid()";
    eventually("the query to run", || (cluster.psql(running) == "1").then_some(()));
    let mut other = Client::connect(&proxy.tcp());
    other.send(&msg::cancel(key.0, &key.1));
    closed(&mut other);
    let error = first.until_ready().into_iter().find(|frame| frame.tag == b'E').expect("an error");
    assert_eq!(error.field(b'C').as_deref(), Some("57014"));

    first.send(&msg::terminate());
    closed(&mut first);
    eventually("a place to be free", || try_login(&proxy.tcp()).ok());
}

#[test]
fn connections_without_a_startup_packet_take_no_place() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start(&cluster, "[node]\nmax_connections = 1");
    let _silent: Vec<Client> = (0..5).map(|_| Client::connect(&proxy.tcp())).collect();
    Client::login(&proxy.tcp());
}
