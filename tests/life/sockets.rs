//! Unix sockets: a file that a killed process left behind is taken over, anything else is not.

use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::common::{Client, Cluster, Pg, Proxy, eventually, proc, temp_dir};
use crate::{refuses, told_to_go};

#[test]
fn a_stale_file_is_taken_over_and_a_live_one_is_not() {
    let cluster = Cluster::shared(Pg::V15);
    let first = Proxy::start(&cluster, "");
    let path = first.socket_dir().join(format!(".s.PGSQL.{}", first.port()));
    // Only the socket: its TCP port would be refused anyway.
    let only_unix = first.socket_dir().join("unix.toml");
    let server = format!("host={} port={}", cluster.socket_dir().display(), cluster.port());
    let config = format!("[node]\nname = \"b\"\nlisten = \"{}\"\nserver = \"{server}\"\n", path.display());
    std::fs::write(&only_unix, config).expect("write the configuration");

    let told = refuses(&only_unix);
    assert!(told.contains(&format!("cannot listen on {}", path.display())), "{told}");
    assert!(told.contains("in use") && told.contains("node.listen"), "{told}");
    Client::login(&first.unix());

    first.signal(Signal::KILL);
    first.wait_exit();
    assert!(path.exists(), "nobody was left to remove it");
    let mut command = proc::guarded(std::path::Path::new(env!("CARGO_BIN_EXE_pgcanon")), "KILL", None);
    command.arg("run").arg("--config").arg(&only_unix).stderr(std::process::Stdio::null());
    let mut second = proc::spawn(command).expect("start the proxy again");
    let mut client = eventually("the second proxy", || {
        Client::try_connect(&first.unix()).ok()?;
        Some(Client::login(&first.unix()))
    });
    proc::kill(second.id(), Signal::TERM);
    told_to_go(&mut client);
    let status = eventually("the end", || second.try_wait().expect("wait for our child"));
    assert_eq!(status.code(), Some(0));
    assert!(!path.exists(), "an orderly end removes the file");
}

fn config_for(dir: &std::path::Path, socket: &std::path::Path) -> std::path::PathBuf {
    let config = dir.join("pgcanon.toml");
    let text = format!("[node]\nname = \"a\"\nlisten = \"{}\"\nserver = \"host=/nowhere\"\n", socket.display());
    std::fs::write(&config, text).expect("write the configuration");
    config
}

#[test]
fn a_file_that_is_no_socket_stays() {
    let dir = temp_dir("file");
    let path = dir.path().join(".s.PGSQL.6432");
    std::fs::write(&path, "precious").expect("write a file");
    let told = refuses(&config_for(dir.path(), &path));
    assert!(told.contains(&format!("cannot listen on {}", path.display())), "{told}");
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "precious");
}

#[test]
fn a_listener_that_is_too_busy_to_answer_is_not_taken_for_dead() {
    let dir = temp_dir("busy");
    let path = dir.path().join(".s.PGSQL.6432");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("bind");
    socket.listen(0).expect("listen");
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let waiting = Client::try_connect(&crate::common::Addr::Unix(path.clone())).expect("one may wait");
    let told = refuses(&config_for(dir.path(), &path));
    assert!(told.contains(&format!("cannot listen on {}", path.display())), "{told}");
    let (_accepted, _) = listener.accept().expect("the one that waited");
    drop(waiting);
    Client::try_connect(&crate::common::Addr::Unix(path)).expect("it can still be reached");
}
