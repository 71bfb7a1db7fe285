//! The demo's nodes: servers and proxies as child processes in a temporary directory, all of which ends with its owner.

use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use super::DemoError;
use super::process::{Process, Programs, own_group, own_program};
use crate::cluster::init::{self, Outcome, init};
use crate::config::Config;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// How long a server or a proxy may take to start, or to recover.
const START: Duration = Duration::from_secs(60);

/// How often is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(50);

/// All nodes, and the directory that they live in.
pub(super) struct Cluster {
    // In the order in which they are dropped.
    pub(super) nodes: Vec<Node>,
    pub(super) programs: Programs,
    _dir: tempfile::TempDir,
}

#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) server: u16,
    pub(super) proxy: u16,
    pub(super) console: u16,
    pub(super) metrics: u16,
}

/// What is seen of a node.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) down: bool,
    /// Transactions a second of its clients, while there are any.
    pub(super) tps: Option<f64>,
    /// What `pgcanon status --json` says, and how often it has said something.
    pub(super) status: Value,
    pub(super) reports: u64,
}

pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) ports: Ports,
    pub(super) seen: Arc<watch::Sender<Seen>>,
    dir: PathBuf,
    // Dropped in this order: who asks before who answers.
    status: Option<Process>,
    proxy: Option<Process>,
    server: Option<Process>,
}

// === impl Cluster ===

impl Cluster {
    /// The directory and the configurations; nothing runs yet.
    pub(super) fn make(programs: Programs) -> Result<Self, DemoError> {
        let dir = tempfile::Builder::new().prefix("pgcanon-demo-").tempdir();
        let dir = dir.map_err(DemoError::io("cannot make a temporary directory"))?;
        open_to(dir.path(), programs.owner)?;
        let mut key = [0_u8; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| DemoError::io("random numbers")(io::ErrorKind::Other.into()))?;
        write(&dir.path().join("cluster.key"), &key, 0o600)?;
        let all: Vec<(&str, Ports)> = NAMES.into_iter().zip(free_ports()?).collect();
        let mut nodes = Vec::new();
        for (name, ports) in all.iter().copied() {
            let node = Node {
                name,
                ports,
                seen: Arc::default(),
                dir: dir.path().join(name),
                status: None,
                proxy: None,
                server: None,
            };
            fs::create_dir(&node.dir).map_err(DemoError::io(node.dir.display().to_string()))?;
            open_to(&node.dir, programs.owner)?;
            write(&node.config(), configuration(name, ports, &all).as_bytes(), 0o644)?;
            nodes.push(node);
        }
        Ok(Self { nodes, programs, _dir: dir })
    }

    pub(super) async fn start_servers(&mut self) -> Result<(), DemoError> {
        let mut made = Vec::new();
        for node in &self.nodes {
            let mut command = self.programs.command("initdb");
            command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"]).arg(node.dir.join("data"));
            made.push(Process::start("initdb", command.stderr(Stdio::piped()).stdout(Stdio::piped()), Signal::TERM)?);
        }
        for process in made {
            process.output("initdb").await?;
        }
        for node in &mut self.nodes {
            node.start_server(&self.programs)?;
        }
        for node in &mut self.nodes {
            node.wait_for_server().await?;
        }
        Ok(())
    }

    /// pgbench's tables, the same on every node: their rows are there before the proxies are.
    pub(super) async fn fill(&self, scale: u32) -> Result<(), DemoError> {
        let mut filled = Vec::new();
        for node in &self.nodes {
            let mut command = self.programs.pgbench(node.ports.server);
            command.args(["-i", "-q", "-s", &scale.to_string(), "postgres"]);
            filled.push(Process::start(
                "pgbench",
                command.stderr(Stdio::piped()).stdout(Stdio::piped()),
                Signal::TERM,
            )?);
        }
        for process in filled {
            process.output("pgbench -i").await?;
        }
        for node in &self.nodes {
            // What was filled in shall not have to be recovered.
            node.direct().await?.batch_execute("CHECKPOINT").await?;
        }
        Ok(())
    }

    /// What `pgcanon init --grant` does, for each node, with the role that the other nodes come as.
    pub(super) async fn init(&self) -> Result<(), DemoError> {
        for node in &self.nodes {
            let failed = |why| DemoError::Init { node: node.name, why };
            let config = Config::load(&node.config()).map_err(|e| failed(e.to_string()))?;
            let options = init::Options { grant: true, ..init::Options::default() };
            let (_, outcomes) = init(&config, &options).await.map_err(DemoError::init(node.name))?;
            if let Some(Outcome::Failed(why)) = outcomes.into_iter().find(|o| matches!(o, Outcome::Failed(_))) {
                return Err(failed(why));
            }
            let role = "create role canon login; grant pgcanon_apply to canon";
            node.direct().await?.batch_execute(role).await?;
        }
        Ok(())
    }

    pub(super) async fn start_proxies(&mut self) -> Result<(), DemoError> {
        for node in &mut self.nodes {
            node.start_proxy()?;
        }
        for node in &mut self.nodes {
            node.wait_for_proxy().await?;
            node.follow_status()?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All at once, and then one after the other is waited for.
        for process in self.nodes.iter().flat_map(|n| [&n.status, &n.proxy, &n.server]).flatten() {
            process.ask_to_end();
        }
        self.nodes.clear();
    }
}

/// The user of the servers may write there.
fn open_to(dir: &Path, owner: Option<(u32, u32)>) -> Result<(), DemoError> {
    let failed = || DemoError::io(dir.display().to_string());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(failed())?;
    owner.map_or(Ok(()), |(uid, gid)| chown(dir, Some(uid), Some(gid)).map_err(failed()))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), DemoError> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(content)).map_err(DemoError::io(path.display().to_string()))
}

/// Four for each node. Below those that the system hands out for outgoing connections: a killed node's port must still be
/// free when it comes back.
fn free_ports() -> Result<[Ports; 3], DemoError> {
    let offset = u16::try_from(std::process::id() % 900).unwrap_or(0);
    let first = 20_000_u16.saturating_add(offset.saturating_mul(12));
    let mut free = (first..u16::MAX).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let mut node =
        || Some(Ports { server: free.next()?, proxy: free.next()?, console: free.next()?, metrics: free.next()? });
    let ports = [node(), node(), node()];
    match ports {
        [Some(a), Some(b), Some(c)] => Ok([a, b, c]),
        _ => Err(DemoError::io("no free ports")(io::ErrorKind::AddrInUse.into())),
    }
}

fn configuration(name: &str, ports: Ports, all: &[(&str, Ports)]) -> String {
    let Ports { server, proxy, console, metrics } = ports;
    let mut text = format!(
        "[node]\nname = \"{name}\"\nlisten = [\"127.0.0.1:{proxy}\"]\nserver = \"host=127.0.0.1 port={server}\"\n\
         control = \"dbname=postgres user=postgres\"\nadmin = \"127.0.0.1:{console}\"\nmetrics = \"127.0.0.1:{metrics}\"\n\
         cluster_key_file = \"../cluster.key\"\n\n[[table]]\nname = \"public.pgbench_*\"\n"
    );
    for (peer, ports) in all.iter().filter(|(peer, _)| *peer != name) {
        text.push_str(&format!(
            "\n[[peer]]\nname = \"{peer}\"\nconnect = \"host=127.0.0.1 port={} dbname=postgres user=canon\"\n\
             # So soon only because a demo is short.\nspill_after = \"500ms\"\n",
            ports.server
        ));
    }
    text
}

// === impl Node ===

impl Node {
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("pgcanon.toml")
    }

    /// A connection to its server, past its proxy.
    pub(super) async fn direct(&self) -> Result<Client, DemoError> {
        Ok(connect(self.ports.server).await?)
    }

    fn start_server(&mut self, programs: &Programs) -> Result<(), DemoError> {
        let mut command = programs.command("postgres");
        command.arg("-D").arg(self.dir.join("data")).args(["-p", &self.ports.server.to_string(), "-h", "127.0.0.1"]);
        command.args(["-c", "unix_socket_directories="]).stderr(self.log("postgres.log")?);
        self.server = Some(Process::start("postgres", &mut command, Signal::QUIT)?);
        Ok(())
    }

    fn start_proxy(&mut self) -> Result<(), DemoError> {
        let mut command = own_group(&own_program()?);
        command.args(["run", "--config"]).arg(self.config()).stderr(self.log("pgcanon.log")?);
        self.proxy = Some(Process::start("pgcanon run", &mut command, Signal::TERM)?);
        Ok(())
    }

    fn log(&self, name: &str) -> Result<fs::File, DemoError> {
        let path = self.dir.join(name);
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        file.map_err(DemoError::io(path.display().to_string()))
    }

    /// The end of one of its logs.
    pub(super) fn end_of_log(&self, name: &str) -> String {
        let log = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let mut lines: Vec<&str> = log.lines().rev().take(10).collect();
        lines.reverse();
        format!("; the end of {name} of node {}:\n{}", self.name, lines.join("\n"))
    }

    async fn wait_for_server(&mut self) -> Result<(), DemoError> {
        let (name, port) = (self.name, self.ports.server);
        let answers = answers(port, self.server.as_mut()).await;
        let what = format!("the PostgreSQL of node {name} does not answer");
        if answers { Ok(()) } else { Err(DemoError::Late { what, limit: START, log: self.end_of_log("postgres.log") }) }
    }

    async fn wait_for_proxy(&mut self) -> Result<(), DemoError> {
        let (name, port) = (self.name, self.ports.proxy);
        let answers = answers(port, self.proxy.as_mut()).await;
        let what = format!("the proxy of node {name} lets nobody in");
        if answers { Ok(()) } else { Err(DemoError::Late { what, limit: START, log: self.end_of_log("pgcanon.log") }) }
    }

    /// What `pgcanon status` says from now on is seen.
    fn follow_status(&mut self) -> Result<(), DemoError> {
        let mut command = own_group(&own_program()?);
        command.args(["status", "--json", "--watch", "1", "--config"]).arg(self.config()).stdout(Stdio::piped());
        let mut process = Process::start("pgcanon status", &mut command, Signal::TERM)?;
        if let Some(out) = process.child().stdout.take() {
            let (seen, mut lines) = (self.seen.clone(), BufReader::new(out).lines());
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let status = serde_json::from_str(&line).unwrap_or_default();
                    seen.send_modify(|seen| {
                        seen.status = status;
                        seen.reports = seen.reports.saturating_add(1);
                    });
                }
            });
        }
        self.status = Some(process);
        Ok(())
    }

    /// Its server ends at once, as in a crash: no client is waited for, nothing is written; starting again means recovery.
    pub(super) fn kill_server(&mut self) {
        self.server = None;
        self.seen.send_modify(|seen| seen.down = true);
    }

    /// Starts the server again, and waits until clients can use the proxy.
    pub(super) async fn restart(&mut self, programs: &Programs) -> Result<(), DemoError> {
        self.start_server(programs)?;
        self.wait_for_server().await?;
        self.wait_for_proxy().await?;
        self.seen.send_modify(|seen| seen.down = false);
        Ok(())
    }
}

async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let mut settings = tokio_postgres::Config::new();
    settings.host("127.0.0.1").port(port).user("postgres").dbname("postgres").application_name("pgcanon demo");
    let (client, connection) = settings.connect(NoTls).await?;
    // When it breaks, the next question says so.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Whether a query is answered there in time, by a process that lives.
async fn answers(port: u16, mut process: Option<&mut Process>) -> bool {
    let asked = async {
        loop {
            if let Ok(client) = connect(port).await
                && client.simple_query("SELECT 1").await.is_ok()
            {
                return true;
            }
            if process.as_mut().is_none_or(|p| !p.lives()) {
                return false;
            }
            sleep(LOOK).await;
        }
    };
    tokio::time::timeout(START, asked).await.unwrap_or(false)
}
