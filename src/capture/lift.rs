//! Constants of a write as parameters: texts that differ in nothing else then share one prepared statement, and one decision.
//!
//! Only where a parameter is to the server what the constant was. A number keeps the type that it has as a constant; a string
//! takes the type of the text column that it is assigned to or compared with, as it did, and no text can be wrong for it.

use crate::capture::decide::{is_text, parts};
use crate::capture::write::{Inserted, Meaning, Rewritten};
use crate::catalog::relation::{Catalog, Relation};
use crate::sql::statement::{Assign, ConflictAction, Expr, Insert, Kind, Source, Statement, Written};
use crate::sql::{LexOptions, Lexer, Name, TokenKind};

/// With more constants than that the texts hardly ever differ in nothing else.
const MOST: usize = 64;

const INT4: u32 = 23;
const INT8: u32 = 20;
const NUMERIC: u32 = 1700;
/// As a string's: unknown, until it is clear what it is for.
const UNKNOWN: u32 = 0;

/// A write with `$n` in place of every constant; the values are text.
#[derive(Debug)]
pub struct Lifted {
    pub text: Rewritten,
    pub types: Vec<u32>,
    pub values: Vec<Vec<u8>>,
}

/// None for what is no INSERT, UPDATE or DELETE alone, has parameters already, or constants that cannot be lifted.
pub fn lift(sql: &[u8], lex: LexOptions) -> Option<Lifted> {
    let mut tokens = Lexer::new(sql, lex).filter(|token| !token.kind.is_blank());
    let head = tokens.next()?.text(sql);
    if ![&b"insert"[..], b"update", b"delete"].iter().any(|word| head.eq_ignore_ascii_case(word)) {
        return None;
    }
    let mut lifted = Lifted {
        text: Rewritten { sql: Vec::with_capacity(sql.len()), inserted: Vec::new() },
        types: Vec::new(),
        values: Vec::new(),
    };
    let (mut copied, mut over) = (0, false);
    for token in tokens {
        if over || token.kind.is_error() {
            return None;
        }
        let (oid, value) = match token.kind {
            TokenKind::Semicolon => {
                over = true;
                continue;
            }
            TokenKind::Number => number(token.text(sql))?,
            TokenKind::String => (UNKNOWN, string(token.text(sql))?),
            TokenKind::Param => return None,
            kind if kind.is_string() || kind == TokenKind::BitString => return None,
            _ => continue,
        };
        if lifted.types.len() == MOST {
            return None;
        }
        let text = &mut lifted.text;
        text.sql.extend_from_slice(sql.get(copied..token.start)?);
        let at = text.sql.len();
        lifted.types.push(oid);
        lifted.values.push(value);
        text.sql.push(b'$');
        text.sql.extend_from_slice(lifted.types.len().to_string().as_bytes());
        text.inserted.push(Inserted { at, len: text.sql.len() - at, instead: token.end - token.start });
        copied = token.end;
    }
    lifted.text.sql.extend_from_slice(sql.get(copied..)?);
    Some(lifted)
}

fn number(text: &[u8]) -> Option<(u32, Vec<u8>)> {
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let oid = if digits(text) {
        match std::str::from_utf8(text).ok()?.parse::<i64>().ok()? {
            number if i32::try_from(number).is_ok() => INT4,
            // With a minus before it, it is smaller than it looks.
            number if i32::try_from(-number).is_ok() => return None,
            _ => INT8,
        }
    } else {
        let (whole, part) = text.split_at(memchr::memchr(b'.', text)?);
        (digits(whole) && part.get(1..).is_some_and(digits)).then_some(NUMERIC)?
    };
    Some((oid, text.to_vec()))
}

/// What a plain string constant says, if it says so in one part and in characters that are the same in every encoding.
fn string(text: &[u8]) -> Option<Vec<u8>> {
    let inner = text.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\'', rest) {
        let (front, behind) = rest.split_at_checked(at)?;
        value.extend_from_slice(front);
        // A single one ends the first of several parts.
        rest = behind.strip_prefix(b"''")?;
        value.push(b'\'');
    }
    value.extend_from_slice(rest);
    value.is_ascii().then_some(value)
}

/// Whether each parameter of a write can stand for a constant where it is.
///
/// Triggers can tell: they may ask for the statement's text.
pub fn lifts(
    statement: &Statement,
    types: &[u32],
    catalog: &Catalog,
    meaning: impl Fn(&Written) -> Option<Meaning>,
) -> bool {
    let target = parts(&statement.kind).and_then(|(target, _)| meaning(&target.relation)?.oid);
    let Some(relation) = target.and_then(|oid| catalog.relations.get(&oid)) else { return false };
    let mut places = Places { relation, types, seen: 0 };
    let sound = match &statement.kind {
        _ if relation.user_trigger || statement.with.is_some() => None,
        Kind::Insert(insert) => places.insert(insert),
        Kind::Update(update) => places.set(&update.set).and_then(|()| places.condition(update.filter.as_ref())),
        Kind::Delete(delete) => places.condition(delete.filter.as_ref()),
        _ => None,
    };
    // What was not met stands where nothing is known of it.
    sound.is_some() && places.seen == types.len()
}

/// Looks at the places that parameters stand in.
struct Places<'a> {
    relation: &'a Relation,
    types: &'a [u32],
    seen: usize,
}

impl Places<'_> {
    fn insert(&mut self, insert: &Insert) -> Option<()> {
        let all: Vec<Name> = self.relation.columns.iter().map(|column| column.name).collect();
        let columns = insert.columns.as_ref().unwrap_or(&all);
        if let Source::Values(rows) = &insert.source {
            // In a list of several rows a constant takes the type that all of its column have together.
            let [row] = rows.as_slice() else { return None };
            for (column, value) in columns.iter().zip(row) {
                self.assigned(column, value.as_ref())?;
            }
        }
        match insert.on_conflict.as_ref().map(|conflict| &conflict.action) {
            Some(ConflictAction::Update { set, filter }) => {
                self.set(set)?;
                self.condition(filter.as_ref())
            }
            _ => Some(()),
        }
    }

    fn set(&mut self, set: &[Assign]) -> Option<()> {
        set.iter()
            .filter(|assign| !assign.part)
            .try_for_each(|assign| self.assigned(&assign.column, assign.value.as_ref()))
    }

    fn assigned(&mut self, column: &Name, value: Option<&Expr>) -> Option<()> {
        match value {
            Some(Expr::Param(n)) if self.is_string(*n) => self.is_text(column).then(|| self.seen += 1),
            Some(value) => self.value(value),
            None => Some(()),
        }
    }

    fn condition(&mut self, filter: Option<&Expr>) -> Option<()> {
        filter.map_or(Some(()), |filter| self.value(filter))
    }

    fn value(&mut self, expr: &Expr) -> Option<()> {
        match expr {
            Expr::Param(n) => (!self.is_string(*n)).then(|| self.seen += 1),
            Expr::Operator { operands, .. } => match operands.as_slice() {
                [Expr::Column { name, .. }, Expr::Param(n)] | [Expr::Param(n), Expr::Column { name, .. }]
                    if self.is_string(*n) =>
                {
                    self.is_text(name).then(|| self.seen += 1)
                }
                operands => operands.iter().try_for_each(|operand| self.value(operand)),
            },
            // A function's operands are of the types that it was chosen by.
            Expr::And(parts)
            | Expr::Or(parts)
            | Expr::Between(parts)
            | Expr::Array(parts)
            | Expr::Call { args: parts, .. } => parts.iter().try_for_each(|part| self.value(part)),
            Expr::In { of, list, .. } => {
                self.value(of)?;
                list.iter().try_for_each(|item| self.value(item))
            }
            Expr::Not(part) | Expr::Is(part) | Expr::Cast { of: part, .. } => self.value(part),
            _ => Some(()),
        }
    }

    fn is_string(&self, param: u16) -> bool {
        self.types.get(usize::from(param).wrapping_sub(1)) == Some(&UNKNOWN)
    }

    fn is_text(&self, column: &Name) -> bool {
        self.relation.columns.iter().any(|c| c.name == *column && is_text(c))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn lifted(sql: &str) -> Option<String> {
        let lifted = lift(sql.as_bytes(), LexOptions::default())?;
        for inserted in &lifted.text.inserted {
            assert_eq!(lifted.text.sql.get(inserted.at), Some(&b'$'));
            let at = lifted.text.original(inserted.at);
            assert!(sql.as_bytes().get(at).is_some_and(|b| b.is_ascii_digit() || *b == b'\''), "{sql} at {at}");
        }
        let values = lifted.values.iter().zip(&lifted.types);
        let values = values.map(|(value, oid)| format!(" {oid}:{}", String::from_utf8_lossy(value)));
        Some(String::from_utf8(lifted.text.sql).unwrap() + &values.collect::<String>())
    }

    #[test]
    fn every_constant_is_lifted_or_none() {
        for (sql, expected) in [
            (
                "update t set n = n + 5, v='it''s' where id=7",
                "update t set n = n + $1, v=$2 where id=$3 23:5 0:it's 23:7",
            ),
            (
                "INSERT into t values (-1, 3000000000, '', 1.50);",
                "INSERT into t values (-$1, $2, $3, $4); 23:1 20:3000000000 0: 1700:1.50",
            ),
            (
                "/* a 1 */ delete from t where id in (1,2) -- 3",
                "/* a 1 */ delete from t where id in ($1,$2) -- 3 23:1 23:2",
            ),
            ("delete from t", "delete from t"),
        ] {
            assert_eq!(lifted(sql).as_deref(), Some(expected), "{sql}");
        }
        for alone in [
            "select 1",
            "begin",
            "update t set n = $1 where id = 1",
            "update t set n = 1e3 where id = 1",
            "update t set n = 99999999999999999999 where id = 1",
            "update t set v = E'\\n' where id = 1",
            "update t set v = $$x$$ where id = 1",
            "update t set v = 'a'\n'b' where id = 1",
            "update t set v = 'é' where id = 1",
            "delete from t where id = 1; delete from t where id = 2",
            "delete from t where v = 'open",
        ] {
            assert_eq!(lifted(alone), None, "{alone}");
        }
        assert_eq!(lifted(&format!("delete from t where id in (1{})", ",1".repeat(MOST))), None);
    }
}
