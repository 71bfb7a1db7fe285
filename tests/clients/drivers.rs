//! Drivers of other languages, by a script each that checks its own data and ends with "all passed".

use std::path::PathBuf;
use std::process::Command;

use crate::common::{Pg, cache, proc, temp_dir, tests_dir};
use crate::{SUITE, Site};

fn script(name: &str) -> PathBuf {
    tests_dir().join("clients").join(name)
}

fn passes(command: &mut Command) {
    let printed = proc::run(command, SUITE);
    assert!(printed.contains("all passed"), "{printed}");
}

fn on_both(database: &str, suite: impl Fn(&Site) -> Command) {
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, database);
        passes(&mut suite(&site));
    }
}

#[test]
fn psycopg() {
    on_both("psycopg", |site| {
        let mut python = site.client(&cache("venv/bin/python").display().to_string());
        python.arg(script("psycopg_suite.py"));
        python
    });
}

#[test]
fn asyncpg() {
    on_both("asyncpg", |site| {
        let mut python = site.client(&cache("venv/bin/python").display().to_string());
        python.arg(script("asyncpg_suite.py"));
        python
    });
}

#[test]
fn node_postgres() {
    on_both("node_postgres", |site| {
        let mut node = site.client("node");
        node.arg(script("node_suite.js")).env("NODE_PATH", cache("node/node_modules"));
        node
    });
}

#[test]
fn pgjdbc() {
    let classes = temp_dir("java");
    let path = format!("/usr/share/java/postgresql.jar:{}", classes.path().display());
    let mut javac = Command::new("javac");
    javac.args(["-cp", &path, "-d"]).arg(classes.path()).arg(script("JdbcSuite.java"));
    proc::run(&mut javac, SUITE);
    on_both("pgjdbc", |site| {
        let mut java = site.client("java");
        java.args(["-XX:TieredStopAtLevel=1", "-cp", &path, "JdbcSuite"]);
        java
    });
}
