//! `pgcanon init` as an administrator meets it: what it makes, what it leaves alone, and what it says when it may not.

#[path = "../common/mod.rs"]
mod common;

mod make;
mod peers;
mod remove;
mod rights;
mod sequences;

use std::process::Command;

use common::{Cluster, PATIENCE, proc};

/// A configuration on disk, for one database of a cluster.
struct Site {
    dir: tempfile::TempDir,
}

/// How a run ended: exit code, standard output, standard error.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Site {
    /// `control` lies over the way to the cluster; `rules` stands at the end of the file.
    fn new(cluster: &Cluster, control: &str, rules: &str) -> Site {
        let text = format!(
            "[node]\nname = \"a\"\nserver = \"host={} port={}\"\ncontrol = \"{control}\"\n{rules}",
            cluster.socket_dir().display(),
            cluster.port()
        );
        Site::with(&text)
    }

    fn with(text: &str) -> Site {
        let dir = common::temp_dir("init");
        std::fs::write(dir.path().join("pgcanon.toml"), text).expect("write the configuration");
        Site { dir }
    }

    fn init(&self, args: &[&str]) -> Ran {
        self.run("init", args)
    }

    fn run(&self, subcommand: &str, args: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
        command.arg(subcommand).arg("--config").arg(self.dir.path().join("pgcanon.toml")).args(args);
        let output = proc::output(&mut command, PATIENCE);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    /// What it printed; panics unless it ended with `code`.
    fn code(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "--- stdout\n{}\n--- stderr\n{}", self.out, self.err);
        self.out + &self.err
    }
}

/// A database of its own in a shared cluster, owned by a role of its own without further rights.
fn database(cluster: &Cluster, name: &str) {
    cluster.psql(&format!("create role {name} login"));
    cluster.psql(&format!("create database {name} owner {name}"));
}

/// Runs SQL in a database as a role; what psql printed, or its error.
fn sql(cluster: &Cluster, database: &str, role: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new(format!("{}/psql", common::cluster::PG15_BIN));
    psql.args(["-X", "-h", &cluster.socket_dir().display().to_string(), "-p", &cluster.port().to_string()]);
    psql.args(["-U", role, "-d", database, "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-qAtc", sql]);
    let output = proc::output(&mut psql, PATIENCE);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The tests' two versions.
macro_rules! on_15_and_18 {
    ($($name:ident),+ $(,)?) => {
        mod v15 { $(#[test] fn $name() { super::$name(&crate::common::Cluster::start(crate::common::Pg::V15, "", "")); })+ }
        mod v18 { $(#[test] fn $name() { super::$name(&crate::common::Cluster::start(crate::common::Pg::V18, "", "")); })+ }
    };
}
pub(crate) use on_15_and_18;
