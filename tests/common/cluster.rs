//! Throw-away PostgreSQL clusters, copied from a template that `initdb` makes once per version and run.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use rustix::process::Signal;

use super::{Addr, PATIENCE, cache, eventually, free_port, proc, temp_dir};

/// Where Debian keeps the server, and every client program the tests use.
pub(crate) const PG15_BIN: &str = "/usr/lib/postgresql/15/bin";

/// Tells the processes of a server another time than the machine's (Debian package `libfaketime`).
fn other_clock() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found = found.map(|dir| dir.path().join("faketime/libfaketime.so.1")).filter(|library| library.exists());
    found.next().expect("libfaketime.so.1 is missing: run tests/setup first")
}

/// The versions the tests know; 17 and 18 bring a server only, clients are always those of 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pg {
    V15,
    V17,
    V18,
}

/// How a cluster stops: PostgreSQL's smart, fast and immediate shutdown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Smart,
    Fast,
    Immediate,
}

/// One running server with its own data, socket directory and loopback port; the superuser is `postgres`, trusted unless
/// the test brought its own `pg_hba.conf`.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) pg: Pg,
    dir: tempfile::TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
    /// So many seconds its clock is ahead of the machine's.
    ahead: i32,
}

// === impl Pg ===

impl Pg {
    fn bin(self) -> PathBuf {
        match self {
            Pg::V15 => PathBuf::from(PG15_BIN),
            Pg::V17 => cache("pg17/bin"),
            Pg::V18 => cache("pg18/bin"),
        }
    }

    /// The data directory every cluster of this version starts as a copy of.
    fn template(self) -> PathBuf {
        let bin = self.bin().canonicalize().expect("the server is installed");
        let root = std::env::temp_dir().join(format!("pgcanon-template-{}", rustix::process::geteuid().as_raw()));
        std::fs::create_dir_all(&root).expect("make the template directory");
        let lock = std::fs::File::create(root.join("lock")).expect("make the template lock");
        lock.lock().expect("lock the template"); // other test processes may want the same template
        let changed = std::fs::metadata(bin.join("initdb")).and_then(|m| m.modified()).expect("initdb exists");
        let age = changed.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let template = root.join(format!("{self:?}-{age}"));
        if !template.exists() {
            let fresh = temp_dir("initdb");
            let data = fresh.path().join("data");
            hand_to_server(fresh.path());
            let mut initdb = proc::guarded(&bin.join("initdb"), "KILL", Some("postgres"));
            initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
            proc::run(&mut initdb, Duration::from_secs(120));
            let half = root.join("half"); // renamed when whole: a killed run leaves no broken template
            let _ = std::fs::remove_dir_all(&half);
            copy(&data, &half);
            std::fs::rename(&half, &template).expect("put the template in place");
        }
        template
    }
}

// === impl Cluster ===

impl Cluster {
    /// Starts a cluster with lines for `postgresql.conf` and, unless empty, a whole `pg_hba.conf`.
    ///
    /// `fsync` is off: a test of durability says `fsync = on`.
    pub(crate) fn start(pg: Pg, extra_conf: &str, hba: &str) -> Cluster {
        Cluster::start_ahead(pg, extra_conf, hba, 0)
    }

    /// [`start`](Self::start), with a clock that is so many seconds ahead of the machine's, or behind it.
    pub(crate) fn start_ahead(pg: Pg, extra_conf: &str, hba: &str, ahead: i32) -> Cluster {
        let dir = temp_dir("cluster");
        let data = dir.path().join("data");
        copy(&pg.template(), &data);
        let mut cluster = Cluster { pg, dir, port: 0, child: Mutex::new(None), ahead };
        if !hba.is_empty() {
            std::fs::write(data.join("pg_hba.conf"), hba).expect("write pg_hba.conf");
        }
        hand_to_server(cluster.dir.path());
        cluster.boot(extra_conf);
        cluster
    }

    /// Starts a standby of this server, with lines for its configuration, that reaches it by a port of 127.0.0.1: its own or a
    /// relay's.
    pub(crate) fn standby(&self, extra_conf: &str, primary: u16) -> Cluster {
        let (dir, child) = (temp_dir("standby"), Mutex::new(None));
        let mut standby = Cluster { pg: self.pg, dir, port: 0, child, ahead: self.ahead };
        let mut backup = Command::new(format!("{PG15_BIN}/pg_basebackup"));
        backup.args(["-h", "127.0.0.1", "-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync"]);
        backup.args(["-p", &self.port.to_string(), "-D"]).arg(standby.data_dir());
        proc::run(&mut backup, PATIENCE * 2);
        std::fs::write(standby.data_dir().join("standby.signal"), "").expect("make it a standby");
        hand_to_server(standby.dir.path());
        standby.boot(&format!(
            "{extra_conf}primary_conninfo = 'host=127.0.0.1 port={primary} user=postgres application_name=standby'\n"
        ));
        standby
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        assert_eq!(self.psql("select pg_promote()"), "t");
    }

    /// Starts the server for the first time, on a free port.
    fn boot(&mut self, extra_conf: &str) {
        for _ in 0..5 {
            self.port = free_port();
            let conf = format!(
                "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\n\
                 max_connections = 60\nshared_buffers = 32MB\nlog_line_prefix = '%m [%p] '\ntimezone = 'UTC'\n\
                 log_timezone = 'UTC'\n{extra_conf}\n",
                self.port,
                self.dir.path().display()
            );
            std::fs::write(self.data_dir().join("postgresql.auto.conf"), conf).expect("write the configuration");
            if self.try_start() {
                return;
            }
            let log = self.log();
            assert!(log.contains("could not bind"), "the server does not start:\n{log}");
        }
        panic!("no free port in five tries");
    }

    /// A cluster with plain settings that tests of this process share; it lives until the last test that asked for it ends.
    pub(crate) fn shared(pg: Pg) -> Arc<Cluster> {
        thread_local! { // a test is a thread
            static HELD: RefCell<Vec<Arc<Cluster>>> = const { RefCell::new(Vec::new()) };
        }
        static SHARED: Mutex<[Weak<Cluster>; 3]> = Mutex::new([Weak::new(), Weak::new(), Weak::new()]);
        let mut shared = lock(&SHARED);
        let slot = &mut shared[pg as usize];
        let cluster = slot.upgrade().unwrap_or_else(|| Arc::new(Cluster::start(pg, "", "")));
        *slot = Arc::downgrade(&cluster);
        HELD.with_borrow_mut(|held| held.push(Arc::clone(&cluster)));
        cluster
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill9`](Self::kill9), on the same port and data.
    pub(crate) fn restart(&self) {
        self.end(Stop::Fast);
        assert!(self.try_start(), "the server does not start again:\n{}", self.log());
    }

    fn try_start(&self) -> bool {
        let log =
            std::fs::File::options().append(true).create(true).open(self.log_path()).expect("open the server's log");
        let server = self.pg.bin().join("postgres");
        let mut postgres = match self.ahead {
            0 => proc::guarded(&server, "QUIT", Some("postgres")),
            ahead => {
                // From here on only: what the library shares with its children belongs to the server's user.
                let mut env = proc::guarded(Path::new("env"), "QUIT", Some("postgres"));
                env.arg(format!("LD_PRELOAD={}", other_clock().display())).arg(format!("FAKETIME={ahead:+}s"));
                // Waiting takes as long as it does.
                env.arg("FAKETIME_DONT_FAKE_MONOTONIC=1").arg(server);
                env
            }
        };
        postgres.arg("-D").arg(self.data_dir()).stdout(Stdio::null()).stderr(log).env_remove("PGDATA");
        let mut child = proc::spawn(postgres).expect("start the server");
        let status_file = self.data_dir().join("postmaster.pid");
        let up = eventually("the server to be ready", || {
            if child.try_wait().expect("wait for the server").is_some() {
                return Some(false);
            }
            let status = std::fs::read_to_string(&status_file).unwrap_or_default();
            let ours = status.lines().next() == Some(&child.id().to_string());
            (ours && status.lines().nth(7).is_some_and(|line| ["ready", "standby"].contains(&line.trim())))
                .then_some(true)
        });
        *lock(&self.child) = up.then_some(child);
        up
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&self, how: Stop) {
        assert!(self.end(how), "the server was not running");
    }

    /// Kills the postmaster as a crash would; its children notice and end by themselves.
    pub(crate) fn kill9(&self) {
        let mut child = lock(&self.child).take().expect("the server runs");
        proc::kill(child.id(), Signal::KILL);
        let _ = child.wait();
        // The next start must find no old backend attached to the shared memory.
        let segment = self.shared_memory_users();
        eventually("the backends to end", || segment.iter().all(|pid| !alive(*pid)).then_some(()));
        let _ = std::fs::remove_file(self.data_dir().join("postmaster.pid"));
    }

    /// Kills every process of the server at once: nobody has the time to write what is in memory only.
    pub(crate) fn crash(&self) {
        let mut child = lock(&self.child).take().expect("the server runs");
        proc::kill(child.id(), Signal::STOP); // it forks no more
        let all = children(child.id());
        for pid in all.iter().copied().chain([child.id()]) {
            proc::kill(pid, Signal::KILL);
        }
        let _ = child.wait();
        eventually("the backends to end", || all.iter().all(|pid| !alive(*pid)).then_some(()));
    }

    /// Stops postmaster and all its processes in their tracks (SIGSTOP): a server that hangs.
    pub(crate) fn pause(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets a paused server go on.
    pub(crate) fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// No file of this server grows beyond so many bytes, until it is told that any may. PostgreSQL takes it as a full disk, as long
    /// as part of the last page fits.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let set = |pid: u32| {
            // As the server's user, who may do that without being root; the hard limit stays as it is.
            let mut prlimit = proc::guarded(Path::new("prlimit"), "KILL", Some("postgres"));
            proc::output(prlimit.arg(format!("--fsize={limit}:")).args(["--pid", &pid.to_string()]), PATIENCE)
        };
        // The postmaster first: who is forked from now on has it from there.
        let postmaster = set(self.pid());
        assert!(postmaster.status.success(), "{postmaster:?}");
        for pid in children(self.pid()) {
            let child = set(pid);
            assert!(child.status.success() || !alive(pid), "{child:?}");
        }
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = self.pid();
        // The postmaster first when stopping, so that it forks no more; last when going on.
        let mut pids = vec![postmaster];
        if signal == Signal::STOP {
            proc::kill(postmaster, signal);
        }
        pids.extend(children(postmaster));
        for pid in pids {
            proc::kill(pid, signal);
        }
    }

    fn shared_memory_users(&self) -> Vec<u32> {
        let data = self.data_dir();
        let procs = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = procs.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)).collect()
    }

    fn end(&self, how: Stop) -> bool {
        let Some(mut child) = lock(&self.child).take() else {
            return false;
        };
        let signal = match how {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        proc::kill(child.id(), signal);
        if proc::wait(&mut child, PATIENCE).is_none() {
            proc::kill(child.id(), Signal::KILL);
            let _ = child.wait();
        }
        true
    }

    pub(crate) fn pid(&self) -> u32 {
        lock(&self.child).as_ref().expect("the server runs").id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The directory that holds the Unix socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn tcp(&self) -> Addr {
        Addr::tcp(self.port)
    }

    pub(crate) fn unix(&self) -> Addr {
        Addr::unix(self.socket_dir(), self.port)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// What the server wrote to its log so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Runs SQL as superuser directly on the server and returns the unaligned output without headers.
    pub(crate) fn psql(&self, sql: &str) -> String {
        let mut psql = super::proxy::psql(&self.socket_dir().display().to_string(), self.port);
        psql.args(["-v", "ON_ERROR_STOP=1", "-qAtc", sql]);
        proc::run(&mut psql, PATIENCE).trim_end().to_owned()
    }

    /// Runs many statements, each in its own transaction unless they say otherwise.
    pub(crate) fn psql_script(&self, script: &str) {
        let path = self.dir.path().join("script.sql");
        std::fs::write(&path, script).expect("write the script");
        let mut psql = super::proxy::psql(&self.socket_dir().display().to_string(), self.port);
        psql.args(["-v", "ON_ERROR_STOP=1", "-qAtf"]).arg(path);
        proc::run(&mut psql, PATIENCE);
    }

    /// Makes the server read its configuration again.
    pub(crate) fn reload(&self) {
        assert_eq!(self.psql("select pg_reload_conf()"), "t");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(child) = lock(&self.child).as_ref() {
            proc::kill(child.id(), Signal::CONT); // a paused postmaster hears no other signal
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            eprintln!("--- end of the log of {:?} on port {}", self.pg, self.port);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        for pid in lock(&self.child).as_ref().map(|child| children(child.id())).unwrap_or_default() {
            proc::kill(pid, Signal::CONT);
        }
        self.end(Stop::Immediate);
    }
}

/// A lock that outlives the panic of another test.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Gives a directory tree to the user the server runs as.
pub(super) fn hand_to_server(path: &Path) {
    if proc::is_root() {
        proc::run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(path), PATIENCE);
    }
}

fn copy(from: &Path, to: &Path) {
    proc::run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to), PATIENCE);
}
