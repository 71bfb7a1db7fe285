//! `pgcanon demo`: three nodes from nothing, pgbench on all of them, one killed and brought back, the proof that all are
//! equal, and nothing left behind.

mod load;
mod nodes;
mod process;
mod proof;
mod view;

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::load::{Load, Report};
use self::nodes::{Cluster, Node};
use self::process::Programs;
use self::view::View;
use crate::cluster::init::InitError;

/// How long everything may take to arrive once the load has ended.
const ARRIVAL: Duration = Duration::from_secs(120);

/// What the user chose.
#[derive(Debug)]
pub struct Options {
    /// How long the load runs, in seconds.
    pub seconds: u64,
    /// How many clients each node has, and pgbench's scale.
    pub clients: u32,
    pub scale: u32,
    /// Where PostgreSQL's programs are; found on this machine if not given.
    pub bindir: Option<PathBuf>,
    /// The nodes stay until the demo is interrupted.
    pub keep: bool,
}

/// The demo did not come to its end, or not to a good one.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("no PostgreSQL found: install it (Debian: apt-get install postgresql) or name its programs with --bindir")]
    NoPostgres,
    #[error("PostgreSQL does not run as root, and there is no user `postgres` to run it as")]
    NoUser,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{program} failed ({status}):\n{output}")]
    Failed { program: String, status: ExitStatus, output: String },
    #[error("{what} within {} seconds{log}", .limit.as_secs())]
    Late { what: String, limit: Duration, log: String },
    #[error("pgcanon init for node {node}: {why}")]
    Init { node: &'static str, why: String },
    #[error("a node's server cannot be asked: {0}")]
    Ask(#[from] tokio_postgres::Error),
    #[error("the nodes are not what they should be: {0}")]
    Unequal(String),
    #[error("interrupted; everything is cleaned up")]
    Interrupted,
}

impl DemoError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    fn init(node: &'static str) -> impl FnOnce(InitError) -> Self {
        move |error| Self::Init { node, why: error.to_string() }
    }
}

/// Runs the demo; whatever happens, its processes and files are gone afterwards.
///
/// # Errors
/// What kept it from its end, or that the nodes are not equal.
pub async fn demo(options: &Options) -> Result<(), DemoError> {
    // What is dropped on the way ends its processes and removes its files.
    let (mut view, cluster, verdict) = tokio::select! {
        done = run(options) => done?,
        asked = asked_to_end() => return Err(asked.err().unwrap_or(DemoError::Interrupted)),
    };
    if options.keep {
        view.say(&next(&cluster))?;
        asked_to_end().await?;
    }
    drop(cluster);
    view.say(&if options.keep {
        "Everything is cleaned up.".to_owned()
    } else {
        format!(
            "Everything is cleaned up. `{} demo --keep` leaves the nodes running and says how to look at them;\n\
             \"Two nodes in ten minutes\" in README.md is for servers of your own.",
            own_name()
        )
    })?;
    verdict
}

/// From here on these signals do not end the process by themselves.
async fn asked_to_end() -> Result<(), DemoError> {
    let listen = |kind| signal(kind).map_err(DemoError::io("signals"));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// The nodes as they are in the end, and whether they are what they should be.
async fn run(options: &Options) -> Result<(View, Cluster, Result<(), DemoError>), DemoError> {
    let programs = Programs::find(options.bindir.as_deref())?;
    let mut view = View::new();
    view.say(&format!("PostgreSQL from {}", programs.bindir.display()))?;
    let mut cluster = Cluster::make(programs)?;
    view.during("makes three nodes", cluster.start_servers()).await??;
    view.during("pgbench -i on each", cluster.fill(options.scale)).await??;
    cluster.init().await?;
    view.during("starts a proxy in front of each", cluster.start_proxies()).await??;
    for node in &cluster.nodes {
        let Node { name, ports, .. } = node;
        view.say(&format!(
            "Node {name}: PostgreSQL on port {}, pgcanon in front of it on {}",
            ports.server, ports.proxy
        ))?;
    }
    view.look_at(&cluster.nodes);
    view.during("waits until all see each other", proof::all_live(&cluster.nodes, ARRIVAL)).await??;
    let reports = play(&mut view, &mut cluster, options).await?;
    let ended = Instant::now();
    view.during("the load has ended; what is on its way arrives", proof::arrived(&cluster.nodes, ARRIVAL)).await??;
    view.settle()?;
    let behind = ended.elapsed().as_secs_f64();
    view.say(&format!("Everything had arrived everywhere {behind:.1} s after the end of the load.\n"))?;
    let verdict = proof::prove(&mut view, &cluster.nodes, &reports).await;
    match &verdict {
        Ok(()) => view.say("\nEQUAL: all three nodes hold the same; nothing was lost and nothing was done twice.")?,
        Err(error @ DemoError::Unequal(_)) => view.say(&format!("\nNOT EQUAL: {error}"))?,
        // It is said by whoever called.
        Err(_) => {}
    }
    Ok((view, cluster, verdict))
}

/// The load, with the fall of the last node in the middle of it.
async fn play(view: &mut View, cluster: &mut Cluster, options: &Options) -> Result<Vec<Report>, DemoError> {
    let (length, clients) = (Duration::from_secs(options.seconds), options.clients);
    let start = Instant::now();
    let (falls, returns, end) = (start + length / 3, start + length * 2 / 3, start + length);
    view.start_clock();
    view.say(&format!(
        "\npgbench's TPC-B through all three proxies at once, {clients} clients on each, {} s:",
        options.seconds
    ))?;
    let mut loads = Vec::new();
    for node in &cluster.nodes {
        loads.push(Load::start(&cluster.programs, node, clients, length)?);
    }
    view.during("all three nodes take writes", sleep_until(falls)).await?;

    let Some(c) = cluster.nodes.last_mut() else { return Ok(Vec::new()) };
    c.kill_server();
    view.say("*** Node c's PostgreSQL is killed, and its clients get errors. a and b go on, and keep what is for c.")?;
    view.during("node c is down", sleep_until(returns)).await?;

    let back = Instant::now();
    view.say("*** Node c is started again.")?;
    view.during("node c recovers", c.restart(&cluster.programs)).await??;
    view.say(&format!("*** Its proxy lets clients in again after {:.1} s.", back.elapsed().as_secs_f64()))?;
    let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
    loads.push(Load::start(&cluster.programs, c, clients, left)?);

    let mut reports = Vec::new();
    for load in loads {
        let report = view.during("node c catches up under load", load.finish()).await??;
        if !report.is_whole() {
            // Of node c's first load nothing else is to be expected.
            if report.node != c.name || reports.iter().any(|r: &Report| r.node == c.name) {
                return Err(report.failure());
            }
            view.say(&format!("As was to be expected, pgbench on c had ended with: {}", report.complaint()))?;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// As the user has called it.
fn own_name() -> String {
    std::env::args().next().unwrap_or_else(|| "pgcanon".to_owned())
}

/// What to type next.
fn next(cluster: &Cluster) -> String {
    let [a, .., c] = cluster.nodes.as_slice() else { return String::new() };
    let (own, psql) = (own_name(), cluster.programs.bindir.join("psql"));
    let psql = format!("{} -h 127.0.0.1 -U postgres", psql.display());
    format!(
        "The nodes stay until you press Ctrl-C. Meanwhile, in another terminal:\n\
         \x20 # write through node a's proxy, read through node c's\n\
         \x20 {psql} -p {} -c \"update pgbench_branches set filler = 'hello' where bid = 1\"\n\
         \x20 {psql} -p {} -c \"select * from pgbench_branches where bid = 1\"\n\
         \x20 # how a's peers stand, again every second; and a's console\n\
         \x20 {own} status --config {} --watch\n\
         \x20 {psql} -p {} -c 'show lanes'\n\
         \x20 # what a has captured\n\
         \x20 {own} journal dump --config {} | tail",
        a.ports.proxy,
        c.ports.proxy,
        a.config().display(),
        a.ports.console,
        a.config().display(),
    )
}
