//! Sizes at the protocol's edge, hashed as they come; the proxy's memory stays what it was (I7).

use std::time::Duration;

use crate::common::msg::{bind_formats, copy_data, copy_done, execute, parse, query, sync};
use crate::common::oracle::{Conversation, Way, same_on};
use crate::common::{Client, Cluster, Pg};

const MIB: usize = 1024 * 1024;
/// What the proxy may hold, whatever passes through it.
const FLAT: u64 = 64 * MIB as u64;
/// A row may hold 1 GiB less one byte, headers included.
const LARGEST: usize = 1024 * MIB - 64;

fn with_flat_memory(pg: Pg, script: impl Fn(&mut Conversation)) {
    let cluster = Cluster::shared(pg);
    let way = Way::to(cluster);
    way.same_over_tcp(script);
    way.assert_memory_below(FLAT);
}

#[test]
fn a_value_of_one_gigabyte_comes_out() {
    with_flat_memory(Pg::V18, |c| {
        c.login();
        c.send(&query(format!("select repeat('0123456789abcdef', {}) || 'end'", LARGEST / 16 - 1)));
        c.until(b'T');
        let (tag, len) = c.big_frame();
        assert_eq!((tag, len), (b'D', LARGEST - 16 + 3 + 6));
        c.ready();
        c.query("select 'too large: ' || repeat('x', 1024 * 1024 * 1024)");
    });
}

#[test]
fn a_value_of_one_gigabyte_goes_in() {
    with_flat_memory(Pg::V15, |c| {
        c.login();
        let value = vec![b'v'; LARGEST];
        c.pipeline(&[
            parse("", "select length($1), md5(substr($1, 1, 1000000))", &[17]),
            bind_formats("", "", &[1], &[Some(&value)], &[0]),
            execute("", 0),
            sync(),
        ]);
        drop(value);
        let row = c.until(b'D').pop().expect("a row");
        assert_eq!(row.columns()[0].as_deref(), Some(LARGEST.to_string().as_str()));
        c.ready();
    });
}

#[test]
fn copy_of_200_megabytes_in_and_out() {
    with_flat_memory(Pg::V15, |c| {
        c.login();
        c.query("create temp table big (a int, b text)");
        c.send(&query("copy big from stdin"));
        c.until(b'G');
        let line = format!("{}\n", "x".repeat(1000));
        let mut sent = 0;
        let mut n = 0;
        while sent < 200 * MIB {
            let chunk: String = (0..64).map(|row| format!("{}\t{line}", n + row)).collect();
            n += 64;
            sent += chunk.len();
            c.client.send(&copy_data(&chunk));
        }
        c.send(&copy_done());
        assert_eq!(c.ready()[0].command(), format!("COPY {n}"));
        c.send(&query("copy big to stdout"));
        c.until(b'H');
        assert_eq!(c.big_run(b'd'), sent);
        c.ready();
        c.send(&query("copy big to stdout (format binary)"));
        c.until(b'H');
        c.big_run(b'd');
        c.ready();
    });
}

#[test]
fn a_client_that_does_not_read_costs_the_proxy_nothing() {
    let way = Way::to(Cluster::shared(Pg::V15));
    let mut lazy = Client::login(&way.tcp());
    lazy.send(&query("select repeat('x', 100000) from generate_series(1, 5000)")); // 500 MB that nobody fetches
    let mut other = Client::login(&way.cluster.unix());
    let stuck = "select 1 from pg_stat_activity where query like 'select repeat%' and wait_event = 'ClientWrite'";
    crate::common::eventually("the server to be held back", || (!other.rows(stuck).is_empty()).then_some(()));
    // the others go on meanwhile
    let mut quick = Client::login(&way.tcp());
    for _ in 0..100 {
        quick.query("select 1");
    }
    way.assert_memory_below(FLAT);
    // and now it reads everything
    let mut bytes = 0;
    loop {
        let (tag, len) = lazy.stream_frame(|_| {});
        bytes += len;
        if tag == b'Z' {
            break;
        }
    }
    assert!(bytes > 500_000_000);
    way.assert_memory_below(FLAT);
}

#[test]
fn a_server_that_does_not_read_holds_the_client_back() {
    let cluster = std::sync::Arc::new(Cluster::start(Pg::V15, "", ""));
    let way = Way::to(cluster);
    let mut client = Client::login(&way.tcp());
    client.query("create temp table t (a text)");
    client.send(&query("copy t from stdin"));
    client.until(b'G');
    way.cluster.pause();
    let writer = client.clone_handle();
    let sender = std::thread::spawn(move || {
        let mut writer = writer;
        let chunk = copy_data(format!("{}\n", "y".repeat(MIB - 1)));
        (0..200).for_each(|_| writer.send(&chunk));
        writer.send(&copy_done());
    });
    std::thread::sleep(Duration::from_millis(300)); // time in which a proxy without backpressure would take it all
    assert!(!sender.is_finished(), "200 MB cannot have gone anywhere");
    way.assert_memory_below(FLAT);
    way.cluster.resume();
    sender.join().expect("the sender ends");
    assert_eq!(client.until_ready()[0].command(), "COPY 200");
    way.assert_memory_below(FLAT);
}

#[test]
fn oddly_sized_messages_around_every_buffer_border() {
    same_on(Cluster::shared(Pg::V15), |c| {
        c.login();
        let sizes: Vec<usize> = [4, 8, 16, 32, 64, 128, 256]
            .iter()
            .flat_map(|kib| (0..14).map(move |off| kib * 1024 - 20 + off * 3))
            .collect();
        for size in sizes {
            let text = "q".repeat(size);
            let frames = c.query(format!("select '{text}'"));
            assert_eq!(frames[1].body.len(), 6 + size);
        }
    });
}
