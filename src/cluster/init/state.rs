//! What is there before `init` does anything: read in a few queries that every role may run.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::{APPLY_ROLE, CONTROL_ROLE};

/// What says whose a commit is, and as of when.
pub(super) const ORIGINS: [&str; 6] = [
    "pg_replication_origin_oid(text)",
    "pg_replication_origin_create(text)",
    "pg_replication_origin_session_is_setup()",
    "pg_replication_origin_session_reset()",
    "pg_replication_origin_session_setup(text)",
    "pg_replication_origin_xact_setup(pg_lsn, timestamptz)",
];

/// What marks a role as made by `init`, so that `--drop` removes no other.
pub(super) const ROLE_MARK: &str = "made by pgcanon init";

/// A database as `init` finds it.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct State {
    /// Who is connected.
    pub(super) user: String,
    pub(super) superuser: bool,
    /// A superuser, or one who may CREATE ROLE.
    pub(super) makes_roles: bool,
    /// Whether the apply role may say whose a commit is, and as of when.
    pub(super) keeps_times: bool,
    pub(super) database: String,
    pub(super) database_owner: String,
    /// Whether the role is there that the schema is to belong to.
    pub(super) owner_exists: bool,
    pub(super) schema_owner: Option<String>,
    /// The last migration; none where `pgcanon.migration` is not there.
    pub(super) version: Option<i32>,
    pub(super) roles: Vec<Role>,
    /// Rights of the two groups on relations and schemas.
    pub(super) grants: Vec<Grant>,
    /// Every table outside the system's schemas and ours.
    pub(super) tables: Vec<Table>,
}

/// One of the two groups, where it is there.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) made_here: bool,
}

/// What a group may do with one thing.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) role: String,
    pub(super) schema: String,
    /// None: the schema itself.
    pub(super) relation: Option<String>,
    pub(super) rights: Vec<String>,
    /// Who owns that thing.
    pub(super) owner: String,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) owner: String,
    pub(super) schema_owner: String,
}

const WHO: &str = "\
SELECT current_user::text, r.rolsuper OR r.rolcreaterole, d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text,
    EXISTS (SELECT FROM pg_catalog.pg_roles AS o WHERE o.rolname = $1::text),
    (SELECT pg_catalog.pg_get_userbyid(n.nspowner)::text FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'pgcanon'),
    EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'pgcanon' AND c.relname = 'migration'), r.rolsuper
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()";

const ROLES: &str = "\
SELECT r.rolname::text, COALESCE(pg_catalog.shobj_description(r.oid, 'pg_authid') = $2::text, false)
FROM pg_catalog.pg_roles AS r WHERE r.rolname::text = ANY ($1::text[]) ORDER BY 1";

const GRANTS: &str = "\
SELECT r.rolname::text, g.schema::text, g.relation::text, pg_catalog.array_agg(a.privilege_type),
    pg_catalog.pg_get_userbyid(g.owner)::text
FROM (
    SELECT n.nspname AS schema, c.relname AS relation, c.relacl AS acl, c.relowner AS owner
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    UNION ALL
    SELECT n.nspname, NULL, n.nspacl, n.nspowner FROM pg_catalog.pg_namespace AS n
) AS g, pg_catalog.aclexplode(g.acl) AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
WHERE r.rolname::text = ANY ($1::text[])
GROUP BY 1, 2, 3, 5 ORDER BY 1, 2, 3";

const TABLES: &str = "\
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
    pg_catalog.pg_get_userbyid(n.nspowner)::text
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgcanon', 'pg_toast')
ORDER BY 1, 2";

impl State {
    pub(in crate::cluster) async fn read(client: &Client, owner: &str) -> Result<Self, tokio_postgres::Error> {
        let who = client.query_one(WHO, &[&owner]).await?;
        let mut state = Self {
            user: who.try_get(0)?,
            makes_roles: who.try_get(1)?,
            database: who.try_get(2)?,
            database_owner: who.try_get(3)?,
            owner_exists: who.try_get(4)?,
            schema_owner: who.try_get(5)?,
            superuser: who.try_get(7)?,
            ..Self::default()
        };
        if who.try_get(6)? {
            let sql = "SELECT COALESCE(pg_catalog.max(version), 0) FROM pgcanon.migration";
            state.version = Some(client.query_one(sql, &[]).await?.try_get(0)?);
        }
        let groups = [CONTROL_ROLE, APPLY_ROLE].as_slice();
        for row in client.query(ROLES, &[&groups, &ROLE_MARK]).await? {
            state.roles.push(Role { name: row.try_get(0)?, made_here: row.try_get(1)? });
        }
        if state.has_role(APPLY_ROLE) {
            let sql = "SELECT pg_catalog.bool_and(pg_catalog.has_function_privilege($1, f.name, 'EXECUTE')) \
                FROM pg_catalog.unnest($2::text[]) AS f(name)";
            let functions: Vec<String> = ORIGINS.iter().map(|name| format!("pg_catalog.{name}")).collect();
            state.keeps_times = client.query_one(sql, &[&APPLY_ROLE, &functions]).await?.try_get(0)?;
        }
        for row in client.query(GRANTS, &[&groups]).await? {
            state.grants.push(Grant {
                role: row.try_get(0)?,
                schema: row.try_get(1)?,
                relation: row.try_get(2)?,
                rights: row.try_get(3)?,
                owner: row.try_get(4)?,
            });
        }
        for row in client.query(TABLES, &[]).await? {
            state.tables.push(Table {
                schema: row.try_get(0)?,
                name: row.try_get(1)?,
                owner: row.try_get(2)?,
                schema_owner: row.try_get(3)?,
            });
        }
        Ok(state)
    }

    pub(super) fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|r| r.name == name)
    }

    /// The rights of `role`, by schema and relation.
    pub(super) fn rights_of<'a>(&'a self, role: &str) -> HashMap<(&'a str, Option<&'a str>), &'a [String]> {
        let of_role = self.grants.iter().filter(|g| g.role == role);
        of_role.map(|g| ((g.schema.as_str(), g.relation.as_deref()), g.rights.as_slice())).collect()
    }
}
