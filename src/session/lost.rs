//! A server that was lost during a COMMIT: the node is asked what became of it, and the client told the truth (§4.7).

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::catalog::{Control, Fate};
use crate::journal::Images;
use crate::session::engine::Engine;
use crate::wire::error::{Report, sqlstate};

/// How long the node may take to come back before the client is left in the dark.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(50);

/// What the client is told last; nothing if nobody knows.
pub(super) async fn truth(engine: &Engine, control: &Control) -> Option<Vec<u8>> {
    let meta = engine.committing()?;
    let pid = engine.machine().key().first_chunk().map(|pid| i32::from_be_bytes(*pid))?;
    let deadline = Instant::now() + PATIENCE;
    let fate = loop {
        match control.fate(pid, meta).await {
            Ok(Fate::Running) | Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            Ok(fate @ (Fate::Committed(_) | Fate::RolledBack)) => break fate,
            Ok(Fate::Running) => {
                warn!(
                    "the server was lost during COMMIT, and its backend does not end: the client is not told the outcome"
                );
                return None;
            }
            Err(e) => {
                warn!(error = %e, "the server was lost during COMMIT, and cannot be asked for the outcome");
                return None;
            }
        }
    };
    let gone = Report::fatal(sqlstate::ADMIN_SHUTDOWN, "the connection to the server was lost");
    Some(match fate {
        Fate::Committed(data) => {
            info!("the server was lost during COMMIT; the transaction has committed");
            let rows = Images::new(&data).take_while(Result::is_ok).count();
            match engine.committed_answers(u64::try_from(rows).unwrap_or(0)) {
                Some(answers) => [answers, gone.frame()].concat(),
                None => gone.detail("The transaction has committed; what it answered is lost.").frame(),
            }
        }
        Fate::RolledBack | Fate::Running => {
            info!("the server was lost during COMMIT; the transaction has not committed");
            Report::fatal(
                sqlstate::TRANSACTION_ROLLBACK,
                "the server was lost during COMMIT, and the transaction has not committed",
            )
            .hint("It can be run again.")
            .frame()
        }
    })
}
