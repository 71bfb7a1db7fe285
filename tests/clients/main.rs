//! Real clients, each through the proxy with a database of its own: their data must be right, and they must notice nothing.

#[path = "../common/mod.rs"]
mod common;

mod drivers;
mod dump;
mod pgbench;
mod psql;
mod tokio_postgres;

use std::process::Command;
use std::time::Duration;

use common::cluster::PG15_BIN;
use common::oracle::Way;
use common::{Addr, Cluster, Pg, proc};

/// How long one client's whole suite may take.
const SUITE: Duration = Duration::from_secs(180);

/// A database on a cluster, and where its clients connect.
struct Site {
    way: Way,
    database: String,
}

impl Site {
    /// A fresh database of this name on the shared cluster of a version; it is dropped with the site.
    fn new(pg: Pg, database: &str) -> Site {
        let way = Way::to(Cluster::shared(pg));
        way.cluster.psql(&format!("create database {database}"));
        Site { way, database: database.to_owned() }
    }

    /// A client program with the connection in its environment, over TCP through the proxy.
    fn client(&self, program: &str) -> Command {
        self.client_at(program, &self.way.tcp())
    }

    fn client_at(&self, program: &str, addr: &Addr) -> Command {
        let mut command = Command::new(program);
        command
            .env("PGHOST", addr.host())
            .env("PGPORT", addr.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", &self.database)
            .env("PGAPPNAME", "clients")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// A client program of PostgreSQL itself.
    fn tool(&self, name: &str) -> Command {
        self.client(&format!("{PG15_BIN}/{name}"))
    }

    /// SQL on the site's database, through the proxy, by psql: unaligned rows.
    fn sql(&self, sql: &str) -> String {
        let mut psql = self.tool("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        proc::run(&mut psql, SUITE).trim_end().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let mut psql =
            common::proxy::psql(&self.way.cluster.socket_dir().display().to_string(), self.way.cluster.port());
        psql.args(["-qc", &format!("drop database if exists {} with (force)", self.database)]);
        let _ = proc::output(&mut psql, SUITE);
    }
}
