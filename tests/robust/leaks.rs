//! Ten thousand connects, some of them aborted, and nothing of them is left.

use std::time::Instant;

use crate::common::{Addr, Client, eventually, msg};
use crate::{Scene, memory, startup, usage};

const CONNECTS: usize = 10_000;
const THREADS: usize = 4;

/// How much the resident memory may have grown after all of them. What the allocator keeps for reuse is in here.
const GROWTH: i64 = 2 << 20;

fn one(addr: &Addr, kind: usize) {
    let Ok(mut client) = Client::try_connect(addr) else {
        panic!("the proxy does not take a connection");
    };
    match kind {
        0 => {}
        1 => client.send(&startup("postgres")[..9]),
        2 => client.send(&msg::packet(msg::SSL_REQUEST, b"")),
        3 => client.send(&msg::cancel(1, b"none")),
        4 => client.send(&startup("postgres")), // gone while the proxy logs in
        5 => {
            client.send(&startup("postgres"));
            client.until_ready();
            client.reset();
        }
        6 => {
            client.send(&startup("postgres"));
            client.until_ready();
            client.send(&msg::query("select repeat('x', 100000)")); // and the answer is not read
        }
        _ => {
            client.send(&startup("postgres"));
            client.until_ready();
            client.send(&msg::terminate());
            client.finish_writing();
            assert_eq!(client.byte(), None, "an orderly end");
        }
    }
}

fn connect(addrs: &[Addr; 2], times: usize) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for i in 0..times / THREADS {
                    one(&addrs[i % 2], (i / 2 + thread) % 11);
                }
            });
        }
    });
}

#[test]
fn ten_thousand_connects_leave_nothing_behind() {
    let mut scene = Scene::with("max_connections = 300", "");
    let addrs = scene.addrs();
    connect(&addrs, 1000);
    scene.is_clean();
    let pid = scene.proxy.pid();
    let resident = memory(pid, "VmRSS");
    let start = Instant::now();
    connect(&addrs, CONNECTS);
    println!("{CONNECTS} connects in {:?}", start.elapsed());
    scene.is_clean();
    // The request that asked for the metrics may be about to end.
    eventually("all descriptors and threads to be given back", || (usage(pid) == scene.before).then_some(()));
    let grown = memory(pid, "VmRSS") - resident;
    println!("resident memory: {resident} before, {grown} more after; peak {}", memory(pid, "VmHWM"));
    assert!(grown < GROWTH, "{grown} bytes more after {CONNECTS} connects");
}

#[test]
fn idle_sessions_cost_little() {
    // Of the proxy only: a backend costs megabytes.
    let mut scene = Scene::with("max_connections = 300", "");
    let pid = scene.proxy.pid();
    let addr = scene.proxy.tcp();
    let resident = memory(pid, "VmRSS");
    let crowd: Vec<Client> = (0..200).map(|_| Client::login(&addr)).collect();
    let each = (memory(pid, "VmRSS") - resident) / crowd.len() as i64;
    println!("{each} bytes for each idle session");
    assert!(each < 64 << 10, "{each} bytes for each idle session");
    drop(crowd);
    eventually("them to be gone", || (scene.backends() == 1).then_some(()));
    scene.is_clean();
}
