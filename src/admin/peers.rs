//! How the peers stand, for the console and the metrics: what the forwarders say, and how far behind that is.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::catalog::Control;
use crate::config::{Config, NodeName};
use crate::forward::{Handle, Phase, Queued, Status};
use crate::journal::Progress;
use crate::journal::ticker::State as Ticks;

/// A server that does not say within this time how old something is leaves that unknown: nobody shall wait for it.
const ANSWER: Duration = Duration::from_secs(2);

/// Seconds since the first tick behind each place was made, and since the oldest row of each queue came.
const AGES: &str = "\
SELECT pg_catalog.json_agg(pg_catalog.json_build_array( \
    (SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - created) \
     FROM pgcanon.tick WHERE id > a.tick ORDER BY id LIMIT 1), \
    (SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - create_time) \
     FROM pgcanon.error_queue WHERE dst_server = a.peer ORDER BY tick, ord, seq LIMIT 1)) ORDER BY a.n)::pg_catalog.text \
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.text[])) \
    WITH ORDINALITY AS a(tick, peer, n)";

/// As a tick: behind all of them.
const NEVER: i64 = i64::MAX;

/// Who forwards, and to what end; nobody until everything is ready.
#[derive(Clone, Default)]
pub struct Forwarding {
    pub peers: Arc<[Handle]>,
    pub ticks: Option<watch::Receiver<Ticks>>,
}

/// Everybody who is forwarded to.
#[derive(Clone)]
pub struct Peers {
    /// None where there is nothing to forward.
    forwarding: Option<watch::Receiver<Forwarding>>,
    config: watch::Receiver<Arc<Config>>,
    control: Option<Control>,
    /// As they were looked at last: the metrics.
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// How one peer stands.
#[derive(Clone, Debug)]
pub struct Seen {
    pub peer: NodeName,
    pub phase: Phase,
    pub since: Option<SystemTime>,
    pub applied: Option<Progress>,
    /// Nothing up to this tick is still to be applied.
    reached: Option<i64>,
    /// Ticks of this node that it has not applied, and seconds since the first of them was made; none where that is unknown.
    pub lag: Option<i64>,
    pub lag_seconds: Option<f64>,
    /// None where another proxy of this node sees to the peer.
    pub queued: Option<Queued>,
    /// Seconds since the oldest row in the queue came.
    pub queue_age: Option<f64>,
    pub transactions: u64,
    pub retries: u64,
    pub trouble: Option<String>,
}

// === impl Peers ===

impl Peers {
    pub fn new(
        forwarding: Option<watch::Receiver<Forwarding>>,
        config: watch::Receiver<Arc<Config>>,
        control: Option<Control>,
    ) -> Self {
        Self { forwarding, config, control, seen: Arc::default() }
    }

    /// Whether changes are captured at all.
    pub fn is_capturing(&self) -> bool {
        self.forwarding.is_some()
    }

    /// The last tick, as far as is known.
    pub fn latest(&self) -> Option<i64> {
        let forwarding = self.forwarding.as_ref()?.borrow();
        let latest = forwarding.ticks.as_ref()?.borrow().latest;
        latest.map(|tick| tick.0)
    }

    /// Their forwarders, in the order of their names.
    pub fn handles(&self) -> Vec<Handle> {
        let mut handles = self.forwarding.as_ref().map(|f| f.borrow().peers.to_vec()).unwrap_or_default();
        handles.sort_by(|a, b| a.peer.cmp(&b.peer));
        handles
    }

    /// All peers of the configuration and all that are forwarded to, by name.
    pub async fn look(&self) -> Vec<Seen> {
        let latest = self.latest();
        let mut seen: Vec<Seen> =
            self.handles().iter().map(|handle| Seen::of(&handle.peer, &handle.status.borrow(), latest)).collect();
        for peer in &self.config.borrow().peers {
            if !seen.iter().any(|s| s.peer == peer.name) {
                seen.push(Seen::of(&peer.name, &Status::default(), None));
            }
        }
        seen.sort_by(|a, b| a.peer.cmp(&b.peer));
        self.ask_ages(&mut seen).await;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&seen);
        seen
    }

    /// Where there is something to wait for, the node knows for how long.
    async fn ask_ages(&self, seen: &mut [Seen]) {
        let waits = |s: &Seen| s.lag != Some(0) || s.queued.is_some_and(|q| q.rows > 0);
        let Some(control) = self.control.as_ref().filter(|_| seen.iter().any(waits)) else { return };
        let ticks: Vec<i64> = seen.iter().map(|s| s.reached.unwrap_or(NEVER)).collect();
        let names: Vec<String> = seen.iter().map(|s| s.peer.to_string()).collect();
        let ages = control.text_of(AGES, vec![Box::new(ticks), Box::new(names)]);
        let Ok(Ok(Some(json))) = timeout(ANSWER, ages).await else { return };
        let Ok(ages) = serde_json::from_str::<Vec<(Option<f64>, Option<f64>)>>(&json) else { return };
        for (one, (tick, queue)) in seen.iter_mut().zip(ages) {
            one.queue_age = queue.filter(|_| one.queued.is_some());
            if one.lag != Some(0) {
                // What is queued and was never seen applied is at least as old as the queue.
                one.lag_seconds = tick.or(one.queue_age);
            }
        }
    }

    /// What [`look`](Self::look) has seen, for the registry.
    pub fn metrics(&self) -> Box<dyn Collector> {
        Box::new(Metrics(self.seen.clone()))
    }
}

// === impl Seen ===

impl Seen {
    fn of(peer: &NodeName, status: &Status, latest: Option<i64>) -> Self {
        let elsewhere = status.phase == Phase::Elsewhere;
        let applied = status.applied.filter(|_| !elsewhere);
        // A tick in which nothing was for the peer is passed without being applied.
        let known = |tick: i64, sure: bool| Some(tick).filter(|tick| sure || *tick > 0);
        let live = status.phase == Phase::Live;
        let passed = if live { known(status.passed.0, true) } else { None };
        let reached = applied.map(|applied| applied.tick.0).max(passed).max(known(status.reached.0.0, live));
        // Without a first tick there is nothing to be behind of.
        let latest = latest.or(live.then_some(0));
        let lag = reached.zip(latest).map(|(reached, latest)| latest.saturating_sub(reached).max(0));
        Self {
            peer: peer.clone(),
            phase: status.phase,
            since: status.since,
            applied,
            reached,
            lag,
            lag_seconds: lag.filter(|lag| *lag == 0).map(|_| 0.0),
            queued: (!elsewhere).then_some(status.queued),
            queue_age: None,
            transactions: status.transactions,
            retries: status.retries,
            trouble: status.trouble.clone(),
        }
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Draining | Phase::Stalled | Phase::Parked)
    }
}

/// The peers as metrics.
struct Metrics(Arc<Mutex<Vec<Seen>>>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queued = |s: &Seen, of: fn(Queued) -> i64| s.queued.map(|queued| number(of(queued)));
        gauge(&mut encoder, &seen, "peer_up", "Whether the peer answers", |s| Some(f64::from(u8::from(s.is_up()))))?;
        state(&mut encoder, &seen)?;
        gauge(
            &mut encoder,
            &seen,
            "peer_lag_ticks",
            "Ticks of this node that the peer has not applied, where that is known",
            |s| s.lag.map(number),
        )?;
        gauge(
            &mut encoder,
            &seen,
            "peer_lag_seconds",
            "Time since the first change was made that the peer has not applied, where that is known",
            |s| s.lag_seconds,
        )?;
        gauge(&mut encoder, &seen, "peer_queue_rows", "Rows in the error queue", |s| queued(s, |q| q.rows))?;
        gauge(&mut encoder, &seen, "peer_queue_bytes", "Bytes in the error queue", |s| queued(s, |q| q.bytes))?;
        gauge(
            &mut encoder,
            &seen,
            "peer_queue_age_seconds",
            "Time since the oldest row in the error queue came there",
            |s| s.queued.map(|_| s.queue_age.unwrap_or(0.0)),
        )?;
        counter(&mut encoder, &seen, "peer_transactions", "Transactions that were applied to the peer", |s| {
            s.transactions
        })?;
        counter(&mut encoder, &seen, "peer_retries", "Transactions that were applied again after they failed", |s| {
            s.retries
        })
    }
}

#[allow(clippy::cast_precision_loss)] // a gauge is for the eye
fn number(n: i64) -> f64 {
    n as f64
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    seen: &[Seen],
    name: &str,
    help: &str,
    value: impl Fn(&Seen) -> Option<f64>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (one, value) in seen.iter().filter_map(|one| Some((one, value(one)?))) {
        metric.encode_family(&[("peer", one.peer.as_str())])?.encode_gauge(&value)?;
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    seen: &[Seen],
    name: &str,
    help: &str,
    value: impl Fn(&Seen) -> u64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for one in seen {
        metric
            .encode_family(&[("peer", one.peer.as_str())])?
            .encode_counter::<NoLabelSet, _, u64>(&value(one), None)?;
    }
    Ok(())
}

fn state(encoder: &mut DescriptorEncoder<'_>, seen: &[Seen]) -> fmt::Result {
    let help = "1 for the state that the peer is in, 0 for the others";
    let mut metric = encoder.encode_descriptor("peer_state", help, None, MetricType::Gauge)?;
    for one in seen {
        for phase in Phase::ALL {
            let labels = [("peer", one.peer.as_str()), ("state", phase.word())];
            metric.encode_family(&labels)?.encode_gauge(&i64::from(one.phase == phase))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use super::*;
    use crate::journal::TickId;

    fn seen(phase: Phase, applied: i64, passed: i64) -> Seen {
        let applied = Progress { system: 1, timeline: 1, tick: TickId(applied), ord: 3, part: 0 };
        let status = Status { phase, applied: Some(applied), passed: TickId(passed), ..Status::default() };
        Seen::of(&NodeName::new("b").unwrap(), &status, Some(10))
    }

    #[test]
    fn ticks_without_anything_for_a_live_peer_are_no_lag() {
        let idle = seen(Phase::Live, 4, 10);
        assert_eq!((idle.lag, idle.lag_seconds), (Some(0), Some(0.0)));
        assert_eq!(seen(Phase::Live, 7, 6).lag, Some(3));
    }

    #[test]
    fn what_is_passed_because_it_is_queued_is_not_applied() {
        assert_eq!(seen(Phase::Spilling, 4, 10).lag, Some(6));
    }

    #[test]
    fn before_the_first_tick_nobody_is_behind() {
        let status = Status { phase: Phase::Live, ..Status::default() };
        assert_eq!(Seen::of(&NodeName::new("b").unwrap(), &status, None).lag, Some(0));
    }

    #[test]
    fn what_a_peer_had_when_it_was_lost_it_has() {
        let status = Status { phase: Phase::Paused, reached: (TickId(8), i32::MAX), ..Status::default() };
        assert_eq!(Seen::of(&NodeName::new("b").unwrap(), &status, Some(10)).lag, Some(2));
    }

    #[test]
    fn of_a_peer_that_was_never_reached_the_lag_is_unknown() {
        let status = Status { phase: Phase::Unreachable, ..Status::default() };
        let seen = Seen::of(&NodeName::new("b").unwrap(), &status, Some(10));
        assert_eq!((seen.lag, seen.lag_seconds, seen.is_up()), (None, None, false));
    }
}
