//! SIGHUP: what the configuration changes is applied, or said to need a restart; a bad file changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::catalog::{ControlSettings, Wanted};
use crate::config::{Changes, Config};
use crate::node::{StartError, capture, control_settings, notify};
use crate::session::Settings;

/// Sets what is logged; `false` when the directives cannot be read.
pub type LogFilter = Box<dyn Fn(&str) -> bool + Send>;

/// The configuration that is in force, and who has to hear of a new one.
pub(super) struct Live {
    pub(super) path: PathBuf,
    /// What the process was started with: in force where a key needs a restart.
    pub(super) started: Config,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) settings: watch::Sender<Arc<Settings>>,
    pub(super) control: Option<watch::Sender<Arc<ControlSettings>>>,
    /// None where the process was started without a rule.
    pub(super) wanted: Option<watch::Sender<Arc<Wanted>>>,
    pub(super) log: LogFilter,
}

impl Live {
    /// Reads the configuration again; what changed, or why everything stays as it was.
    pub(super) fn reload(&mut self) -> Result<Changes, StartError> {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(e) => warn!(error = %e, "cannot read the clock for the service manager"),
        }
        let done = self.apply();
        if let Err(e) = &done {
            error!("reload failed, everything stays as it was: {e}");
        }
        notify(&[NotifyState::Ready]);
        done
    }

    fn apply(&mut self) -> Result<Changes, StartError> {
        let new = Config::load(&self.path)?;
        // Certificates are read again even when no key names another file: they are renewed in place.
        let settings = Settings::load(&new)?;
        let control = control_settings(&new)?;
        let old = self.config.borrow().clone();
        let mut changes = old.changes(&new);
        changes.restart = self.started.changes(&new).restart;
        match (&self.control, control) {
            (Some(sender), Some(control)) => drop(sender.send_replace(Arc::new(control))),
            (None, None) => {}
            _ => {
                changes.live.retain(|key| key != "node.control");
                changes.restart.push("node.control".into());
            }
        }
        if new.node.log_level != old.node.log_level && !(self.log)(&new.node.log_level) {
            warn!("cannot change what is logged");
        }
        match &self.wanted {
            Some(wanted) => drop(wanted.send_replace(capture::wanted(&new))),
            None if new.tables.is_empty() => {}
            None => {
                changes.live.retain(|key| !key.starts_with("table"));
                changes.restart.push("table".into());
            }
        }
        self.settings.send_replace(Arc::new(settings));
        self.config.send_replace(Arc::new(new));
        if changes.is_empty() {
            info!("reloaded: no key changed; certificates were read again");
        }
        if !changes.live.is_empty() {
            info!(keys = changes.live.join(", "), "reloaded: in force for new sessions");
        }
        if !changes.restart.is_empty() {
            warn!(keys = changes.restart.join(", "), "changed, but in force only after a restart");
        }
        Ok(changes)
    }
}
