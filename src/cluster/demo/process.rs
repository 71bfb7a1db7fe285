//! The demo's processes: PostgreSQL's programs and pgcanon itself, in process groups of their own, none of which outlives its
//! owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::DemoError;

/// How long a process may take to end before it is killed: longer than a server gives its own children.
const END: Duration = Duration::from_secs(10);

/// PostgreSQL's programs, and whom they run as.
pub(super) struct Programs {
    pub(super) bindir: PathBuf,
    /// User and group, where that is not the caller.
    pub(super) owner: Option<(u32, u32)>,
}

/// A process that does not outlive its owner.
pub(super) struct Process {
    child: Child,
    /// What asks it to end soon.
    end: Signal,
}

// === impl Programs ===

impl Programs {
    pub(super) fn find(bindir: Option<&Path>) -> Result<Self, DemoError> {
        let bindir = bindir.map(Path::to_owned).or_else(find_postgres).ok_or(DemoError::NoPostgres)?;
        Ok(Self { bindir, owner: owner()? })
    }

    /// One of them, with nothing of the caller's PG variables.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = own_group(&self.bindir.join(program));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    pub(super) fn pgbench(&self, port: u16) -> Command {
        let mut command = self.command("pgbench");
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
        command
    }
}

/// A program in a process group of its own, so that Ctrl-C is for the demo to deal with.
pub(super) fn own_group(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The user and group to run servers as, when that is not the caller.
fn owner() -> Result<Option<(u32, u32)>, DemoError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(DemoError::io("/etc/passwd"))?;
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
    dirs.into_iter().find(|dir| ["initdb", "postgres", "pgbench"].iter().all(|p| dir.join(p).is_file()))
}

/// Pgcanon's own.
pub(super) fn own_program() -> Result<PathBuf, DemoError> {
    std::env::current_exe().map_err(DemoError::io("cannot find pgcanon itself"))
}

// === impl Process ===

impl Process {
    pub(super) fn start(what: &str, command: &mut Command, end: Signal) -> Result<Self, DemoError> {
        Ok(Self { child: command.spawn().map_err(DemoError::io(what))?, end })
    }

    /// Whether it has not ended.
    pub(super) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end soon.
    pub(super) fn ask_to_end(&self) {
        self.signal(self.end);
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end of a program whose output is short, and which should not fail.
    pub(super) async fn output(mut self, what: &str) -> Result<(), DemoError> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let (out, err) = tokio::join!(read(out), read(err));
        let status = self.child.wait().await.map_err(DemoError::io(what))?;
        let output = format!("{out}{err}");
        if status.success() { Ok(()) } else { Err(DemoError::Failed { program: what.to_owned(), status, output }) }
    }

    fn signal(&self, signal: Signal) {
        // A child that was waited for has no id any more: nobody else's is signalled.
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

pub(super) async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read until then is worth showing.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}

impl Drop for Process {
    /// Asks it to end, once more after a second (a proxy then ends the sessions that are left), and kills it at last.
    fn drop(&mut self) {
        let start = Instant::now();
        let mut asked = 0;
        while self.lives() {
            let waited = start.elapsed();
            if waited >= END {
                self.signal(Signal::KILL);
                while self.lives() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return;
            }
            if waited.as_secs() >= asked {
                self.signal(self.end);
                asked = waited.as_secs().saturating_add(1);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
