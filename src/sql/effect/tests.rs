use super::*;

const ON: LexOptions =
    LexOptions { standard_conforming_strings: true, encoding: crate::sql::ClientEncoding::AsciiSafe };

fn check(table: &[(&str, Effect)]) {
    for (sql, expected) in table {
        assert_eq!(effect(sql.as_bytes(), ON), *expected, "{sql:?}");
        // As a whole query too, with and without a last semicolon.
        assert_eq!(effects(sql.as_bytes(), ON), Effects::One(*expected), "{sql:?}");
        assert_eq!(effects(format!("{sql} ;\n").as_bytes(), ON), Effects::One(*expected), "{sql:?}");
    }
}

fn name(name: &str) -> Name {
    name.into()
}

#[test]
fn transactions() {
    check(&[
        ("BEGIN", Effect::Begin),
        ("begin/**/work", Effect::Begin),
        ("Begin Transaction isolation level serializable, read only", Effect::Begin),
        ("-- c\n start transaction read write", Effect::Begin),
        ("COMMIT", Effect::Commit { chain: false }),
        ("commit work and chain", Effect::Commit { chain: true }),
        ("END transaction AND NO CHAIN", Effect::Commit { chain: false }),
        ("end and chain", Effect::Commit { chain: true }),
        ("abort", Effect::Rollback { chain: false }),
        ("ROLLBACK TRANSACTION AND CHAIN", Effect::Rollback { chain: true }),
        ("prepare transaction 'x'", Effect::PrepareTransaction),
        ("prepare transaction $$x$$", Effect::PrepareTransaction),
        ("prepare transaction E'x'", Effect::PrepareTransaction),
        ("commit prepared 'x'", Effect::None),
        ("rollback prepared 'x'", Effect::None),
    ]);
}

#[test]
fn read_only() {
    check(&[
        ("set transaction read only", Effect::ReadOnly),
        ("SET LOCAL TRANSACTION isolation level serializable, READ ONLY", Effect::ReadOnly),
        ("set transaction_read_only = on", Effect::ReadOnly),
        ("set session transaction_read_only to true", Effect::ReadOnly),
        ("set transaction read write", Effect::None),
        ("set transaction isolation level read committed", Effect::None),
        ("set session characteristics as transaction read only", Effect::None),
        ("set default_transaction_read_only = on", Effect::None),
        ("set", Effect::None),
    ]);
}

#[test]
fn savepoints() {
    check(&[
        ("savepoint A", Effect::Savepoint(name("a"))),
        ("release \"A\"", Effect::Release(name("A"))),
        ("release savepoint a", Effect::Release(name("a"))),
        ("release savepoint", Effect::Release(name("savepoint"))),
        ("release savepoint savepoint", Effect::Release(name("savepoint"))),
        ("rollback to a", Effect::RollbackTo(name("a"))),
        ("rollback work to savepoint U&\"\\0061\"", Effect::RollbackTo(name("a"))),
        ("rollback to savepoint", Effect::RollbackTo(name("savepoint"))),
        ("rollback to U&\"!0061\" uescape '!'", Effect::RollbackTo(name("a"))),
        ("rollback to U&\"!0061\" UESCAPE E'!'", Effect::RollbackTo(name("a"))),
    ]);
}

#[test]
fn prepared_statements() {
    check(&[
        ("prepare a as select 1", Effect::Prepare(name("a"))),
        ("PREPARE a(int, text) AS select 1", Effect::Prepare(name("a"))),
        ("prepare\"a;\"as select 1", Effect::Prepare(name("a;"))),
        ("prepare transaction as select 1", Effect::Prepare(name("transaction"))),
        ("prepare transaction(int) as select 1", Effect::Prepare(name("transaction"))),
        ("execute a", Effect::Execute(name("a"))),
        ("EXECUTE \"A b\" (1, 'x')", Effect::Execute(name("A b"))),
        ("deallocate a", Effect::Deallocate(name("a"))),
        ("deallocate prepare a", Effect::Deallocate(name("a"))),
        ("deallocate prepare", Effect::Deallocate(name("prepare"))),
        ("deallocate prepare prepare", Effect::Deallocate(name("prepare"))),
        ("deallocate \"all\"", Effect::Deallocate(name("all"))),
        ("deallocate All", Effect::DeallocateAll),
        ("deallocate prepare all", Effect::DeallocateAll),
        ("discard all", Effect::DiscardAll),
        ("discard plans", Effect::None),
        ("discard temp", Effect::None),
    ]);
}

#[test]
fn cursors() {
    check(&[
        ("declare c cursor for select 1", Effect::Declare { name: name("c"), hold: false }),
        (
            "declare c binary insensitive no scroll cursor with hold for select 1",
            Effect::Declare { name: name("c"), hold: true },
        ),
        (
            "declare cursor asensitive scroll cursor without hold for select 1",
            Effect::Declare { name: name("cursor"), hold: false },
        ),
        ("close c", Effect::CloseCursor(name("c"))),
        ("close all", Effect::CloseAll),
        ("close \"all\"", Effect::CloseCursor(name("all"))),
        ("fetch c", Effect::None),
    ]);
}

#[test]
fn everything_else_has_none() {
    for sql in
        ["select 1", "(select 1)", "\"begin\"", "beginx", "'begin'", "with x as (select 1) select 1", "begi", "close"]
    {
        assert_eq!(effect(sql.as_bytes(), ON), Effect::None, "{sql:?}");
    }
    assert_eq!(effects(b"select 1; ", ON), Effects::One(Effect::None));
}

#[test]
fn a_query_lists_the_statements_that_have_one() {
    let query = b"select ';'; ;begin;--;\nselect 2;savepoint a;";
    let found = effects(query, ON);
    let listed = [(1, Effect::Begin), (3, Effect::Savepoint(name("a")))];
    assert_eq!(found, Effects::Many { count: 4, effects: Box::new(listed) });
    assert_eq!(
        (found.count(), found.get(0), found.get(1), found.get(9)),
        (4, Effect::None, Effect::Begin, Effect::None)
    );
    assert_eq!(effects(b"/*;*/ commit", ON), Effects::One(Effect::Commit { chain: false }));
    for empty in [&b""[..], b" ;; ", b"/*;*/", b"--;", b"--;\n;"] {
        assert_eq!(effects(empty, ON), Effects::Empty);
    }
}
