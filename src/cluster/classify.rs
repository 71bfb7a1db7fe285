//! What would become of the statements of a script on this node, without executing any of them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;

use crate::capture::decide::{Executed, Surroundings, decide, decide_execute};
use crate::capture::lanes::Fate;
use crate::capture::write::{Ask, Blind, Decision, Meaning, Refusal, blind};
use crate::catalog::load::{CatalogError, Named, load};
use crate::catalog::relation::{Catalog, Oid};
use crate::catalog::scene::{self, Scene};
use crate::catalog::{ControlError, ControlSettings};
use crate::config::Config;
use crate::session::liveness;
use crate::sql::quote::quoted;
use crate::sql::script::{ScriptStatement, statements};
use crate::sql::statement::{Kind, Statement, Written, read};
use crate::sql::{LexOptions, Name, shape};
use crate::wire::tls::TlsError;

/// Questions that one statement may raise one after the other; each answers all names that it knows of.
const ROUNDS: usize = 8;

/// What `$1` means, as the connection's `search_path` has it, and what its role may see of it.
const RESOLVE: &str = concat!(
    "SELECT c.oid, c.relpersistence OPERATOR(pg_catalog.=) 't', ",
    "(SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n ",
    "WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace), ",
    blind!(),
    ", pg_catalog.row_security_active(c.oid) ",
    "FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass($1)"
);

/// What would become of one statement.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Where it begins in the script, counted from 1.
    pub line: usize,
    #[serde(rename = "statement")]
    pub shape: String,
    #[serde(rename = "lane", serialize_with = "as_word")]
    pub fate: Fate,
    pub reason: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

fn as_word<S: serde::Serializer>(fate: &Fate, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(fate.word())
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    #[error("`check --sql` asks the node what names mean: set control in the [node] section")]
    NoControl,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Decides about each statement of a script, as the role of `control` and in its `search_path`.
pub async fn classify(config: &Config, script: &[u8]) -> Result<Vec<Verdict>, ClassifyError> {
    let control = config.node.control.as_ref().ok_or(ClassifyError::NoControl)?;
    let control = ControlSettings::load(control, config.node.connect_timeout, liveness(&config.node))?;
    let client = control.connect().await?;
    let catalog = load(&client, &config.tables, &Named::from(config)).await?;
    let mut node = Node { client, catalog, meanings: HashMap::new(), scenes: Vec::new(), prepared: HashMap::new() };
    let mut verdicts = Vec::new();
    for statement in statements(script, LexOptions::default()) {
        verdicts.push(node.judge(statement).await?);
    }
    Ok(verdicts)
}

type Key = (Option<Name>, Name);

/// The node as a session of `control` sees it.
struct Node {
    client: Client,
    catalog: Catalog,
    meanings: HashMap<Key, Meaning>,
    /// Of the statement at hand.
    scenes: Vec<(Vec<Written>, Arc<Scene>)>,
    /// SQL's own prepared statements, as far as the script has come.
    prepared: HashMap<Name, (Vec<u8>, Statement)>,
}

// === impl Node ===

impl Node {
    async fn judge(&mut self, statement: ScriptStatement) -> Result<Verdict, ClassifyError> {
        let ScriptStatement { line, sql } = statement;
        let opts = LexOptions::default();
        let said = read(&sql, opts);
        let decision = self.decide(&sql, &said).await?;
        let (fate, reason) = Fate::of(&decision);
        let (detail, hint) = match &decision {
            Decision::Refuse(Refusal { detail, hint, .. }) => (detail.clone(), hint.clone()),
            Decision::Warn { refusal, .. } => (refusal.detail.clone(), refusal.hint.clone()),
            Decision::Pass { .. } | Decision::Write(_) => (None, None),
        };
        let verdict = Verdict { line, shape: shape(&sql, opts), fate, reason: reason.to_owned(), detail, hint };
        if let Kind::Prepare { name, .. } = said.kind {
            self.prepared.insert(name, (sql, said));
        }
        Ok(verdict)
    }

    async fn decide(&mut self, sql: &[u8], said: &Statement) -> Result<Decision, ClassifyError> {
        self.scenes.clear();
        for _ in 0..ROUNDS {
            match self.try_decide(sql, said) {
                Ok(decision) => return Ok(decision),
                Err(Ask::Scene(names)) => {
                    let scene = self.scene(&names).await?;
                    self.scenes.push((names, Arc::new(scene)));
                }
                // The picture is new: no rule is for it.
                Err(Ask::Catalog(oid)) => {
                    let same = self.meanings.values_mut().filter(|meaning| meaning.oid == Some(oid));
                    same.for_each(|meaning| meaning.oid = None);
                }
                Err(Ask::Names(names)) => {
                    for name in names {
                        let meaning = self.resolve(&name).await?;
                        self.meanings.insert((name.schema, name.name), meaning);
                    }
                }
            }
        }
        // No statement is known that comes here; who is refused can at least ask.
        Ok(Decision::Refuse(Refusal {
            message: "what the names of this statement mean cannot be found out".to_owned(),
            detail: None,
            hint: None,
        }))
    }

    fn try_decide(&self, sql: &[u8], said: &Statement) -> Result<Decision, Ask> {
        let surroundings = Surroundings {
            catalog: &self.catalog,
            meaning: &|written: &Written| self.meanings.get(&(written.schema, written.name)).copied(),
            encoding: "UTF8",
            standard_conforming_strings: true,
            params: &[],
            settings: &Vec::new,
            scene: &|names: &[Written]| self.scenes.iter().find(|(known, _)| known == names).map(|(_, s)| s.clone()),
        };
        if let Some((prepare_sql, prepare)) = executed(said).and_then(|name| self.prepared.get(name)) {
            let twin = "pgcanon_check";
            return decide_execute(prepare_sql, prepare, sql, said, twin, &surroundings)
                .map(|Executed { decision, .. }| decision);
        }
        decide(sql, said, &surroundings)
    }

    async fn scene(&self, names: &[Written]) -> Result<Scene, ClassifyError> {
        let text = |name: &Name| String::from_utf8_lossy(name.as_bytes()).into_owned();
        let schemas: Vec<String> = names.iter().map(|n| n.schema.as_ref().map(text).unwrap_or_default()).collect();
        let tables: Vec<String> = names.iter().map(|n| text(&n.name)).collect();
        let row = self.client.query_one(&scene::question(), &[&schemas, &tables]).await.map_err(ControlError::from)?;
        let answer: String = row.try_get(0).map_err(ControlError::from)?;
        Ok(Scene::read(answer.as_bytes())?)
    }

    async fn resolve(&self, written: &Written) -> Result<Meaning, ClassifyError> {
        // A name in another encoding is none of the node's.
        let Some(name) = regclass(written) else { return Ok(Meaning::NONE) };
        let row = self.client.query_opt(RESOLVE, &[&name]).await.map_err(ControlError::from)?;
        Ok(row.map_or(Meaning::NONE, |row| {
            let (temporary, schema): (bool, &str) = (row.get(1), row.get(2));
            Meaning {
                oid: (!temporary).then(|| Oid(row.get(0))),
                schema: Name::from(schema),
                blind: Blind::read(row.get::<_, &str>(3).as_bytes()),
                row_security: row.get(4),
                // What is temporary is another session's.
                reaches: false,
            }
        }))
    }
}

/// The prepared statement that this one executes.
fn executed(said: &Statement) -> Option<&Name> {
    match &said.kind {
        Kind::Execute { name, .. } => Some(name),
        Kind::Explain { inner, .. } => executed(inner),
        _ => None,
    }
}

/// The name as `to_regclass` reads it.
fn regclass(written: &Written) -> Option<String> {
    let parts = written.schema.iter().chain([&written.name]);
    let names = parts.map(|part| std::str::from_utf8(part.as_bytes()).ok().map(quoted));
    Some(names.collect::<Option<Vec<_>>>()?.join("."))
}
