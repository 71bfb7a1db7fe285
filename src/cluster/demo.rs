//! `pgcanon demo`: a node and its proxy from nothing, real clients through it, and nothing left behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What the user chose.
#[derive(Debug)]
pub struct Options {
    pub seconds: u32,
    pub bindir: Option<PathBuf>,
}

/// The demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("no PostgreSQL found: install it (Debian: apt-get install postgresql) or name its programs with --bindir")]
    NoPostgres,
    #[error("PostgreSQL does not run as root, and there is no user `postgres` to run it as")]
    NoUser,
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{program} failed ({status}):\n{output}")]
    Failed { program: String, status: std::process::ExitStatus, output: String },
    #[error("the nodes' clients disagree: {0}")]
    Unequal(String),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::Io { what: what.into(), source }
}

/// Runs the demo; whatever happens, its processes and files are gone afterwards.
pub fn demo(options: &Options) -> Result<(), DemoError> {
    let bindir = match &options.bindir {
        Some(dir) => dir.clone(),
        None => find_postgres().ok_or(DemoError::NoPostgres)?,
    };
    let owner = owner()?;
    let dir = TempDir::make(owner)?;
    let node = Node { bindir: &bindir, dir: &dir.0, owner, port: free_port()? };
    println!("PostgreSQL from {}", bindir.display());
    let _server = node.start_server()?;
    println!("A node: PostgreSQL on 127.0.0.1:{}", node.port);
    let proxy_port = free_port()?;
    let proxy = node.start_proxy(proxy_port)?;
    println!("Its proxy: pgcanon on 127.0.0.1:{proxy_port}");

    println!("\npsql through the proxy says:");
    let version = node.psql(proxy_port, "select version()")?;
    println!("  {version}");

    println!("\npgbench -i through the proxy, then TPC-B in every protocol ({} s each, 4 clients):", options.seconds);
    node.pgbench(proxy_port, &["-q", "-i", "-s", "5"])?;
    println!("  {:<10} {:>12} {:>12} {:>7}", "protocol", "direct tps", "proxy tps", "ratio");
    for protocol in ["simple", "extended", "prepared"] {
        let seconds = options.seconds.to_string();
        let args = ["-n", "-c", "4", "-j", "2", "-T", &seconds, "-M", protocol];
        let direct = tps(&node.pgbench(node.port, &args)?);
        let through = tps(&node.pgbench(proxy_port, &args)?);
        println!("  {protocol:<10} {direct:>12.0} {through:>12.0} {:>7.2}", through / direct);
    }

    let sums = "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
                (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)";
    let (direct, through) = (node.psql(node.port, sums)?, node.psql(proxy_port, sums)?);
    let balanced = direct.split('|').all(|sum| Some(sum) == direct.split('|').next());
    if direct != through || !balanced {
        return Err(DemoError::Unequal(format!("directly {direct}, through the proxy {through}")));
    }
    println!("\nProof: accounts, tellers, branches and history all sum to {}.", direct.split('|').next().unwrap_or(""));
    proxy.end()?;
    println!("The proxy drained and ended; everything is cleaned up.");
    println!("\nNext: write a configuration (config/pgcanon.toml shows every key) and\n  pgcanon run --config FILE");
    Ok(())
}

/// The user and group to run the server as, when that is not the caller.
type Owner = Option<(u32, u32)>;

fn owner() -> Result<Owner, DemoError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(io_error("/etc/passwd"))?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).ok_or(DemoError::NoUser)?;
    let mut ids = line.split(':').skip(2).map_while(|id| id.parse().ok());
    ids.next().zip(ids.next()).map(Some).ok_or(DemoError::NoUser)
}

/// The newest PostgreSQL that has all we need: Debian's places, then the path.
fn find_postgres() -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|e| e.path().join("bin")).collect())
        .unwrap_or_default();
    dirs.sort();
    dirs.reverse();
    dirs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    dirs.into_iter().find(|dir| ["initdb", "postgres", "psql", "pgbench"].iter().all(|p| dir.join(p).is_file()))
}

fn free_port() -> Result<u16, DemoError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(io_error("cannot find a free port"))?;
    Ok(listener.local_addr().map_err(io_error("cannot find a free port"))?.port())
}

/// A directory that is removed with everything in it.
struct TempDir(PathBuf);

impl TempDir {
    fn make(owner: Owner) -> Result<Self, DemoError> {
        let path = std::env::temp_dir().join(format!("pgcanon-demo-{}", std::process::id()));
        let failed = || io_error(path.display().to_string());
        fs::create_dir(&path).map_err(failed())?;
        let dir = Self(path.clone());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed())?;
        if let Some((uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid)).map_err(failed())?;
        }
        Ok(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that does not outlive the demo.
struct Process(Child);

impl Process {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Asks it to end in its own time.
    fn end(mut self) -> Result<(), DemoError> {
        self.signal(rustix::process::Signal::TERM);
        self.0.wait().map(drop).map_err(io_error("cannot wait for the proxy"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // To a server this means a fast shutdown, to a proxy the same as SIGTERM; twice, it ends at once.
        self.signal(rustix::process::Signal::INT);
        for _ in 0..100 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Node<'a> {
    bindir: &'a Path,
    dir: &'a Path,
    owner: Owner,
    port: u16,
}

impl Node<'_> {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bindir.join(program));
        command.current_dir(self.dir).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn start_server(&self) -> Result<Process, DemoError> {
        let data = self.dir.join("data");
        output(self.command("initdb").args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"]).arg(&data))?;
        let log = fs::File::create(self.dir.join("postgres.log")).map_err(io_error("postgres.log"))?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k"])
            .arg(self.dir)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(io_error("postgres"))?;
        let server = Process(child);
        let ready = self
            .command("pg_isready")
            .args(["-q", "-t", "1", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status();
        let mut tries = 0;
        let mut up = ready.map_err(io_error("pg_isready"))?.success();
        while !up && tries < 150 {
            std::thread::sleep(Duration::from_millis(100));
            tries += 1;
            let again =
                self.command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]).status();
            up = again.map_err(io_error("pg_isready"))?.success();
        }
        if up {
            return Ok(server);
        }
        let log = fs::read_to_string(self.dir.join("postgres.log")).unwrap_or_default();
        Err(io_error(format!("the server does not start:\n{log}"))(io::ErrorKind::TimedOut.into()))
    }

    fn start_proxy(&self, port: u16) -> Result<Process, DemoError> {
        let config = self.dir.join("pgcanon.toml");
        let text = format!(
            "[node]\nname = \"demo\"\nlisten = [\"127.0.0.1:{port}\"]\nserver = \"host=127.0.0.1 port={}\"\n",
            self.port
        );
        fs::write(&config, text).map_err(io_error("pgcanon.toml"))?;
        let own = std::env::current_exe().map_err(io_error("cannot find pgcanon itself"))?;
        let mut child = Command::new(own)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io_error("pgcanon run"))?;
        let stderr = child.stderr.take();
        let proxy = Process(child);
        let mut lines =
            BufReader::new(stderr.ok_or_else(|| io_error("pgcanon run")(io::ErrorKind::BrokenPipe.into()))?).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("ready"));
        // What it logs later is read, so that it never waits for us, and dropped.
        std::thread::spawn(move || lines.for_each(drop));
        if ready { Ok(proxy) } else { Err(io_error("pgcanon run ended")(io::ErrorKind::BrokenPipe.into())) }
    }

    fn client(&self, program: &str, port: u16) -> Command {
        let mut command = self.command(program);
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
        command
    }

    fn psql(&self, port: u16, sql: &str) -> Result<String, DemoError> {
        output(self.client("psql", port).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"]))
    }

    fn pgbench(&self, port: u16, args: &[&str]) -> Result<String, DemoError> {
        output(self.client("pgbench", port).args(args).arg("postgres"))
    }
}

fn output(command: &mut Command) -> Result<String, DemoError> {
    let program =
        Path::new(command.get_program()).file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    let output = command.output().map_err(io_error(&program))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(DemoError::Failed { program, status: output.status, output: text })
}

/// Transactions per second, as pgbench reports them.
fn tps(report: &str) -> f64 {
    let line = report.lines().find_map(|line| line.strip_prefix("tps = "));
    line.and_then(|line| line.split(' ').next()).and_then(|tps| tps.parse().ok()).unwrap_or(f64::NAN)
}
