mod expressions;
mod others;
mod writes;

use super::*;
use crate::sql::LexOptions;

fn of(sql: &str) -> Statement {
    read(sql.as_bytes(), LexOptions::default())
}

/// Names as `schema.name`.
fn shown(names: &[Written]) -> String {
    let one = |w: &Written| {
        let part = |n: &Name| String::from_utf8_lossy(n.as_bytes()).into_owned();
        w.schema.as_ref().map_or(String::new(), |s| part(s) + ".") + &part(&w.name)
    };
    names.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn cut(sql: &str, span: Span) -> &str {
    sql.get(span.start..span.end).unwrap_or("outside")
}

fn name(text: &str) -> Name {
    text.into()
}

fn column(text: &str) -> Expr {
    Expr::Column { qualifier: None, name: text.into() }
}

fn operator(text: &str, left: Expr, right: Expr) -> Expr {
    Expr::Operator { name: text.into(), operands: vec![left, right] }
}

/// The condition of `DELETE FROM t WHERE …`.
fn condition(text: &str) -> Expr {
    match of(&format!("delete from t where {text} returning 1")).kind {
        Kind::Delete(Delete { filter: Some(filter), .. }) => filter,
        other => panic!("{text}: {other:?}"),
    }
}

fn insert(sql: &str) -> Insert {
    match of(sql).kind {
        Kind::Insert(insert) => insert,
        other => panic!("{sql}: {other:?}"),
    }
}

fn update(sql: &str) -> Update {
    match of(sql).kind {
        Kind::Update(update) => update,
        other => panic!("{sql}: {other:?}"),
    }
}
