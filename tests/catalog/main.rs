//! What pgcanon knows of a node's catalog, as PostgreSQL 15 and 18 tell it.

#[path = "../common/mod.rs"]
mod common;

mod anywhere;
mod functions;
mod relations;
mod types;

use std::sync::Arc;

use common::{Cluster, Pg};
use pgcanon::catalog::load::{self, Named};
use pgcanon::catalog::relation::{Catalog, Oid, Relation};
use pgcanon::config::{Config, TableRule};

/// The rules of a configuration that holds these, in order.
fn rules(names: &[&str]) -> Vec<TableRule> {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("pgcanon.toml");
    let rules: String = names.iter().map(|name| format!("[[table]]\nname = \"{name}\"\n")).collect();
    std::fs::write(&path, format!("[node]\nname = \"a\"\n{rules}")).expect("write the configuration");
    Config::load(&path).unwrap_or_else(|e| panic!("{e}")).tables
}

/// A new database in the shared cluster of a version.
struct Database {
    cluster: Arc<Cluster>,
    name: &'static str,
}

impl Database {
    fn new(pg: Pg, name: &'static str, sql: &str) -> Database {
        let cluster = Cluster::shared(pg);
        cluster.psql(&format!("create database {name}"));
        let database = Database { cluster, name };
        database.run(sql);
        database
    }

    fn connect<T>(&self, user: &str, work: impl AsyncFnOnce(&tokio_postgres::Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut config = tokio_postgres::Config::new();
        config.host(self.cluster.socket_dir().to_str().expect("a path")).port(self.cluster.port());
        config.user(user).dbname(self.name);
        runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("connect");
            tokio::spawn(connection);
            work(&client).await
        })
    }

    fn run(&self, sql: &str) {
        self.connect("postgres", async |client| client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{e:?}")));
    }

    fn load_as(&self, user: &str, names: &[&str], named: &Named) -> Catalog {
        let rules = rules(names);
        self.connect(user, async |client| load::load(client, &rules, named).await.unwrap_or_else(|e| panic!("{e:?}")))
    }

    fn load(&self, names: &[&str]) -> Catalog {
        self.load_as("postgres", names, &Named::default())
    }
}

/// The relation of this name; panics where there is none or more than one.
fn relation<'a>(catalog: &'a Catalog, name: &str) -> &'a Relation {
    find(catalog, name).unwrap_or_else(|| panic!("no {name} in {:?}", names(catalog)))
}

fn find<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a Relation> {
    let mut found = catalog.relations.values().filter(|r| r.name.table == name || r.name.to_string() == name);
    let first = found.next();
    assert!(found.next().is_none(), "two relations are named {name}");
    first.map(Arc::as_ref)
}

/// The names of all relations, sorted.
fn names(catalog: &Catalog) -> Vec<String> {
    let mut names: Vec<String> = catalog.relations.values().map(|r| r.name.table.clone()).collect();
    names.sort();
    names
}

/// The names that OIDs stand for, sorted.
fn named(catalog: &Catalog, oids: &[Oid]) -> Vec<String> {
    let name = |oid: &Oid| catalog.relations.get(oid).map_or(format!("{oid:?}"), |r| r.name.table.clone());
    let mut names: Vec<String> = oids.iter().map(name).collect();
    names.sort();
    names
}

/// The tests' two versions.
macro_rules! on_15_and_18 {
    ($($name:ident),+ $(,)?) => {
        mod v15 { $(#[test] fn $name() { super::$name(crate::common::Pg::V15); })+ }
        mod v18 { $(#[test] fn $name() { super::$name(crate::common::Pg::V18); })+ }
    };
}
pub(crate) use on_15_and_18;
