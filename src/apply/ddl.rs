//! DDL onto a peer (§9): as the role that owns the table there, with the `search_path` that it was written for; what was known
//! of the peer's tables is forgotten behind it.

use super::applier::Applier;
use super::error::ApplyError;
use super::line::{Expect, Param};
use super::route::Destination;
use super::session::base;
use crate::journal::entry::{Head, Text};
use crate::sql::{LexOptions, Lexer};

/// Settings that only DDL brings.
const PATH: &str = "search_path";
const ROLE: &str = "role";

/// Becomes the role of this name, where there is one that the applier may become.
const BECOME: &str = "SELECT pg_catalog.set_config('role', r.rolname::pg_catalog.text, true) FROM pg_catalog.pg_roles AS r \
    WHERE r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND pg_catalog.pg_has_role(session_user, r.oid, \
    CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 160000 \
    THEN 'SET' ELSE 'MEMBER' END)";

/// Whether this is the CREATE TABLE of the head's table: that of a partition is headed by its root.
fn makes_table(head: &Head, text: &Text) -> bool {
    let sql = &text.sql;
    let words = Lexer::new(sql, LexOptions::default()).filter(|token| !token.kind.is_blank()).take(3);
    let mut words = words.map(|token| token.text(sql).to_ascii_lowercase()).filter(|word| word != b"unlogged");
    let made = text.names.iter().min_by_key(|place| place.start);
    words.next().as_deref() == Some(b"create")
        && words.next().as_deref() == Some(b"table")
        && made.is_some_and(|place| {
            (&place.schema, &place.table) == (&head.schema, &head.table) && !head.names_schema(text, place)
        })
}

impl Applier {
    async fn is_there(&mut self, to: &Destination) -> Result<bool, ApplyError> {
        let sql = "SELECT 1 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
            WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) $2 AND c.relkind IN ('r', 'p')";
        let params = [Param::text(&to.table.schema), Param::text(&to.table.table)];
        self.encode("UTF8")?;
        Ok(!self.line.query(sql, &[19, 19], &params).await?.is_empty())
    }

    pub(super) async fn ddl(&mut self, to: &Destination, head: &Head, text: &Text) -> Result<(), ApplyError> {
        if makes_table(head, text) && self.is_there(to).await? {
            // Somebody has made it on each node. Where it is another one, its rows will show that.
            tracing::info!(table = %to.table, "a table that was to be made is there already");
            return Ok(());
        }
        let sql = self.renamed(head, text)?;
        let (mut pairs, mut role) = (vec![("enable_seqscan", "on")], None);
        for (name, value) in &text.settings {
            match (name.as_str(), base(name)) {
                (PATH, _) => pairs.push((PATH, value)),
                (ROLE, _) => role = Some(value),
                (_, Some((name, _))) => pairs.push((name, value)),
                (_, None) => return Err(self.malformed("a text with an unknown setting")),
            }
        }
        // Settings are in UTF-8, whatever the text is in.
        self.encode("UTF8")?;
        self.set(&pairs);
        let at = self.at(0);
        if let Some(role) = role {
            self.line.parse("", BECOME.as_bytes(), &[25]);
            self.line.execute("", &[Param::text(role)], Expect::Done, at);
        }
        self.encode(&head.encoding)?;
        self.line.parse("", &sql, &[]);
        self.line.execute("", &[], Expect::Done, at);
        if role.is_some() {
            self.plain(b"RESET ROLE");
        }
        let mut back = vec![("enable_seqscan", "off"), (PATH, "")];
        back.extend(text.settings.iter().filter_map(|(name, _)| base(name)));
        self.set(&back);
        self.forget();
        self.tell();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::{Op, Place, sample};

    #[test]
    fn a_table_that_is_made_is_told_from_other_ddl() {
        // The name stands between brackets.
        let makes = |sql: &str| {
            let (start, end) = (sql.find('<').unwrap_or(0), sql.find('>').map_or(0, |end| end - 1));
            let at = |n: usize| u32::try_from(n).unwrap_or(0);
            let names =
                vec![Place { start: at(start), end: at(end), schema: "public".to_owned(), table: "t".to_owned() }];
            let sql = sql.replace(['<', '>'], "").into_bytes();
            let text = Text { sql, params: Vec::new(), names, settings: Vec::new() };
            makes_table(&Head { op: Op::Ddl, ..sample() }, &text)
        };
        for sql in ["create table <t> (id int)", "CREATE /* x */ UNLOGGED TABLE IF NOT EXISTS <public.t> ()"] {
            assert!(makes(sql), "{sql}");
        }
        for sql in [
            "create table <\"public\">.part partition of t default",
            "create index on <t> (id)",
            "alter table <t> add x int",
            "create unique index i on <t> (id)",
            "drop table <t>",
        ] {
            assert!(!makes(sql), "{sql}");
        }
    }
}
