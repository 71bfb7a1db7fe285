//! Names are kept as the server keeps them: folded, decoded and cut.

use pgcanon::sql::{Effect, Effects, effects};

use crate::session::{ON, SERVERS, Session};

/// Names as `PREPARE` keeps them.
fn names(session: &mut Session) {
    let long = [("a", 70), ("É", 40), ("é", 40), ("😀", 20), ("Ab1$_", 20)].map(|(piece, times)| piece.repeat(times));
    let mut idents: Vec<String> = [
        "a",
        "FooBar",
        "É1",
        "_x$",
        "\"Foo\"",
        "\"a\"\"b\"",
        "\" ; '\"",
        "U&\"\\0061\\+01F600\"",
        "u&\"\\\\\\D83D\\DE00\"\"x\"",
        "U&\"!00e9\\\" uescape '!'",
        "U&\"d\\0061t\" UESCAPE E'\\\\'",
        "U&\"$0041\"/**/uescape/**/$$$$$",
        "begin",
        "transaction",
        "prepare",
        "\"\u{1}\"",
        "uescape",
        "U&\"é\\00e9\"",
    ]
    .map(String::from)
    .into();
    for text in &long {
        for shift in ["", "x", "xx", "xxx"] {
            idents.push(format!("{}{text}", if text.starts_with(|c: char| c.is_alphabetic()) { shift } else { "y" }));
            idents.push(format!("\"{shift}{text}\""));
            idents.push(format!("U&\"{shift}{text}\\00e9\""));
        }
    }
    for ident in idents {
        let sql = format!("prepare {ident} as select 1");
        // `$$$$$` is no string: the server and we both refuse.
        let kept = session.query(sql.as_bytes());
        let Effects::One(found) = effects(sql.as_bytes(), ON) else { panic!("{sql}") };
        if kept.error.is_some() {
            assert_eq!(found, Effect::None, "{sql}: {kept:?}");
            continue;
        }
        let rows = session.must("select name from pg_prepared_statements").rows;
        let Effect::Prepare(name) = found else { panic!("{sql}: {found:?}") };
        let [Some(kept)] = &rows[..] else { panic!("{sql}: {rows:?}") };
        assert_eq!(kept.as_bytes(), name.as_bytes(), "{sql}: {name:?}");
        session.must("deallocate all");
    }
}

#[test]
fn the_server_keeps_names_as_we_do() {
    for pg in SERVERS {
        names(&mut Session::start(pg));
    }
}
