//! What is missing of the schema, its roles and its grants.

use std::collections::{BTreeSet, HashMap};

use super::state::{ORIGINS, ROLE_MARK, State};
use super::{APPLY_ROLE, CONTROL_ROLE, InitError, Plan, Step};
use crate::config::TableRule;
use crate::journal::migrate::{MIGRATIONS, TABLES, VIEWS, latest};
use crate::sql::quote::quoted;

type Rights<'a> = HashMap<(&'a str, Option<&'a str>), &'a [String]>;

/// What the apply role needs of the schema: to know who had seen what, to note how far it is, and what it decided.
const APPLY_RIGHTS: &[(&str, &str)] = &[
    ("progress", "SELECT, INSERT, UPDATE"),
    ("tick", "SELECT"),
    ("tombstone", "SELECT, INSERT, DELETE"),
    ("statement_time", "SELECT"),
    ("echo", "SELECT, INSERT, DELETE"),
    ("conflict", "SELECT, INSERT"),
    ("applied", "SELECT, INSERT, DELETE"),
    ("early", "SELECT, INSERT, DELETE"),
];

const ALL_RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE";

pub(super) fn plan(state: &State, owner: &str, rules: &[TableRule], grant: bool) -> Result<Plan, InitError> {
    let mut plan = Plan::default();
    schema(state, owner, &mut plan)?;
    if let Some(there) = state.schema_owner.as_deref().filter(|there| *there != owner) {
        plan.notes.push(format!(
            "schema pgcanon belongs to \"{there}\", not to \"{owner}\" of `node.control`, which needs to be a member of \
             {CONTROL_ROLE}: GRANT {CONTROL_ROLE} TO {}",
            quoted(owner)
        ));
    }
    let control = role(state, CONTROL_ROLE, "who runs and steers proxies of this node", &mut plan);
    let apply = role(state, APPLY_ROLE, "who brings other nodes' changes", &mut plan);
    let schema_owner = state.schema_owner.as_deref().unwrap_or(owner);
    if control {
        let views = VIEWS.iter().map(|view| (*view, "SELECT"));
        let all: Vec<(&str, &str)> = TABLES.iter().map(|t| (*t, ALL_RIGHTS)).chain(CHILDREN).chain(views).collect();
        own_rights(state, CONTROL_ROLE, &all, schema_owner, &mut plan.further);
    }
    if apply {
        own_rights(state, APPLY_ROLE, APPLY_RIGHTS, schema_owner, &mut plan.further);
        times(state, rules, &mut plan);
        let missing = ruled_rights(state, rules);
        if grant {
            plan.further.extend(missing);
        } else if !missing.is_empty() {
            let sql: Vec<String> = missing.iter().map(|s| format!("{};", s.sql)).collect();
            plan.notes.push(format!(
                "role {APPLY_ROLE} lacks rights on what the rules name, which peers' changes will need; \
                 `pgcanon init --grant` gives them:\n{}",
                sql.join("\n")
            ));
        }
    }
    Ok(plan)
}

/// What rules that go by the time of the commit need.
fn times(state: &State, rules: &[TableRule], plan: &mut Plan) {
    if state.keeps_times || !rules.iter().any(|rule| rule.settles().is_some()) {
        return;
    }
    let functions: Vec<String> = ORIGINS.iter().map(|name| format!("pg_catalog.{name}")).collect();
    let sql = format!("GRANT EXECUTE ON FUNCTION {} TO {APPLY_ROLE}", functions.join(", "));
    if state.superuser {
        let what = format!("rights of {APPLY_ROLE} to say whose a commit is, and as of when");
        plan.further.push(Step { what, sql, who: "a superuser".to_owned() });
    } else {
        plan.notes.push(format!(
            "conflicts that are settled by the time of the commit need a superuser to run in this database: {sql}"
        ));
    }
}

/// Emptied by whoever rotates them.
const CHILDREN: [(&str, &str); 3] = [("journal_0", ALL_RIGHTS), ("journal_1", ALL_RIGHTS), ("journal_2", ALL_RIGHTS)];

/// The schema and what is in it, as its owner would make it.
fn schema(state: &State, owner: &str, plan: &mut Plan) -> Result<(), InitError> {
    let there = state.version.unwrap_or(0);
    if there > latest() {
        return Err(InitError::Newer { there, known: latest() });
    }
    let who = format!("\"{owner}\", or a superuser");
    let step = |what: String, sql: String| Step { what, sql, who: who.clone() };
    let mut steps = Vec::new();
    if state.schema_owner.is_none() {
        steps.push(Step {
            what: "schema pgcanon".into(),
            sql: format!("CREATE SCHEMA pgcanon AUTHORIZATION {}", quoted(owner)),
            who: format!(
                "\"{}\", who owns database {}, or a superuser; `pgcanon init --connect` takes such a connection. Or let \
                 them run: GRANT CREATE ON DATABASE {} TO {}",
                state.database_owner,
                state.database,
                quoted(&state.database),
                quoted(owner)
            ),
        });
    }
    let steps_of = MIGRATIONS.iter().filter(|m| m.version > there);
    let migrations: Vec<Step> = steps_of
        .flat_map(|m| {
            let what = format!("migration {}, {}", m.version, m.name);
            let all = m.statements().map(str::to_owned).chain([m.record()]);
            all.map(move |sql| (what.clone(), sql)).collect::<Vec<_>>()
        })
        .map(|(what, sql)| step(what, sql))
        .collect();
    let schema_owner = state.schema_owner.as_deref().unwrap_or(owner);
    if !migrations.is_empty() && state.user != schema_owner {
        steps.push(Step {
            what: format!("as \"{schema_owner}\", to whom all of it is to belong"),
            sql: format!("SET LOCAL ROLE {}", quoted(schema_owner)),
            who: format!("\"{schema_owner}\" itself, a superuser, or a member of that role"),
        });
    }
    plan.core = steps.into_iter().chain(migrations).collect();
    Ok(())
}

/// Whether the role is there, or will be.
fn role(state: &State, name: &str, purpose: &str, plan: &mut Plan) -> bool {
    if state.has_role(name) {
        return true;
    }
    // Roles belong to the whole cluster: the mark tells `--drop` in any of its databases whose it is.
    let create = format!("CREATE ROLE {name} NOLOGIN; COMMENT ON ROLE {name} IS '{ROLE_MARK}'");
    if !state.makes_roles {
        plan.notes.push(format!(
            "role {name} ({purpose}) is not there, and \"{}\" has no CREATEROLE to make it; whoever has, or a superuser, \
             can run the following, and then `pgcanon init` again gives it its rights: {create}",
            state.user
        ));
        return false;
    }
    let who = "a superuser, or a role with CREATEROLE".to_owned();
    plan.further.push(Step { what: format!("role {name}, {purpose}"), sql: create, who });
    true
}

/// What a group lacks of its rights in our schema.
fn own_rights(state: &State, role: &str, wanted: &[(&str, &str)], owner: &str, steps: &mut Vec<Step>) {
    let has = state.rights_of(role);
    let who = format!("\"{owner}\", who owns schema pgcanon, or a superuser");
    let mut push = |sql: String| {
        steps.push(Step { what: format!("rights of {role} in schema pgcanon"), sql, who: who.clone() });
    };
    if !covers(&has, ("pgcanon", None), "USAGE") {
        push(format!("GRANT USAGE ON SCHEMA pgcanon TO {role}"));
    }
    // One statement for all tables with the same rights.
    let lacks = |(table, rights): &&(&str, &str)| !covers(&has, ("pgcanon", Some(table)), rights);
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (table, rights) in wanted.iter().filter(lacks) {
        match groups.iter_mut().find(|(r, _)| r == rights) {
            Some((_, tables)) => tables.push(format!("pgcanon.{table}")),
            None => groups.push((rights, vec![format!("pgcanon.{table}")])),
        }
    }
    for (rights, tables) in groups {
        push(format!("GRANT {rights} ON {} TO {role}", tables.join(", ")));
    }
}

/// What the apply role lacks of its rights on the tables that the rules name.
fn ruled_rights(state: &State, rules: &[TableRule]) -> Vec<Step> {
    let has = state.rights_of(APPLY_ROLE);
    let ruled = || state.tables.iter().filter(|t| rules.iter().any(|r| r.name.matches(&t.schema, &t.name)));
    let mut steps = Vec::new();
    for (schema, owner) in ruled().map(|t| (&t.schema, &t.schema_owner)).collect::<BTreeSet<_>>() {
        if schema != "public" && !covers(&has, (schema, None), "USAGE") {
            steps.push(Step {
                what: format!("rights of {APPLY_ROLE} in schema {schema}"),
                sql: format!("GRANT USAGE ON SCHEMA {} TO {APPLY_ROLE}", quoted(schema)),
                who: format!("\"{owner}\", who owns the schema, or a superuser"),
            });
        }
    }
    for t in ruled().filter(|t| !covers(&has, (&t.schema, Some(&t.name)), ALL_RIGHTS)) {
        steps.push(Step {
            what: format!("rights of {APPLY_ROLE} on {}.{}", t.schema, t.name),
            sql: format!("GRANT {ALL_RIGHTS} ON {}.{} TO {APPLY_ROLE}", quoted(&t.schema), quoted(&t.name)),
            who: format!("\"{}\", who owns the table, or a superuser", t.owner),
        });
    }
    steps
}

fn covers(has: &Rights<'_>, what: (&str, Option<&str>), rights: &str) -> bool {
    let has = has.get(&what).copied().unwrap_or_default();
    rights.split(", ").all(|right| has.iter().any(|h| h == right))
}
