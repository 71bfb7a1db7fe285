//! Peers as metrics, and the dashboard that shows them.

use std::collections::BTreeSet;

use super::common::session::Session;
use super::common::{Cluster, Pg, Proxy, eventually};
use super::site::Site;

#[test]
fn every_peer_has_its_metrics() {
    let site = Site::new();
    site.client().ok("insert into t select i, 'x' from generate_series(1, 4) i");
    site.until_queued("c", "4");
    site.until("b", "live");
    let metric = |name: &str, labels: &str| site.proxy.metric(&format!("pgcanon_peer_{name}{{{labels}}}"));
    eventually("b to be even", || (metric("lag_ticks", "peer=\"b\"") == 0.0).then_some(()));
    assert_eq!(metric("lag_seconds", "peer=\"b\""), 0.0);
    assert_eq!((metric("up", "peer=\"b\""), metric("up", "peer=\"c\"")), (1.0, 0.0));
    assert_eq!(metric("state", "peer=\"b\",state=\"live\""), 1.0);
    assert_eq!(metric("state", "peer=\"b\",state=\"spilling\""), 0.0);
    assert_eq!(metric("state", "peer=\"c\",state=\"spilling\""), 1.0);
    assert_eq!((metric("queue_rows", "peer=\"b\""), metric("queue_rows", "peer=\"c\"")), (0.0, 4.0));
    assert!(metric("queue_bytes", "peer=\"c\"") > 100.0 && metric("queue_age_seconds", "peer=\"c\"") > 0.0);
    assert!(metric("lag_seconds", "peer=\"c\"") > 0.0, "at least as old as its queue");
    assert_eq!((metric("transactions_total", "peer=\"b\""), metric("retries_total", "peer=\"b\"")), (1.0, 0.0));
    assert!(!site.proxy.metrics().contains("pgcanon_peer_lag_ticks{peer=\"c\"}"), "unknown is not zero");
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let dashboard = include_str!("../../config/grafana.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("JSON");
    let named: BTreeSet<&str> = dashboard
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pgcanon_"))
        .collect();
    assert!(named.len() > 8, "{named:?}");
    let proxy = Proxy::start(&Cluster::shared(Pg::V15), "[[allow]]\nuser = \"nobody\"\n");
    // What counts by reason is there when there has been one.
    assert!(Session::try_open(&proxy.tcp(), "somebody", "postgres").is_err());
    let text = proxy.metrics();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let there: BTreeSet<String> =
        kinds.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect();
    let unknown: Vec<_> = named.iter().filter(|name| !there.contains(**name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are none of {there:?}");
}
