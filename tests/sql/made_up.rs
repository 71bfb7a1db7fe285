//! Queries made up of pieces, and broken ones.

use pgcanon::sql::LexOptions;

use crate::session::{OFF, ON, SERVERS, Session};
use crate::statements::compare;

/// A small generator, so that a failure comes again.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    pub(crate) fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

fn broken_and_generated(session: &mut Session, opts: LexOptions) {
    let mut dice = Dice(7);
    let mut ran = 0;
    let atoms = [
        "';'",
        "'a''b;'",
        "e'\\';'",
        "e'\\\\'",
        "E'a'\n'\\';'",
        "$$;$$",
        "$a$;'$$ $b$ $a$",
        "'a'\n';'",
        "'a' -- ;'\n ';'",
        "N';'",
        "b'01'",
        "x'f'\n'1'",
        "1",
        "1.5",
        ".5e1",
        "\"a;\"",
        "\"a\"\"'\"",
        "a$1$",
        "(select ';')",
        "case when true then 1 end",
        "array[1,2]",
        "'\\;'",
        "'--'",
        "'/*'",
        "1::text",
    ];
    let blanks = [" ", "\n", "/*;*/", "--;'\n", " /* ' /* ; */ \" */", "\t", "\r", "--\r"];
    let tails = ["", " from x", " -- ;", " as z", " as begin", " end", " case"];
    for round in 0..600 {
        let mut sql = String::new();
        for _ in 0..dice.roll(5) {
            match dice.roll(12) {
                0 => {}
                1 => {
                    sql += dice.pick(&[
                        "begin",
                        "commit",
                        "rollback",
                        "savepoint a",
                        "close all",
                        "deallocate all",
                        "end and chain",
                        "discard plans",
                    ])
                }
                2 => {
                    sql += "create or replace function f() returns int begin atomic select case when true then 1 end; select 1 as end;; end"
                }
                3 => sql += "create or replace rule r as on insert to t do also (delete from t; notify a, ';'; )",
                _ => {
                    sql += "select ";
                    for n in 0..=dice.roll(3) {
                        sql += if n > 0 { "," } else { "" };
                        sql += dice.pick(&blanks);
                        sql += dice.pick(&atoms);
                        sql += dice.pick(&blanks);
                    }
                    sql += dice.pick(&["from (select 1, 2, 3) x(\"a;\", \"a\"\"'\", a$1$)", ""]);
                    sql += dice.pick(&tails);
                }
            }
            sql += dice.pick(&blanks);
            sql += dice.pick(&[";", ";;", ";\n"]);
        }
        // Most of them with a few characters too many or too few: the server refuses them or reads them otherwise.
        let mut bytes = sql.into_bytes();
        for _ in 0..round % 4 {
            let at = dice.roll(bytes.len() + 1);
            match dice.roll(3) {
                0 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let piece = dice.pick(&[
                        "'", "\"", "\\", "$", "--", "/*", "*/", "\n", ";", "e'", "''", "$a$", "(", ")", "-", "+", "U&",
                        " end ", "@",
                    ]);
                    drop(bytes.splice(at..at, piece.bytes()));
                }
            }
        }
        if std::str::from_utf8(&bytes).is_ok() {
            ran += usize::from(compare(session, &bytes, opts));
            session.reset();
        }
    }
    assert!(ran > 100, "only {ran} of the generated queries were valid");
}

#[test]
fn the_server_agrees_on_made_up_and_broken_queries() {
    for pg in SERVERS {
        let mut session = Session::start(pg);
        for opts in [ON, OFF] {
            session.settings(opts, "utf8");
            broken_and_generated(&mut session, opts);
        }
    }
}
