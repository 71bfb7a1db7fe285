//! `pgcanon init`: schema `pgcanon`, its roles and grants made, brought up to date or removed, and never half of the schema.
//!
//! What is there is compared with what should be; the difference is a [`Plan`], which is shown or run. So a second run
//! finds nothing to do, and what is shown is what would run.

mod plan;
mod remove;
mod sequences;
mod state;

use std::fmt;

use tokio_postgres::error::SqlState;

use crate::catalog::load::CatalogError;
use crate::catalog::{ControlError, ControlSettings};
use crate::config::{Config, ConnInfo};
use crate::session::liveness;
use crate::sql::quote::quoted;
use crate::wire::tls::TlsError;

pub use sequences::{BY_NODES, Sequences};
pub(super) use state::State;

/// The group of those who run and steer proxies of this node.
pub const CONTROL_ROLE: &str = "pgcanon_control";

/// The group of those who bring other nodes' changes.
pub const APPLY_ROLE: &str = "pgcanon_apply";

/// Keeps two runs apart: "pgcanon" and a 1.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_lock(8098979974932328961)";

/// What to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// An administrator's connection; none for that of `node.control`.
    pub connect: Option<ConnInfo>,
    /// Change nothing, give the plan.
    pub dry_run: bool,
    /// Remove everything.
    pub remove: bool,
    /// Let the apply role write the tables that the rules name.
    pub grant: bool,
    /// Give this node its own numbers of the ruled tables' sequences, or take that back; none leaves them alone.
    pub sequences: Option<Sequences>,
}

/// Why nothing could be done at all.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "`control` is missing in [node] of the configuration: the schema belongs to the role that the proxy connects as; \
         add control = \"dbname=… user=…\""
    )]
    NoControl,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connect(#[from] ControlError),
    #[error("cannot look at what is there: {}", server_words(.0))]
    Look(#[from] tokio_postgres::Error),
    #[error(
        "there is no role \"{role}\", which `node.control` names; as somebody who may: CREATE ROLE {} LOGIN",
        quoted(role)
    )]
    NoRole { role: String },
    #[error("database {database} has a schema pgcanon that `pgcanon init` did not make; rename or drop it")]
    Foreign { database: String },
    #[error("schema pgcanon has version {there}, made by a newer pgcanon; this one knows up to {known}")]
    Newer { there: i32, known: i32 },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(
        "the configuration has no [[peer]], so that nobody can say how many nodes share the numbers, and which of them this one \
         is; say so: --sequences=STEP:OFFSET"
    )]
    NodesUnknown,
    #[error("--sequences={step}: the configuration has {nodes} nodes, of which two would hand out the same numbers")]
    TooFewNumbers { step: i64, nodes: i64 },
}

/// One statement, or a few that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is for.
    pub what: String,
    pub sql: String,
    /// Who may run it, and how somebody else comes to be allowed to.
    pub who: String,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In one transaction: all of it or nothing.
    pub core: Vec<Step>,
    /// One by one; what fails leaves the others.
    pub further: Vec<Step>,
    /// What was asked for and cannot be done.
    pub refused: Vec<String>,
    pub notes: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done(String),
    Note(String),
    Failed(String),
}

/// The plan, in SQL that psql can run.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = |f: &mut fmt::Formatter<'_>, s: &Step| writeln!(f, "-- {}\n{};\n", s.what, s.sql);
        if !self.core.is_empty() {
            writeln!(f, "BEGIN;\n")?;
            self.core.iter().try_for_each(|s| step(f, s))?;
            writeln!(f, "COMMIT;\n")?;
        }
        self.further.iter().try_for_each(|s| step(f, s))?;
        let said = self.refused.iter().map(|why| ("cannot be done", why)).chain(self.notes.iter().map(|n| ("note", n)));
        for (word, text) in said {
            writeln!(f, "-- {word}: {}", text.replace('\n', "\n--   "))?;
        }
        if self.is_empty() {
            writeln!(f, "-- nothing to do")?;
        }
        Ok(())
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.is_empty() && self.further.is_empty() && self.refused.is_empty()
    }
}

/// Finds out what has to be done, and does it unless it is only to be shown.
///
/// # Errors
/// What stands in the way before the first statement.
pub async fn init(config: &Config, options: &Options) -> Result<(Plan, Vec<Outcome>), InitError> {
    let control = config.node.control.as_ref().ok_or(InitError::NoControl)?;
    // The configuration was refused without a user; libpq's own default would be somebody else.
    let owner = control.user.as_deref().ok_or(InitError::NoControl)?;
    let conninfo = options.connect.as_ref().map_or_else(|| control.clone(), |top| administrator(control, top));
    let settings = ControlSettings::load(&conninfo, config.node.connect_timeout, liveness(&config.node))?;
    let client = settings.connect().await?;
    client.batch_execute("SET search_path = pg_catalog; SET lock_timeout = '10s'").await?;
    if !options.dry_run {
        client.batch_execute(LOCK).await?;
    }
    let plan = make_plan(&client, owner, config, options).await?;
    let outcomes = if options.dry_run { Vec::new() } else { run(&client, &plan).await };
    Ok((plan, outcomes))
}

async fn make_plan(
    client: &tokio_postgres::Client,
    owner: &str,
    config: &Config,
    options: &Options,
) -> Result<Plan, InitError> {
    let state = State::read(client, owner).await?;
    if state.schema_owner.is_some() && state.version.is_none() {
        return Err(InitError::Foreign { database: state.database });
    }
    if options.remove {
        return Ok(remove::plan(&state, sequences::back(client, &state).await?));
    }
    if !state.owner_exists {
        return Err(InitError::NoRole { role: owner.to_owned() });
    }
    let mut plan = plan::plan(&state, owner, &config.tables, options.grant)?;
    if let Some(wanted) = options.sequences {
        sequences::plan(client, &state, config, wanted, &mut plan).await?;
    }
    Ok(plan)
}

/// The same database as the proxy's, but as somebody else: nothing of the control role's own login is used.
fn administrator(control: &ConnInfo, top: &ConnInfo) -> ConnInfo {
    let mut base = control.clone();
    base.password = None;
    base.passfile = None;
    base.dbname = control.dbname().map(str::to_owned);
    base.overlay(top)
}

async fn run(client: &tokio_postgres::Client, plan: &Plan) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    if !plan.core.is_empty() {
        match run_core(client, &plan.core).await {
            Ok(()) => outcomes.extend(plan.core.iter().map(|s| Outcome::Done(s.what.clone()))),
            Err(why) => {
                outcomes.push(Outcome::Failed(format!("{why}\nnothing was changed")));
                return outcomes;
            }
        }
    }
    for step in &plan.further {
        let ran = client.batch_execute(&step.sql).await;
        if ran.is_err() {
            // Of a step that is a transaction; the error of the step is what matters.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        outcomes.push(match ran {
            Ok(()) => Outcome::Done(step.what.clone()),
            // A role, which another database of the cluster was given in this moment.
            Err(e) if matches!(e.code(), Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION)) => {
                Outcome::Done(step.what.clone())
            }
            Err(e) if remove::used_elsewhere(step, &e) => {
                Outcome::Note(format!("{}: kept, something else depends on it: {}", step.what, server_words(&e)))
            }
            Err(e) => Outcome::Failed(failure(step, &e)),
        });
    }
    outcomes.extend(plan.refused.iter().cloned().map(Outcome::Failed));
    outcomes.extend(plan.notes.iter().cloned().map(Outcome::Note));
    outcomes
}

async fn run_core(client: &tokio_postgres::Client, steps: &[Step]) -> Result<(), String> {
    let words = |e: tokio_postgres::Error| server_words(&e);
    client.batch_execute("BEGIN").await.map_err(words)?;
    for step in steps {
        if let Err(e) = client.batch_execute(&step.sql).await {
            // The error is what matters; a transaction that is not rolled back ends with the connection.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(failure(step, &e));
        }
    }
    client.batch_execute("COMMIT").await.map_err(words)
}

/// What failed, in which statement, and who could run it.
fn failure(step: &Step, error: &tokio_postgres::Error) -> String {
    let mut text = format!("{}: {}\n{}", step.what, server_words(error), step.sql);
    if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
        text.push_str("\nwho may run it: ");
        text.push_str(&step.who);
    }
    text
}

fn server_words(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        return error.to_string();
    };
    let mut text = format!("{} ({})", db.message(), db.code().code());
    for more in [db.detail(), db.hint()].into_iter().flatten() {
        text.push('\n');
        text.push_str(more);
    }
    text
}
