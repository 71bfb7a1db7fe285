//! `delivery = "atomic"` (§7): before a session commits, its peers prepare what the transaction has in the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::apply::{Applier, ApplyError, Gid, Mode, Route};
use crate::catalog::{ControlSettings, Wanted};
use crate::config::{NodeName, Peer};
use crate::journal::ticker::State as Ticks;
use crate::journal::{Entries, Key, Meta, MetaError, Progress, Snapshot, TickId, Waker, Xid};
use crate::wire::error::sqlstate;
use crate::wire::stream::Liveness;

use super::course::missing;
use super::store::tag;
use super::{ForwardError, Handle, Phase, Status};

/// How long a lock is waited for on a peer. Somebody there may wait for one of ours, and neither server can see that.
const LOCKED: Duration = Duration::from_secs(1);

/// How often is looked for the changes of other nodes.
const LOOK: Duration = Duration::from_millis(10);

/// What a transaction is about to commit.
#[derive(Debug, Default)]
pub struct Changes {
    pub xid: Option<Xid>,
    /// Its rows in the journal, in order: meta and data.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// What was committed before, and is in no tick yet.
    pub unticked: Vec<Xid>,
    /// What else was committed before is in ticks up to this one.
    pub ticked: Option<TickId>,
    /// How far this node has others' changes.
    pub deps: BTreeMap<String, Progress>,
}

/// Why a transaction cannot be committed everywhere.
#[derive(Debug, thiserror::Error)]
#[error("peer \"{peer}\": {message}")]
pub struct Unprepared {
    pub peer: NodeName,
    pub sqlstate: String,
    pub message: String,
}

/// Who asks the peers.
pub struct Preparer {
    pub node: NodeName,
    pub peers: Vec<Peer>,
    pub handles: Arc<[Handle]>,
    pub key: Key,
    pub rules: watch::Receiver<Arc<Wanted>>,
    pub ticks: watch::Receiver<Ticks>,
    pub ticker: Waker,
    pub connect_timeout: Duration,
    pub liveness: Liveness,
}

impl Preparer {
    /// Has those peers prepare it that `concerned` names; backend `pid` has written the rows.
    ///
    /// What was prepared where another peer has refused is ended by the forwarders, once the node has not committed it.
    pub async fn prepare(
        &self,
        changes: &Changes,
        pid: u32,
        concerned: impl Fn(&NodeName) -> bool,
        wait: Duration,
    ) -> Result<(), Unprepared> {
        let until = Instant::now() + wait;
        for (peer, handle) in self.peers.iter().zip(self.handles.iter()).filter(|(peer, _)| concerned(&peer.name)) {
            let failed = |sqlstate: &str, message: String| Unprepared {
                peer: peer.name.clone(),
                sqlstate: sqlstate.to_owned(),
                message,
            };
            match timeout_at(until, self.one(peer, handle, changes, pid)).await {
                Ok(Ok(())) => {}
                Ok(Err(Refused::Away(why))) => return Err(failed(sqlstate::CONNECTION_FAILURE, why)),
                Ok(Err(Refused::Error(ForwardError::Apply(ApplyError::Rejected(why) | ApplyError::Unable(why))))) => {
                    return Err(failed(&why.sqlstate, why.message));
                }
                Ok(Err(Refused::Error(ForwardError::Apply(ApplyError::Retry(why))))) => {
                    return Err(failed(sqlstate::SERIALIZATION_FAILURE, why.message));
                }
                Ok(Err(Refused::Error(error))) => return Err(failed(sqlstate::CONNECTION_FAILURE, error.to_string())),
                Err(_) => {
                    return Err(failed(sqlstate::CONNECTION_FAILURE, format!("it was not ready within {wait:?}")));
                }
            }
        }
        Ok(())
    }

    async fn one(&self, peer: &Peer, handle: &Handle, changes: &Changes, pid: u32) -> Result<(), Refused> {
        let Some(xid) = changes.xid else { return Ok(()) };
        let mut route = Route::new(&self.rules.borrow().rules, &peer.name);
        let mut entries = Vec::new();
        for (meta, data) in &changes.rows {
            let head = match Meta::open(&self.key, pid, meta, data) {
                Ok(meta) => meta.head,
                // As the forwarders will see it (§5).
                Err(MetaError::Forged(why)) => {
                    tracing::error!(%xid, error = %why, "a forged row in the journal is not forwarded");
                    continue;
                }
                Err(error) => return Err(Refused::Away(error.to_string())),
            };
            for entry in Entries::new(head, data.clone().into()) {
                let entry = entry.map_err(ForwardError::from)?;
                if let Some(to) = route.of(&entry.head.schema, &entry.head.table) {
                    entries.push((to, entry));
                }
            }
        }
        let Some((meta, _)) = changes.rows.last().filter(|_| !entries.is_empty()) else { return Ok(()) };
        let gid = Gid { origin: self.node.to_string(), xid, tag: tag(meta) };
        self.caught_up(handle, changes).await?;
        let settings =
            ControlSettings::load(&peer.connect, self.connect_timeout, self.liveness).map_err(ForwardError::from)?;
        let stream = settings.log_in(&format!("pgcanon:{}", self.node)).await.map_err(ForwardError::from)?;
        let mut applier = Applier::open_beside(stream, &self.node, route).await.map_err(ForwardError::from)?;
        // An update must not come before the insert that it saw, whoever made that (§5).
        loop {
            let origins = applier.origins().await.map_err(ForwardError::from)?;
            if missing(&changes.deps, &origins, peer.name.as_str()).next().is_none() {
                break;
            }
            sleep(LOOK).await;
        }
        let applied: Result<(), ApplyError> = async {
            applier.begin(Mode { lock_timeout: Some(LOCKED), ..Mode::default() })?;
            applier.source(Progress { system: 0, timeline: 0, tick: TickId(0), ord: 0, part: 0 })?;
            for (to, entry) in &entries {
                applier.entry(to, entry).await?;
            }
            applier.prepare_transaction(&gid).await
        }
        .await;
        Ok(applied.map_err(ForwardError::from)?)
    }

    /// Waits until a peer has everything that was committed before: nothing is overtaken. Who is behind for long is not waited
    /// for.
    async fn caught_up(&self, handle: &Handle, changes: &Changes) -> Result<(), Refused> {
        let (mut ticks, mut status) = (self.ticks.clone(), handle.status.clone());
        let gone = || Refused::Away("the proxy is ending".to_owned());
        let mut last = changes.ticked;
        if !changes.unticked.is_empty() {
            self.ticker.wake();
            let shows = |snapshot: &Arc<Snapshot>| changes.unticked.iter().all(|xid| snapshot.shows(*xid));
            let shown = |ticks: &Ticks| ticks.snapshot.as_ref().is_some_and(shows);
            last = last.max(ticks.wait_for(shown).await.map_err(|_| gone())?.latest);
        }
        let has = |status: &Status| last.is_none_or(|tick| status.has(tick));
        let away = |phase: Phase| !matches!(phase, Phase::Live | Phase::Connecting | Phase::Draining);
        let seen = status
            .wait_for(|status| away(status.phase) || status.phase == Phase::Live && has(status))
            .await
            .map_err(|_| gone())?;
        if away(seen.phase) {
            let why = seen.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Refused::Away(format!("it is {}{why}", seen.phase.word())));
        }
        Ok(())
    }
}

/// Why one peer does not take part.
enum Refused {
    Away(String),
    Error(ForwardError),
}

impl From<ForwardError> for Refused {
    fn from(error: ForwardError) -> Self {
        Self::Error(error)
    }
}
