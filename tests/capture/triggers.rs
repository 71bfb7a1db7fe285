//! Tables with triggers whose rules do not say what becomes of them on the peers (§6).

use std::process::Command;

use crate::common::node::Node;
use crate::common::{PATIENCE, Pg, proc};

const UNDECIDED: &str = "[[table]]\nname = \"public.*\"\n";
const TRIGGER: &str = "create function public.touch() returns trigger language plpgsql as 'begin return new; end'; \
    create trigger touch before insert on t for each row execute function public.touch()";

#[test]
fn writes_are_refused_from_when_the_trigger_is_there() {
    let node =
        Node::start(Pg::V15, "create table t (id int primary key); create table free (id int primary key)", UNDECIDED);
    let mut c = node.client();
    c.ok("insert into t values (1)");
    c.ok(TRIGGER);
    for write in ["insert into t values (2)", "delete from t", "truncate t", "copy t from stdin"] {
        let error = c.fails(write);
        assert_eq!(error.state, "0A000", "{write}");
        assert!(error.message.ends_with("of table \"public.t\" cannot be replicated"), "{error:?}");
    }
    c.ok("insert into free values (1)");
    c.ok("drop trigger touch on t; drop function touch()");
    c.ok("insert into t values (2)");
    node.assert_replays();
}

#[test]
fn a_table_with_a_trigger_that_writes_another_one_is_written_in_all_ways() {
    let tables = "create table t (id int primary key); create table seen (id serial primary key, what text); \
        create function note() returns trigger language plpgsql as \
            $$ begin insert into public.seen (what) values (tg_op); return null; end $$; \
        create trigger note after insert or update or delete or truncate on t for each statement execute function note()";
    let node = Node::start(Pg::V15, tables, "[[table]]\nname = \"public.*\"\ntriggers = \"fire\"\n");
    let mut c = node.client();
    for sql in [
        "insert into t values (1), (2)",
        "update t set id = 3 where id = 2",
        "delete from t where id = 3",
        "truncate t",
    ] {
        c.ok(sql);
    }
    assert_eq!(node.sql("select string_agg(what, ' ' order by id) from seen"), "INSERT UPDATE DELETE TRUNCATE");
}

#[test]
fn neither_run_nor_check_accept_them() {
    let node = Node::start(Pg::V15, "create table t (id int primary key)", UNDECIDED);
    let pgcanon = |command: &str| {
        let mut pgcanon = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
        let output = proc::output(pgcanon.arg(command).arg("--config").arg(node.config()), PATIENCE);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("UTF-8"))
    };
    let (code, told) = pgcanon("check");
    assert_eq!(code, Some(0), "{told}");
    node.sql(TRIGGER);
    for (command, expected) in [("check", 1), ("run", 2)] {
        let (code, told) = pgcanon(command);
        assert_eq!(code, Some(expected), "{told}");
        for words in ["tables have triggers", ": public.t.", "triggers = \"fire\"", "triggers = \"skip\""] {
            assert!(told.contains(words), "{command}: {told}");
        }
    }
}
