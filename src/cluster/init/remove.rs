//! `pgcanon init --drop`: what is there of ours, and how it goes.

use tokio_postgres::error::SqlState;

use super::state::State;
use super::{Plan, Step};
use crate::journal::migrate::{FUNCTIONS, TABLES, VIEWS};
use crate::sql::quote::quoted;

const DROP_ROLE: &str = "DROP ROLE ";

/// `before` is done to what is not ours, in the same transaction: what it takes back is known only from the schema.
pub(super) fn plan(state: &State, before: Vec<Step>) -> Plan {
    let mut plan = Plan { core: before, ..Plan::default() };
    if let Some(owner) = &state.schema_owner {
        let who = format!("\"{owner}\", who owns schema pgcanon, or a superuser");
        let named = |names: &[&str]| names.iter().map(|t| format!("pgcanon.{t}")).collect::<Vec<_>>().join(", ");
        // Without CASCADE: what somebody else built on it is theirs to remove.
        plan.core.extend([
            Step {
                what: "functions of schema pgcanon".into(),
                sql: format!("DROP FUNCTION IF EXISTS {}", named(FUNCTIONS)),
                who: who.clone(),
            },
            Step {
                what: "views of schema pgcanon".into(),
                sql: format!("DROP VIEW IF EXISTS {}", named(VIEWS)),
                who: who.clone(),
            },
            Step {
                what: "tables of schema pgcanon".into(),
                sql: format!("DROP TABLE IF EXISTS {}", named(TABLES)),
                who: who.clone(),
            },
            Step { what: "schema pgcanon".into(), sql: "DROP SCHEMA pgcanon".into(), who },
        ]);
    }
    for role in &state.roles {
        let name = &role.name;
        if !role.made_here {
            plan.notes.push(format!("role {name} stays: `pgcanon init` did not make it"));
            continue;
        }
        if !state.makes_roles {
            plan.notes.push(format!(
                "role {name} stays: \"{}\" may not drop roles; a superuser, or a role with CREATEROLE, can run: \
                 {DROP_ROLE}{name}",
                state.user
            ));
            continue;
        }
        for grant in state.grants.iter().filter(|g| g.role == *name && g.schema != "pgcanon") {
            let schema = quoted(&grant.schema);
            let on = match &grant.relation {
                Some(relation) => format!("{schema}.{}", quoted(relation)),
                None => format!("SCHEMA {schema}"),
            };
            plan.further.push(Step {
                what: format!("rights of {name} on {on}"),
                sql: format!("REVOKE ALL ON {on} FROM {name}"),
                who: format!("\"{}\", who owns it, or a superuser", grant.owner),
            });
        }
        plan.further.push(Step {
            what: format!("role {name}"),
            sql: format!("{DROP_ROLE}{name}"),
            who: "a superuser, or a role with CREATEROLE that made it".into(),
        });
    }
    plan
}

/// Whether a role could not go because another database needs it: that is no failure.
pub(super) fn used_elsewhere(step: &Step, error: &tokio_postgres::Error) -> bool {
    let depends = error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST);
    depends && step.sql.starts_with(DROP_ROLE)
}
