//! A node whose changes go to two peers: `b`, which is there, and `c`, which is not.

use std::process::{Command, Output};

use super::common::node::Node;
use super::common::session::Session;
use super::common::{PATIENCE, Pg, Proxy, eventually, free_port, proc, proxy};
use super::{psql, shown};

pub(crate) const TABLES: &str = "create table t (id int primary key, v text)";
const RULES: &str = "[[table]]\nname = \"public.*\"\n";

pub(crate) struct Site {
    // dropped in this order: the proxy before the servers
    pub(crate) proxy: Proxy,
    pub(crate) node: Node,
    pub(crate) b: Node,
    config: String,
}

impl Site {
    pub(crate) fn new() -> Site {
        Site::with("")
    }

    /// With more of a configuration.
    pub(crate) fn with(more: &str) -> Site {
        Site::peers(&["b", "c"], more)
    }

    pub(crate) fn peers(names: &[&str], more: &str) -> Site {
        let (node, b) = (Node::start(Pg::V15, TABLES, RULES), Node::start(Pg::V15, TABLES, RULES));
        // The node's proxy of this test is another one.
        for node in [&node, &b] {
            node.proxy.signal(rustix::process::Signal::TERM);
            node.proxy.wait_exit();
        }
        let mut peers = String::new();
        for name in names {
            let port = if *name == "b" { b.cluster.port() } else { free_port() };
            peers.push_str(&format!(
                "[[peer]]\nname = \"{name}\"\nspill_after = \"100ms\"\n\
                 connect = \"host=127.0.0.1 port={port} user=postgres password=hunter2 dbname={}\"\n",
                b.database
            ));
        }
        let config = format!(
            "[node]\nadmin = \"127.0.0.1:0\"\ncontrol = \"user=postgres dbname={}\"\n{RULES}{peers}{more}",
            node.database
        );
        let proxy = Proxy::start(&node.cluster, &config);
        proxy.wait_log("changes are captured");
        Site { proxy, node, b, config }
    }

    /// Ends the proxy and starts it again, whatever it waits for.
    pub(crate) fn restart(&mut self) {
        self.proxy.signal(rustix::process::Signal::KILL);
        self.proxy.wait_exit();
        self.proxy = Proxy::start(&self.node.cluster, &self.config);
    }

    /// A session of an application.
    pub(crate) fn client(&self) -> Session {
        Session::open(&self.proxy.tcp(), "postgres", &self.node.database)
    }

    /// The values of some columns of `SHOW PEERS` for one peer.
    pub(crate) fn peer(&self, name: &str, columns: &[&str]) -> Vec<String> {
        let table = shown(&self.proxy, "show peers");
        let mut lines = table.lines().map(|line| line.split('|').collect::<Vec<_>>());
        let head = lines.next().expect("a head");
        let row = lines.find(|row| row[0] == name).unwrap_or_else(|| panic!("no peer {name}:\n{table}"));
        let value = |column: &&str| row[head.iter().position(|name| name == column).expect("a column")].to_owned();
        columns.iter().map(value).collect()
    }

    /// Waits until a peer is in a state.
    pub(crate) fn until(&self, name: &str, state: &str) {
        eventually(&format!("{name} to be {state}"), || (self.peer(name, &["state"]) == [state]).then_some(()));
    }

    /// Waits until so many rows are queued for a peer.
    pub(crate) fn until_queued(&self, name: &str, rows: &str) {
        eventually(&format!("{rows} rows in the queue of {name}"), || {
            (self.peer(name, &["queue_rows"]) == [rows]).then_some(())
        });
    }

    /// The one value that a query of the console has.
    pub(crate) fn value(&self, sql: &str) -> String {
        shown(&self.proxy, sql).lines().nth(1).unwrap_or_else(|| panic!("{sql}: no row")).to_owned()
    }

    /// What a query of the console fails with.
    pub(crate) fn fails(&self, sql: &str) -> String {
        let output = psql(&self.proxy, sql);
        assert!(!output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// `pgcanon` with this node's configuration, in which the console has got its port.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let text = std::fs::read_to_string(self.proxy.config_path()).expect("read the configuration");
        let path = self.proxy.config_path().with_file_name("cli.toml");
        let text =
            text.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"127.0.0.1:{}\"", self.proxy.console_port()));
        std::fs::write(&path, text).expect("write the configuration");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
        proc::output(command.args(args).arg("--config").arg(path), PATIENCE)
    }

    /// psql on the console's Unix socket, or on its TCP port.
    pub(crate) fn psql_at(&self, host: &str) -> Command {
        proxy::psql(host, self.proxy.console_port())
    }
}
