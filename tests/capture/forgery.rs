//! What an application may do with the journal: append to it, as its session does, and nothing else; what it makes up is found.

use crate::common::Pg;
use crate::common::node::{Node, PUBLIC};
use crate::common::session::Session;
use crate::{TABLES, on_both};

/// An application's role, with rights on the tables of the application.
fn role(node: &Node) -> String {
    let role = format!("app_{}_{}", node.database, node.cluster.pg as u8);
    node.sql(&format!(
        "create role {role} login; grant all on all tables in schema public to {role}; grant usage on all sequences in schema public to {role}"
    ));
    role
}

/// The application on the server itself: it may know another way than the proxy.
fn direct(node: &Node, role: &str) -> Session {
    Session::open(&node.cluster.unix(), role, &node.database)
}

#[test]
fn an_application_cannot_read_or_change_it() {
    on_both(TABLES, |node| {
        let role = role(node);
        let mut proxied = node.client_as(&role);
        proxied.ok("update acc set balance = 1 where id = 1; update acc set note = now()::text where id = 2");
        let mut c = direct(node, &role);
        for sql in [
            "select * from pgcanon.journal",
            "select count(*) from pgcanon.journal",
            "select meta from pgcanon.journal_0",
            "select xid from pgcanon.journal",
            "insert into pgcanon.journal (slot, meta, data) values (0, '', '') returning meta",
            "update pgcanon.journal set meta = ''",
            "delete from pgcanon.journal",
            "truncate pgcanon.journal",
            "drop table pgcanon.journal",
            "copy pgcanon.journal to stdout",
            "insert into pgcanon.journal (slot, meta, data, xid) values (0, '', '', '1')",
            "insert into pgcanon.journal (slot, meta, data, lsn) values (0, '', '', '0/1')",
            "insert into pgcanon.journal (slot, meta, data, pid) values (0, '', '', 1)",
            "insert into pgcanon.journal values (0, 1, '1', '0/1', '', '')",
            "insert into pgcanon.journal_0 (slot, meta, data, xid) values (0, '', '', '1')",
            "select * from pgcanon.meta",
            "select * from pgcanon.tick",
            "insert into pgcanon.tick default values",
            "create table pgcanon.mine (id int)",
        ] {
            assert_eq!(c.fails(sql).state, "42501", "{sql}");
        }
        assert_eq!(node.journal().len(), 2);
        node.assert_replays();
    });
}

#[test]
fn what_it_makes_up_is_found_and_not_counted() {
    on_both(TABLES, |node| {
        let role = role(node);
        node.client_as(&role).ok("update acc set balance = balance + 1 where id = 1");
        let mut c = direct(node, &role);
        c.ok("insert into pgcanon.journal (slot, meta, data) values (0, '', '')");
        c.ok(r"insert into pgcanon.journal (slot, meta, data) values (0, '\x01000000000000', '\x00')");
        c.ok("insert into pgcanon.journal (slot, meta, data) select 0, decode(repeat(md5(i::text), i), 'hex'), decode(repeat('00', i * 7), 'hex') from generate_series(1, 20) i");
        // A row that another session of the proxy wrote, read by somebody who may, and written again. With and without its data.
        let copy = |what: &str| {
            let hex = node.sql(&format!(
                "select encode({what}, 'hex') from pgcanon.journal where octet_length(meta) > 30 order by lsn limit 1"
            ));
            format!(r"'\x{hex}'")
        };
        let (meta, data) = (copy("meta"), copy("data"));
        c.ok(&format!("insert into pgcanon.journal (slot, meta, data) values (0, {meta}, {data})"));
        c.ok(&format!(r"insert into pgcanon.journal (slot, meta, data) values (0, {meta}, '\x00010203')"));
        let dump = node.dump();
        assert_eq!((dump.entries.len(), dump.forged.len()), (1, 24), "{dump:#?}");
        node.assert_makes(&dump.entries, &[]);
    });
}

#[test]
fn another_clusters_key_is_no_key() {
    let node = Node::start(Pg::V15, TABLES, PUBLIC);
    let other = Node::start(Pg::V15, TABLES, PUBLIC);
    other.client().ok("update acc set balance = 0 where id = 1; update acc set note = random()::text where id = 2");
    let rows = other.sql("select slot, encode(meta, 'hex'), encode(data, 'hex') from pgcanon.journal");
    let mut c = node.direct();
    for row in rows.lines() {
        let parts: Vec<&str> = row.split('|').collect();
        c.ok(&format!(
            r"insert into pgcanon.journal (slot, meta, data) values ({}, '\x{}', '\x{}')",
            parts[0], parts[1], parts[2]
        ));
    }
    let dump = node.dump();
    assert_eq!((dump.entries.len(), dump.forged.len()), (0, rows.lines().count()), "{dump:#?}");
}

#[test]
fn a_client_sees_no_key_and_no_meta() {
    on_both(TABLES, |node| {
        let mut c = node.client();
        let mut other = node.client();
        let pid = c.pid();
        // what the server shows of a session's statement, while it waits for a lock
        other.ok("begin; update acc set balance = 0 where id = 1");
        let waiting = std::thread::spawn(move || drop(c.ok("update acc set balance = 1 where id = 1")));
        let shown = format!("select query from pg_stat_activity where pid = {pid} and wait_event_type = 'Lock'");
        let query =
            crate::common::eventually("the client to wait", || Some(node.sql(&shown)).filter(|q| !q.is_empty()));
        assert!(query.contains("update acc set balance = "), "{query}");
        assert!(!query.contains("\\x"), "no bytes of a meta in a text: {query}");
        other.ok("commit");
        waiting.join().expect("the client that waited");
        node.assert_replays();
    });
}
