//! Whether the node can serve sessions now.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::admin::http::Readiness;
use crate::catalog::Control;
use crate::session::{Capturing, Phase, Settings};

/// How often a server is looked for that was not there.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Ready {
    settings: watch::Receiver<Arc<Settings>>,
    phase: watch::Receiver<Phase>,
    control: Option<Control>,
    capturing: Option<watch::Receiver<Capturing>>,
}

impl Ready {
    pub(super) fn new(
        settings: watch::Receiver<Arc<Settings>>,
        phase: watch::Receiver<Phase>,
        control: Option<Control>,
        capturing: Option<watch::Receiver<Capturing>>,
    ) -> Self {
        Self { settings, phase, control, capturing }
    }

    /// Whether the server answers: a query over the control connection, or, where none is configured, a connection.
    async fn server(&self) -> Result<(), String> {
        match &self.control {
            Some(control) => control.ready().await.map_err(|e| e.to_string()),
            None => {
                let settings = self.settings.borrow().clone();
                settings.upstream.connect().await.map(drop).map_err(|e| e.to_string())
            }
        }
    }
}

impl Readiness for Ready {
    async fn check(&self) -> Result<(), String> {
        if *self.phase.borrow() != Phase::Running {
            return Err("draining".into());
        }
        self.server().await?;
        match &self.capturing {
            Some(capturing) if matches!(*capturing.borrow(), Capturing::Waiting) => {
                Err("waiting until changes can be captured".into())
            }
            _ => Ok(()),
        }
    }
}

/// Says once, at the start, that the server cannot be reached, and once that it can.
pub(super) async fn announce_server(ready: Arc<Ready>) {
    let Err(why) = ready.server().await else { return };
    warn!(error = why, "the server cannot be reached; sessions are refused (57P03) until it can");
    while ready.server().await.is_err() {
        sleep(RETRY).await;
    }
    info!("the server can be reached");
}
