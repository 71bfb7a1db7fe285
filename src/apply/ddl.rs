//! DDL onto a peer (§9): as the role that owns the table there, with the `search_path` that it was written for; what was known
//! of the peer's tables is forgotten behind it.

use super::applier::Applier;
use super::error::ApplyError;
use super::line::{Expect, Param};
use super::session::base;
use crate::journal::entry::{Head, Text};

/// Settings that only DDL brings.
const PATH: &str = "search_path";
const ROLE: &str = "role";

/// Becomes the role of this name, where there is one that the applier may become.
const BECOME: &str = "SELECT pg_catalog.set_config('role', r.rolname::pg_catalog.text, true) FROM pg_catalog.pg_roles AS r \
    WHERE r.rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND pg_catalog.pg_has_role(session_user, r.oid, \
    CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.>=) 160000 \
    THEN 'SET' ELSE 'MEMBER' END)";

impl Applier {
    pub(super) fn ddl(&mut self, head: &Head, text: &Text) -> Result<(), ApplyError> {
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
