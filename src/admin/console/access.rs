//! Who is let in to the console, and what for: the owner of the Unix socket, users with a password, and, where there are no such
//! users, everybody on this machine.

use std::sync::OnceLock;

use bytes::Bytes;
use pgwire::error::ErrorInfo;
use pgwire::messages::startup::Authentication;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::admin::console::{Console, refusal};
use crate::config::May;
use crate::wire::scram::{SCRAM_SHA_256, ScramServer, Step, Verifier, sasl_payload};

/// The way by which somebody came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Tcp,
    /// With the user at the other end, where the system knows.
    Unix(Option<u32>),
}

/// One who asks to be let in.
pub(super) struct Access {
    door: Door,
    exchange: Mutex<Option<Exchange>>,
    guest: OnceLock<Guest>,
}

/// One who has been let in.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) name: String,
    pub(super) may: May,
}

/// A login that goes on.
struct Exchange {
    scram: ScramServer,
    guest: Guest,
}

/// What is to be said to the client.
pub(super) enum Reply {
    /// And then it has to answer.
    Ask(Authentication),
    /// After these, it is let in.
    Enter(Option<Authentication>),
}

type Failure = Box<ErrorInfo>;

// === impl Access ===

impl Access {
    pub(super) fn new(door: Door) -> Self {
        Self { door, exchange: Mutex::default(), guest: OnceLock::new() }
    }

    /// Takes the name that stands in the startup message.
    pub(super) async fn begin(&self, name: &str, console: &Console) -> Result<Reply, Failure> {
        let users = console.config.borrow().console_users.clone();
        let guest = |may| Guest { name: name.to_owned(), may };
        match self.door {
            Door::Unix(Some(uid)) if uid == console.own_uid || uid == 0 => return Ok(self.enter(guest(May::Act), None)),
            Door::Unix(_) if users.is_empty() => {
                let message = format!("\"{name}\" is not the user that pgcanon runs as");
                let hint = "Name those who may use the console in [[console_user]] sections of the configuration.";
                return Err(fatal("28000", &message, Some(hint.into())));
            }
            Door::Tcp if users.is_empty() => return Ok(self.enter(guest(May::Act), None)),
            Door::Unix(_) | Door::Tcp => {}
        }
        let known = users.iter().find(|user| user.name == name);
        let verifier = Verifier::of_password(&console.secret, name, known.map(|user| user.password.expose()));
        let scram = ScramServer::new(verifier, None).map_err(|e| fatal(e.sqlstate(), &e.message(name), None))?;
        let guest = guest(known.map(|user| user.may).unwrap_or_default());
        *self.exchange.lock().await = Some(Exchange { scram, guest });
        Ok(Reply::Ask(Authentication::SASL(vec![SCRAM_SHA_256.to_owned()])))
    }

    /// Takes the client's next answer.
    pub(super) async fn answer(&self, body: &[u8]) -> Result<Reply, Failure> {
        let mut exchange = self.exchange.lock().await;
        let Some(Exchange { mut scram, guest }) = exchange.take() else {
            return Err(fatal("08P01", "nothing was asked", None));
        };
        let step = scram.on_response(body).map_err(|e| {
            warn!(user = guest.name, "a login to the console failed: {e}");
            let mut failure = fatal(e.sqlstate(), &e.message(&guest.name), None);
            failure.detail = e.detail();
            failure
        })?;
        let payload = |body: &[u8], last| {
            sasl_payload(body, last).map(Bytes::copy_from_slice).map_err(|e| fatal("XX000", &e.to_string(), None))
        };
        match step {
            Step::Challenge(body) => {
                *exchange = Some(Exchange { scram, guest });
                Ok(Reply::Ask(Authentication::SASLContinue(payload(&body, false)?)))
            }
            Step::Done { final_body, .. } => {
                let last = Authentication::SASLFinal(payload(&final_body, true)?);
                Ok(self.enter(guest, Some(last)))
            }
        }
    }

    fn enter(&self, guest: Guest, last: Option<Authentication>) -> Reply {
        // It is asked for once in a connection's life.
        let _ = self.guest.set(guest);
        Reply::Enter(last)
    }

    /// Who it is that does something that not everybody may.
    pub(super) fn guest(&self, needs: May) -> Result<&Guest, Failure> {
        let guest = self.guest.get().ok_or_else(|| refusal("28000", "nobody has logged in", None))?;
        if guest.may < needs {
            let message = format!("\"{}\" may look, and not change anything", guest.name);
            let hint = "This needs may = \"act\" in the user's [[console_user]] section, or the console's Unix socket.";
            return Err(refusal("42501", &message, Some(hint.into())));
        }
        if needs == May::Act {
            info!(user = guest.name, from = ?self.door, "somebody acts by the console");
        }
        Ok(guest)
    }
}

fn fatal(code: &str, message: &str, hint: Option<String>) -> Failure {
    let mut failure = refusal(code, message, hint);
    failure.severity = "FATAL".to_owned();
    failure
}
