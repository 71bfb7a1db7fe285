//! Says behind which statements the names of a session may mean something else than before.

use crate::sql::Name;
use crate::sql::statement::{Kind, Statement, Written};

use super::Surroundings;

/// Whether names may resolve to other objects behind this statement: it may set `search_path`, or make or drop what shadows.
pub(super) fn unsettles(statement: &Statement, s: &Surroundings<'_>) -> bool {
    match &statement.kind {
        Kind::Session | Kind::Ddl | Kind::Do { .. } | Kind::Call(_) | Kind::CreateAs { .. } => true,
        Kind::Execute { .. } | Kind::Unknown | Kind::Select { into: Some(_) } => true,
        Kind::Prepare { .. } | Kind::Explain { analyze: false, .. } => false,
        _ => statement.calls.iter().any(|call| may_set(call, s)),
    }
}

/// Whether a function may set a parameter or run DDL: `set_config`, and whatever is not built in.
pub(super) fn may_set(call: &Written, s: &Surroundings<'_>) -> bool {
    let built_in = call.schema == Some(Name::from("pg_catalog"));
    call.name == Name::from("set_config") || (!built_in && s.catalog.functions.user.contains(&call.name))
}
