//! The life of a node as its operator sees it: starting, being asked how it is, reloading, draining, and what it says meanwhile.

#[path = "../common/mod.rs"]
mod common;

mod drain;
mod limits;
mod logs;
mod notify;
mod ready;
mod reload;
mod sockets;
mod start;

use std::path::Path;
use std::process::{Command, Output};

use common::raw::{Frame, Got};
use common::{Addr, Client, PATIENCE, msg, proc};

/// Connects, sends a startup packet for `postgres` and reads on until the login has succeeded or failed.
fn try_login(addr: &Addr) -> Result<Client, Frame> {
    let mut client = Client::connect(addr);
    client.send(&msg::startup(msg::version(3, 0), &[("user", "postgres"), ("database", "postgres")]));
    loop {
        let frame = client.frame();
        match frame.tag {
            b'Z' => return Ok(client),
            b'E' => return Err(frame),
            _ => {}
        }
    }
}

/// The SQLSTATE and the message of an ErrorResponse.
fn said(frame: &Frame) -> (String, String) {
    assert_eq!(frame.tag, b'E', "no error: {frame:?}");
    (frame.field(b'C').expect("a SQLSTATE"), frame.field(b'M').expect("a message"))
}

/// Reads the farewell of a proxy that ends, and the end.
fn told_to_go(client: &mut Client) {
    let frame = client.frame();
    let (code, message) = said(&frame);
    assert_eq!(code, "57P01", "{frame:?}");
    assert_eq!(message, "terminating connection due to administrator command");
    assert_eq!(frame.field(b'S').as_deref(), Some("FATAL"));
    closed(client);
}

fn closed(client: &mut Client) {
    let got = client.frame_within(PATIENCE);
    assert!(matches!(got, Got::Closed), "expected the end, got {got:?}");
}

/// Backends on the server whose session was named `name`.
fn backends(cluster: &common::Cluster, name: &str) -> String {
    cluster.psql(&format!("select count(*) from pg_stat_activity where application_name = '{name}'"))
}

/// Names a session, to find its backend by.
fn named(mut client: Client, name: &str) -> Client {
    client.query(&format!("set application_name = '{name}'"));
    client
}

/// Runs `pgcanon run` with this configuration to its end.
fn run(config: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
    command.arg("run").arg("--config").arg(config);
    proc::output(&mut command, PATIENCE)
}

/// Runs `pgcanon run` with this configuration, which must end with exit code 2; what it said.
fn refuses(config: &Path) -> String {
    let output = run(config);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(output.stdout, b"", "nothing goes to standard output");
    text
}
