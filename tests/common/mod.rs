//! What every integration test stands on: throw-away clusters, proxies, certificates, a raw wire client and the trace oracle.
//!
//! Everything started here listens on loopback or in a temporary directory, is ended by its own pid when its owner is dropped
//! (also on panic), and dies with the test process through the parent-death signal if that is killed.
#![allow(dead_code)] // each test binary uses its own part of the harness

pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod entry;
pub(crate) mod msg;
pub(crate) mod node;
pub(crate) mod oracle;
pub(crate) mod proc;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod rng;
pub(crate) mod scram;
pub(crate) mod session;
pub(crate) mod settle;

pub(crate) use cluster::{Cluster, Pg};
pub(crate) use proxy::Proxy;
pub(crate) use raw::{Addr, Client};

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take that normally takes milliseconds; generous because CI shares two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the tests run against the server itself (`PGCANON_TEST_TARGET=direct`) instead of through a proxy.
///
/// Two direct runs must agree: that proves the masks and the scripts without any proxy.
pub(crate) fn direct() -> bool {
    std::env::var("PGCANON_TEST_TARGET").is_ok_and(|target| target == "direct")
}

/// The repository's `tests` directory.
pub(crate) fn tests_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A file or directory that `tests/setup` made.
pub(crate) fn cache(path: &str) -> PathBuf {
    let path = tests_dir().join(".cache").join(path);
    assert!(path.exists(), "{} is missing: run tests/setup first", path.display());
    path
}

/// Sets a flag when it is dropped, also by a panic: threads that go on until then end with the test.
#[derive(Debug)]
pub(crate) struct Stops<'a>(pub(crate) &'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls `done` until it gives a value; panics with `what` when [`PATIENCE`] runs out.
pub(crate) fn eventually<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, done).unwrap_or_else(|| panic!("gave up waiting: {what}"))
}

/// The same for what takes longer, or has more to say when it does not come.
pub(crate) fn within<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let value = done();
        if value.is_some() || start.elapsed() >= limit {
            return value;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 that nothing listens on; whoever binds it must retry when another program was faster.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Below those that the system hands out for outgoing connections: a server that is stopped and started again must
    // find its port free. No port is given twice, and processes that run side by side begin far apart.
    let ports = 10_000..outgoing_ports().clamp(11_000, 65_000);
    let span = ports.end - ports.start;
    let start = std::process::id().wrapping_mul(2_654_435_761);
    for _ in 0..span {
        let port = ports.start + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        let port = u16::try_from(port).expect("the range is one of ports");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// The first of the ports that the system hands out by itself.
fn outgoing_ports() -> u32 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768)
}

/// A temporary directory that every user may enter, under a short path (Unix socket paths hold 107 bytes).
pub(crate) fn temp_dir(purpose: &str) -> tempfile::TempDir {
    sweep();
    let dir = tempfile::Builder::new()
        .prefix(&format!("pgcanon-{purpose}.{}.", std::process::id()))
        .tempdir()
        .expect("make a temporary directory");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755))
        .expect("open the directory to the server's user");
    dir
}

/// Removes what test processes that were killed left behind: directories named for a pid that lives no more.
fn sweep() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("pgcanon-")) else {
                continue;
            };
            let Some(pid) = rest.split('.').nth(1).and_then(|pid| pid.parse::<u32>().ok()) else {
                continue;
            };
            if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
}
