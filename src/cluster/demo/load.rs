//! The demo's load: pgbench on one node, what it says of its pace while it runs, and what its clients were told in the end.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::DemoError;
use super::nodes::{Node, Seen};
use super::process::{Process, Programs, read};

/// Lines of its complaints that are kept.
const KEPT: usize = 20;

/// pgbench, as long as it runs.
pub(super) struct Load {
    node: &'static str,
    process: Process,
    /// Its complaints.
    errors: JoinHandle<Vec<String>>,
    clients: u32,
}

/// What became of it.
pub(super) struct Report {
    pub(super) node: &'static str,
    pub(super) clients: u32,
    /// Transactions that were confirmed to its clients.
    pub(super) confirmed: u64,
    status: ExitStatus,
    output: String,
}

// === impl Load ===

impl Load {
    pub(super) fn start(programs: &Programs, node: &Node, clients: u32, length: Duration) -> Result<Self, DemoError> {
        let mut command = programs.pgbench(node.ports.proxy);
        // Prepared statements, as applications have them.
        command.args(["-n", "-M", "prepared", "-P", "1", "-c", &clients.to_string()]);
        command.args(["-T", &length.as_secs().max(1).to_string(), "postgres"]);
        let mut process = Process::start(
            "pgbench",
            command.env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped()),
            Signal::TERM,
        )?;
        let (seen, said) = (node.seen.clone(), process.child().stderr.take());
        let errors = tokio::spawn(async move {
            let mut errors = Vec::new();
            if let Some(said) = said {
                let mut lines = BufReader::new(said).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    match pace(&line) {
                        Some(tps) => tell(&seen, Some(tps)),
                        None if errors.len() < KEPT => errors.push(line),
                        None => {}
                    }
                }
            }
            tell(&seen, None);
            errors
        });
        Ok(Self { node: node.name, process, errors, clients })
    }

    /// Waits for its end.
    pub(super) async fn finish(mut self) -> Result<Report, DemoError> {
        let out = read(self.process.child().stdout.take()).await;
        let status = self.process.child().wait().await.map_err(DemoError::io("pgbench"))?;
        let errors = self.errors.await.unwrap_or_default().join("\n");
        let confirmed = processed(&out).unwrap_or(0);
        Ok(Report { node: self.node, clients: self.clients, confirmed, status, output: format!("{errors}\n{out}") })
    }
}

// === impl Report ===

impl Report {
    /// Whether it ran to its end without an error.
    pub(super) fn is_whole(&self) -> bool {
        self.status.success()
    }

    /// The first of its complaints.
    pub(super) fn complaint(&self) -> &str {
        self.output.lines().find(|line| line.contains("error")).unwrap_or("no complaint")
    }

    /// As what should not have happened.
    pub(super) fn failure(&self) -> DemoError {
        let program = format!("pgbench on node {}", self.node);
        DemoError::Failed { program, status: self.status, output: self.output.clone() }
    }
}

fn tell(seen: &Arc<watch::Sender<Seen>>, tps: Option<f64>) {
    seen.send_modify(|seen| seen.tps = tps);
}

/// From `progress: 3.0 s, 812.4 tps, lat …`.
fn pace(line: &str) -> Option<f64> {
    let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    rest.split_once(" tps").and_then(|(tps, _)| tps.parse().ok())
}

/// From `number of transactions actually processed: 7121`.
fn processed(report: &str) -> Option<u64> {
    let line = report.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "))?;
    line.split('/').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbench_says_is_understood() {
        assert_eq!(pace("progress: 3.0 s, 812.4 tps, lat 4.9 ms stddev 1.2, 0 failed"), Some(812.4));
        assert_eq!(pace("pgbench: error: client 2 script 0 aborted in command 5"), None);
        let report = "scaling factor: 5\nnumber of transactions actually processed: 7121\nlatency average = 3 ms\n";
        assert_eq!(processed(report), Some(7121));
        assert_eq!(processed("number of transactions actually processed: 40/40"), Some(40));
    }
}
