//! The program under test: `pgcanon run` with a configuration of its own, its log kept, its end waited for.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Addr, Cluster, PATIENCE, cluster::PG15_BIN, free_port, proc, temp_dir};

/// A running proxy in front of a cluster.
#[derive(Debug)]
pub(crate) struct Proxy {
    dir: tempfile::TempDir,
    port: u16,
    metrics: u16,
    child: Mutex<Child>,
    log: Arc<Log>,
}

/// What the program printed so far, and a bell for those who wait for a line.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(Vec<String>, u8)>,
    news: Condvar,
}

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy that listens on TCP and a Unix socket and reaches the cluster over its Unix socket.
    ///
    /// `overrides` is TOML laid over the default configuration, table by table, key by key.
    pub(crate) fn start(cluster: &Cluster, overrides: &str) -> Proxy {
        let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
        Proxy::start_for(&server, overrides)
    }

    /// Starts a proxy for any `[node] server`.
    pub(crate) fn start_for(server: &str, overrides: &str) -> Proxy {
        for _ in 0..5 {
            let proxy = Proxy::launch(server, overrides);
            // An address may be "already in use".
            let up = proxy.wait_log_or_end("ready") && !proxy.log().contains("in use");
            if up {
                return proxy;
            }
            let log = proxy.log();
            assert!(log.contains("in use"), "the proxy does not start:\n{log}");
        }
        panic!("no free port in five tries");
    }

    /// Starts the program and does not wait for it: for tests of what keeps it from running.
    pub(crate) fn launch(server: &str, overrides: &str) -> Proxy {
        let dir = temp_dir("proxy");
        let (port, metrics) = (free_port(), free_port());
        let config = dir.path().join("pgcanon.toml");
        std::fs::write(&config, configuration(dir.path(), port, metrics, server, overrides))
            .expect("write the configuration");
        let mut command = proc::guarded(Path::new(env!("CARGO_BIN_EXE_pgcanon")), "KILL", None);
        command.arg("run").arg("--config").arg(&config).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = proc::spawn(command).expect("start the proxy");
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("a pipe"));
        log.follow(child.stderr.take().expect("a pipe"));
        Proxy { dir, port, metrics, child: Mutex::new(child), log }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The directory with the Unix socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.path().join("pgcanon.toml")
    }

    pub(crate) fn tcp(&self) -> Addr {
        Addr::tcp(self.port)
    }

    /// Where the console listens, on 127.0.0.1.
    pub(crate) fn console_port(&self) -> u16 {
        self.wait_log("serving the console");
        let log = self.log();
        let line = log.lines().find(|line| line.contains("serving the console")).expect("the line waited for");
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        port.unwrap_or_else(|| panic!("no port in {line:?}"))
    }

    pub(crate) fn unix(&self) -> Addr {
        Addr::unix(self.dir.path(), self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        lock(&self.child).id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        proc::kill(self.pid(), signal);
    }

    /// Everything it wrote to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        lock(&self.log.lines).0.join("\n")
    }

    /// Waits for a line that contains `text`; panics with the log when none comes.
    pub(crate) fn wait_log(&self, text: &str) {
        assert!(self.wait_log_or_end(text), "the proxy never said {text:?}:\n{}", self.log());
    }

    /// Waits for a line that contains `text`; false when the program ended, or was silent for long, without it.
    fn wait_log_or_end(&self, text: &str) -> bool {
        let start = Instant::now();
        let mut lines = lock(&self.log.lines);
        let mut read = 0;
        loop {
            if lines.0[read..].iter().any(|line| line.contains(text)) {
                return true;
            }
            read = lines.0.len();
            if lines.1 == 0 || start.elapsed() > PATIENCE {
                return false;
            }
            lines = match self.log.news.wait_timeout(lines, Duration::from_millis(200)) {
                Ok((lines, _)) => lines,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Waits for the program's end; panics with its log when it goes on.
    pub(crate) fn wait_exit(&self) -> ExitStatus {
        let status = proc::wait(&mut lock(&self.child), PATIENCE);
        let status = status.unwrap_or_else(|| panic!("the proxy goes on:\n{}", self.log()));
        self.log.ended();
        status
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let (status, body) = self.http("/metrics");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The value of one metric line, such as `pgcanon_sessions`; labels are part of the name.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().expect("a number")
    }

    /// Status and body of a GET on the metrics address.
    pub(crate) fn http(&self, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.metrics)).expect("reach the metrics address");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("ask");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status in {head:?}")), body.to_owned())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        let ended = child.try_wait().ok().flatten();
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(child);
        if std::thread::panicking() {
            self.log.ended();
            let end = ended.map_or("ran until the end of the test".to_owned(), |status| format!("had ended: {status}"));
            eprintln!("--- log of the proxy on port {}, which {end}\n{}", self.port, self.log());
        }
    }
}

// === impl Log ===

impl Log {
    fn follow(self: &Arc<Log>, pipe: impl Read + Send + 'static) {
        lock(&self.lines).1 += 1;
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                lock(&log.lines).0.push(String::from_utf8_lossy(&line).into_owned());
                log.news.notify_all();
            }
            lock(&log.lines).1 -= 1;
            log.news.notify_all();
        });
    }

    /// Waits until both pipes are read to their end, once the program is gone.
    fn ended(&self) {
        let lines = lock(&self.lines);
        let _ = self.news.wait_timeout_while(lines, PATIENCE, |lines| lines.1 > 0);
    }
}

/// psql of version 15 as superuser, towards any host and port.
pub(crate) fn psql(host: &str, port: u16) -> Command {
    let mut psql = Command::new(format!("{PG15_BIN}/psql"));
    psql.args(["-X", "-h", host, "-p", &port.to_string(), "-U", "postgres", "-d", "postgres"]);
    psql
}

fn configuration(dir: &Path, port: u16, metrics: u16, server: &str, overrides: &str) -> String {
    let base = format!(
        "[node]\nname = \"a\"\nlisten = [\"127.0.0.1:{port}\", \"{}\"]\nserver = \"{server}\"\nmetrics = \"127.0.0.1:{metrics}\"\n",
        dir.display()
    );
    let mut config: toml::Table = base.parse().expect("the default configuration is TOML");
    let overrides: toml::Table =
        overrides.parse().unwrap_or_else(|error| panic!("overrides are no TOML: {error}\n{overrides}"));
    lay_over(&mut config, overrides);
    config.to_string()
}

fn lay_over(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// A lock that outlives the panic of another test.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
