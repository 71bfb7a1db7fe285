//! What the service manager is told (`sd_notify`).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;

use crate::common::{Addr, Client, Cluster, PATIENCE, Pg, eventually, free_port, proc, temp_dir};

#[test]
fn ready_reloading_ready_stopping() {
    let cluster = Cluster::shared(Pg::V15);
    let dir = temp_dir("notify");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("make the notification socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
    let told = || {
        let mut buffer = [0; 4096];
        let len = manager.recv(&mut buffer).expect("a notification");
        String::from_utf8(buffer[..len].to_vec()).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let socket_dir = dir.path().display();
    let config = dir.path().join("pgcanon.toml");
    let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
    let port = free_port();
    let text = format!("[node]\nname = \"a\"\nlisten = [\"{socket_dir}/.s.PGSQL.{port}\"]\nserver = \"{server}\"\n");
    std::fs::write(&config, text).expect("write the configuration");
    let mut command = proc::guarded(Path::new(env!("CARGO_BIN_EXE_pgcanon")), "KILL", None);
    command.arg("run").arg("--config").arg(&config).env("NOTIFY_SOCKET", &path).stderr(std::process::Stdio::null());
    let mut child = proc::spawn(command).expect("start the proxy");

    assert_eq!(told(), ["READY=1"]);
    Client::login(&Addr::unix(dir.path(), port)); // what is ready can be used
    let pid = child.id();
    for _ in 0..2 {
        let before = monotonic_now();
        proc::kill(pid, Signal::HUP);
        let reloading = told();
        assert_eq!(reloading[0], "RELOADING=1");
        let at = microseconds(&reloading[1]);
        assert!((before..=monotonic_now()).contains(&at), "{at} is not between {before} and now");
        assert_eq!(told(), ["READY=1"]);
    }
    proc::kill(pid, Signal::TERM);
    assert_eq!(told(), ["STOPPING=1"]);
    let status = eventually("the proxy to end", || child.try_wait().expect("wait for our child"));
    assert_eq!(status.code(), Some(0));
}

fn monotonic_now() -> u64 {
    microseconds(&sd_notify::NotifyState::monotonic_usec_now().expect("a clock").to_string())
}

fn microseconds(line: &str) -> u64 {
    line.strip_prefix("MONOTONIC_USEC=").expect("a time").parse().expect("a number")
}
