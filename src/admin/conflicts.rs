//! How many conflicts there were, for the metrics: those on record at the start, and all since.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tokio::time::timeout;

use crate::catalog::Control;

/// A server that does not answer within this time is asked again with the next look.
const ANSWER: Duration = Duration::from_secs(2);

/// Those of transactions that began at `$1` or later and before any that may still be open: no record comes late.
const SINCE: &str = "\
WITH upto AS (SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()) AS xid) \
SELECT pg_catalog.json_build_array( \
    (SELECT xid::pg_catalog.text FROM upto), \
    (SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(c.origin, c.kind, c.decision, c.n)), '[]') FROM ( \
        SELECT origin, kind, decision, pg_catalog.count(*) AS n FROM pgcanon.conflict \
        WHERE xid >= $1::pg_catalog.text::pg_catalog.xid8 AND xid < (SELECT xid FROM upto) GROUP BY 1, 2, 3) AS c))::pg_catalog.text";

/// Counts the conflicts of this node.
#[derive(Clone)]
pub struct Conflicts {
    /// None where nothing is captured.
    control: Option<Control>,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug)]
struct Counted {
    /// Up to this transaction.
    upto: String,
    /// By who brought the change, what the matter was, and what was decided.
    counts: BTreeMap<[String; 3], u64>,
}

// === impl Conflicts ===

impl Conflicts {
    pub fn new(control: Option<Control>) -> Self {
        let counted = Counted { upto: "0".to_owned(), counts: BTreeMap::new() };
        Self { control, counted: Arc::new(Mutex::new(counted)) }
    }

    /// Counts what has come since the last look.
    pub async fn look(&self) {
        let Some(control) = &self.control else { return };
        let since = self.counted().upto.clone();
        let answer = timeout(ANSWER, control.text_of(SINCE, vec![Box::new(since.clone())])).await;
        let Ok(Ok(Some(json))) = answer else { return };
        let Ok((upto, news)) = serde_json::from_str::<(String, Vec<(String, String, String, u64)>)>(&json) else {
            return;
        };
        let mut counted = self.counted();
        // Somebody else's look may have been faster.
        if counted.upto != since {
            return;
        }
        counted.upto = upto;
        for (origin, kind, decision, n) in news {
            let count = counted.counts.entry([origin, kind, decision]).or_default();
            *count = count.saturating_add(n);
        }
    }

    /// What [`look`](Self::look) has counted, for the registry.
    pub fn metrics(&self) -> Box<dyn Collector> {
        Box::new(self.clone())
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conflicts")
    }
}

impl Collector for Conflicts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Conflicts that were settled here, and changes that were discarded";
        let mut metric = encoder.encode_descriptor("conflicts", help, None, MetricType::Counter)?;
        for ([origin, kind, decision], n) in &self.counted().counts {
            let labels = [("origin", origin.as_str()), ("kind", kind.as_str()), ("decision", decision.as_str())];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(n, None)?;
        }
        Ok(())
    }
}
