//! `pgcanon demo` in a short form: it proves what it promises, says so when it does not hold, and leaves nothing behind.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use common::cluster::PG15_BIN;
use common::{eventually, proc, proxy, temp_dir};

/// How long all of it may take on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(300);

/// A running demo, with a directory for temporary files of its own.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
    dir: TempDir,
}

impl Demo {
    fn start() -> Demo {
        let dir = temp_dir("demo");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
        command
            .args(["demo", "--seconds", "6", "--scale", "1", "--clients", "2", "--bindir", PG15_BIN])
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = proc::spawn(command).expect("start the demo");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Demo { child, out, said: String::new(), dir }
    }

    /// Reads on until a line has this in it, and returns that.
    fn read_to(&mut self, text: &str) -> String {
        loop {
            let from = self.said.len();
            let read = self.out.read_line(&mut self.said).expect("UTF-8");
            if read == 0 {
                let status = proc::wait(&mut self.child, LIMIT);
                let errors = self.errors();
                panic!("it ended ({status:?}) without {text:?}:\n{}\n{errors}", self.said);
            }
            if self.said[from..].contains(text) {
                return self.said[from..].to_owned();
            }
        }
    }

    /// Waits for its end: how it ended, and everything it said.
    fn end(mut self) -> (ExitStatus, String) {
        self.out.read_to_string(&mut self.said).expect("UTF-8");
        let status = proc::wait(&mut self.child, LIMIT).expect("an end in time");
        let said = format!("{}{}", std::mem::take(&mut self.said), self.errors());
        self.assert_nothing_left(&said);
        (status, said)
    }

    fn errors(&mut self) -> String {
        let mut errors = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut errors).expect("UTF-8");
        errors
    }

    fn assert_nothing_left(&self, said: &str) {
        let left: Vec<_> = fs::read_dir(self.dir.path()).expect("list it").flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "files: {left:?}\n{said}");
        // An orphan of a server may need a moment to see that it is alone.
        eventually("every process to be gone", || processes(self.dir.path()).is_empty().then_some(()));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            proc::kill(self.child.id(), Signal::TERM);
            let _ = proc::wait(&mut self.child, LIMIT);
        }
    }
}

/// The processes that live in the directory or were told of it.
fn processes(dir: &Path) -> Vec<String> {
    let dir = dir.display().to_string();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").expect("/proc").flatten().map(|e| e.path()) {
        let command = fs::read(process.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let place = fs::read_link(process.join("cwd")).unwrap_or_default();
        if command.contains(&dir) || place.starts_with(&dir) {
            found.push(format!("{}: {command}", process.display()));
        }
    }
    found
}

#[test]
fn three_nodes_are_equal_after_one_of_them_fell() {
    let (status, said) = Demo::start().end();
    assert!(status.success(), "{said}");
    for line in ["c down", "*** Node c is started again.", "EQUAL: all three nodes hold the same"] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    for table in ["accounts", "branches", "tellers", "history"] {
        let line = said.lines().find(|line| line.trim_start().starts_with(&format!("pgbench_{table} ")));
        assert!(line.is_some_and(|line| line.ends_with("a = b = c")), "{table}:\n{said}");
    }
}

#[test]
fn what_only_one_node_has_is_found() {
    let mut demo = Demo::start();
    let line = demo.read_to("Node b: PostgreSQL on port ");
    let port = line.split([' ', ',']).find_map(|word| word.parse().ok()).expect("a port");
    demo.read_to("tps:");
    // Past its proxy, which never sees it.
    let mut psql = proxy::psql("127.0.0.1", port);
    proc::run(psql.args(["-qc", "update pgbench_tellers set filler = 'x' where tid = 7"]), LIMIT);
    let (status, said) = demo.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("NOT EQUAL: ") && said.contains("pgbench_tellers differs"), "{said}");
}

#[test]
fn interrupted_it_cleans_up() {
    let mut demo = Demo::start();
    demo.read_to("tps:");
    assert!(processes(demo.dir.path()).len() > 9, "servers, proxies, clients: {:?}", processes(demo.dir.path()));
    proc::kill(demo.child.id(), Signal::INT);
    let (status, said) = demo.end();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted; everything is cleaned up"), "{said}");
}
