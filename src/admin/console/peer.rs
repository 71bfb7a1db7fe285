//! Pausing peers, and letting them go on.

use std::time::Duration;

use pgwire::error::ErrorInfo;
use tokio::time::timeout;
use tracing::info;

use crate::admin::console::access::Guest;
use crate::admin::console::{Console, refusal};
use crate::forward::{Handle, Wish};

/// A forwarder that cannot reach its own node hears of nothing.
const PATIENCE: Duration = Duration::from_secs(15);

type Failure = Box<ErrorInfo>;

pub(super) async fn pause(console: &Console, name: &str, pause: bool, guest: &Guest) -> Result<(), Failure> {
    let handle = find(console, name)?;
    let wish = if pause { Wish::Pause } else { Wish::Resume };
    let failed = |why: &str| refusal("F0000", &format!("peer {}: {why}", handle.peer), None);
    timeout(PATIENCE, handle.remote.tell(wish))
        .await
        .map_err(|_| failed("its forwarder does not answer; is this node's server there?"))?
        .map_err(|why| failed(&why))?;
    info!(user = guest.name, peer = %handle.peer, "{}", if pause { "paused" } else { "resumed" });
    Ok(())
}

fn find(console: &Console, name: &str) -> Result<Handle, Failure> {
    let handles = console.peers.handles();
    let names: Vec<String> = handles.iter().map(|handle| handle.peer.to_string()).collect();
    handles.into_iter().find(|handle| handle.peer.as_str() == name).ok_or_else(|| {
        let hint = match names.as_slice() {
            [] => "Nothing is forwarded to any peer.".to_owned(),
            names => format!("The peers are {}.", names.join(", ")),
        };
        refusal("42704", &format!("there is no peer \"{}\"", name.escape_debug()), Some(hint))
    })
}
