//! Dead peers: the kernel is told to look for them on every TCP connection of the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::{SockRef, Type};

use crate::common::{Client, Cluster, Pg, Proxy};

/// Copies of the TCP connections that a process holds, with their two ends.
fn connections(pid: u32) -> Vec<(socket2::Socket, SocketAddr, SocketAddr)> {
    let pid_number = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    let process = pidfd_open(pid_number, PidfdFlags::empty()).expect("our own child");
    let names = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").flatten();
    let sockets = names.filter_map(|name| {
        std::fs::read_link(name.path()).ok()?.to_str()?.starts_with("socket:").then_some(())?;
        let number = name.file_name().to_str()?.parse().ok()?;
        pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok().map(socket2::Socket::from)
    });
    sockets
        .filter_map(|socket| {
            let (local, peer) = (socket.local_addr().ok()?.as_socket()?, socket.peer_addr().ok()?.as_socket()?);
            (socket.r#type().ok()? == Type::STREAM).then_some((socket, local, peer))
        })
        .collect()
}

#[test]
fn every_connection_is_watched_as_configured() {
    let cluster = Cluster::shared(Pg::V15);
    let server = format!("host=127.0.0.1 port={}", cluster.port());
    let settings = "[node]\nkeepalive_idle = \"37s\"\nkeepalive_interval = \"7s\"\nkeepalive_count = 3\nuser_timeout = \"51s\"\n\
                    control = \"user=postgres dbname=postgres\"";
    let proxy = Proxy::start_for(&server, settings);
    assert_eq!(proxy.http("/readyz").0, 200, "the control connection is there");
    let _client = Client::login(&proxy.tcp());
    let seen = connections(proxy.pid());
    let towards =
        |port: u16| seen.iter().filter(|(_, local, peer)| local.port() == port || peer.port() == port).count();
    assert_eq!((towards(proxy.port()), towards(cluster.port())), (1, 2), "{seen:?}");
    for (socket, local, peer) in &seen {
        let socket = SockRef::from(socket);
        let ends = format!("{local} {peer}");
        assert!(socket.keepalive().expect("an option"), "{ends}");
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(37), "{ends}");
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), Duration::from_secs(7), "{ends}");
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), 3, "{ends}");
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(Duration::from_secs(51)), "{ends}");
        assert!(socket.tcp_nodelay().expect("an option") || peer.port() == cluster.port(), "{ends}");
    }
}

#[test]
fn small_packets_are_sent_at_once() {
    let cluster = Cluster::shared(Pg::V15);
    let proxy = Proxy::start_for(&format!("host=127.0.0.1 port={}", cluster.port()), "");
    let _client = Client::login(&proxy.tcp());
    let seen = connections(proxy.pid());
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|(socket, ..)| SockRef::from(socket).tcp_nodelay().expect("an option")));
}
