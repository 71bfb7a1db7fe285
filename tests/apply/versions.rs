//! Conflicts by the versions of rows (§8): who wrote them and when, chosen here at will, so that clocks may differ, step back
//! or stand still, and changes may come in any order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use pgcanon::apply::{Applier, ApplyError, Mode};
use pgcanon::journal::entry::{Extra, Op};
use pgcanon::journal::{CommitTime, Entries, Entry, TickId};

use crate::common::rng::{Rng, seed};
use crate::common::{Cluster, Pg};
use crate::made::{int, place, rows, str, with_body};
use crate::site::{Peer, name, route, run};

const TABLES: &str = "create table t (id int primary key, info text, n int)";
const KEEPS_TIMES: &str = "track_commit_timestamp = on\n";

fn rules(conflict: &str) -> String {
    format!("[[table]]\nname = \"public.t\"\nconflict = {conflict}\n")
}

pub(crate) fn peer(conf: &str, conflict: &str) -> Peer {
    let cluster = Arc::new(Cluster::start(Pg::V15, &format!("{KEEPS_TIMES}{conf}"), ""));
    Peer::new(cluster, TABLES, &rules(conflict))
}

/// Brings changes of one node.
pub(crate) struct From {
    applier: Applier,
    ord: i32,
    /// The peer's tick up to which the node has seen the peer's own changes.
    pub(crate) seen: Option<TickId>,
}

impl From {
    pub(crate) async fn node(peer: &Peer, node: &str, conflict: &str) -> From {
        let applier = Applier::open(peer.log_in().await, &name(node), route(&rules(conflict))).await;
        From { applier: applier.expect("an applier"), ord: 0, seen: None }
    }

    /// One transaction that its node committed then.
    pub(crate) async fn brings(&mut self, time: i64, entries: &[Entry]) -> Result<(), ApplyError> {
        self.ord += 1;
        self.applier.begin(Mode::default())?;
        self.applier.source(place(1, self.ord))?;
        self.applier.as_of(Some(CommitTime(time)), self.seen)?;
        for entry in entries {
            let to = self.applier.destination(&entry.head).expect("a destination");
            self.applier.entry(&to, entry).await?;
        }
        self.applier.commit().await?;
        self.applier.settle().await.map(drop)
    }
}

/// Values with the types that keys are told by.
fn typed(entry: Entry, values: &[(u32, Option<Vec<u8>>)]) -> Entry {
    let mut body = Vec::new();
    body.put_i32(i32::try_from(values.len()).expect("few") + 1);
    body.extend([0, 0, 0, 26, 0, 0, 0, 4, 0, 0, 0, 0]);
    for (oid, value) in values {
        body.put_u32(*oid);
        body.put_i32(value.as_ref().map_or(-1, |value| i32::try_from(value.len()).expect("short")));
        body.extend(value.iter().flatten());
    }
    with_body(entry, &body)
}

pub(crate) fn row(id: i32, info: &str, n: Option<i32>) -> Entry {
    let entry = rows(Op::Upsert, Extra::None, "t", "id:integer* info:text n:integer", &[]);
    typed(entry, &[(23, int(id)), (25, str(info)), (23, n.and_then(int))])
}

pub(crate) fn gone(id: i32, n: Option<i32>) -> Entry {
    let entry = rows(Op::Delete, Extra::None, "t", "id:integer- info:text n:integer", &[]);
    typed(entry, &[(23, int(id)), (25, None), (23, n.and_then(int))])
}

/// The same as another node tells it, that has it from its writer.
pub(crate) fn told(entry: Entry, writer: &str, time: i64) -> Entry {
    let mut body = Vec::new();
    body.put_slice(&entry.body[..4]);
    body[3] += 2;
    body.extend(&entry.body[4..16]);
    body.extend([0, 0, 4, 160, 0, 0, 0, 8]);
    body.put_i64(time);
    body.extend([0, 0, 0, 25]);
    body.put_i32(i32::try_from(writer.len()).expect("short"));
    body.extend(writer.as_bytes());
    body.extend(&entry.body[16..]);
    let mut entry = with_body(entry, &body);
    entry.head.extra = Extra::Version;
    entry
}

pub(crate) const LAST: &str = "{ resolve = \"last\" }";

#[test]
fn a_version_keeps_its_writer_whoever_brings_it() {
    let peer = peer("", LAST);
    peer.sql("alter table t add unique (info, n) deferrable initially deferred");
    run(async {
        let mut a = From::node(&peer, "a", LAST).await;
        a.brings(100, &[row(1, "a", Some(1))]).await.expect("a row of its own");
        a.brings(900, &[told(row(2, "c", Some(2)), "c", 200)]).await.expect("a row of another");
        a.brings(900, &[told(row(3, "b", Some(3)), "b", 300)]).await.expect("a row of the peer's own");
        a.brings(900, &[told(row(4, "c", None), "c", 400)]).await.expect("another");
        a.brings(500, &[row(5, "a", None)]).await.expect("a row of its own");
        // Who failed with one does not keep it.
        a.brings(900, &[told(row(6, "b", Some(3)), "d", 600)]).await.expect_err("two that are the same");
        a.applier.rollback().await.expect("a rollback");
        a.ord -= 1;
        a.brings(600, &[told(row(6, "d", None), "d", 600)]).await.expect("a row of a third");
        a.brings(700, &[row(7, "a", None)]).await.expect("a row of its own");
        // Another session brings of the same, at the same time.
        let mut c = From::node(&peer, "c", LAST).await;
        c.brings(800, &[row(8, "c", None)]).await.expect("a row of its own");
        c.brings(800, &[told(row(9, "d", None), "d", 900)]).await.expect("a row of another");
    });
    let versions = "select string_agg(concat_ws(' ', id, info, v.origin, extract(epoch from v.at - '2000-01-01 00:00:00+00') * 1000000), \
        ', ' order by id) from t, pgcanon.version(t.xmin, 'b') as v";
    assert_eq!(
        peer.sql(versions).replace(".000000", ""),
        "1 a a 100, 2 c c 200, 3 b b 300, 4 c c 400, 5 a a 500, 6 d d 600, 7 a a 700, 8 c c 800, 9 d d 900"
    );
}

#[test]
fn a_server_without_room_for_another_origin_is_waited_for() {
    let peer = peer("max_replication_slots = 2\n", LAST);
    run(async {
        let mut a = From::node(&peer, "a", LAST).await;
        a.brings(1, &[told(row(1, "c", None), "c", 100)]).await.expect("there is room for two");
        match a.brings(2, &[told(row(2, "d", None), "d", 200)]).await {
            Err(ApplyError::Unable(why)) => {
                assert!(why.sqlstate == "53400" && why.to_string().contains("max_replication_slots"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        a.applier.rollback().await.expect("a rollback");
        match Applier::open(peer.log_in().await, &name("e"), route(&rules(LAST))).await.map(drop) {
            Err(ApplyError::Unable(why)) => assert_eq!(why.sqlstate, "53400"),
            other => panic!("{other:?}"),
        }
        // What needs none goes on, and so does the other when there is.
        a.ord -= 1;
        a.brings(3, &[row(3, "a", None)]).await.expect("a row of its own");
        peer.sql("select pg_replication_origin_drop(roname) from pg_replication_origin where roname like '%:c/a'");
        a.brings(2, &[told(row(2, "d", None), "d", 200)]).await.expect("there is room again");
    });
    assert_eq!(peer.sql("select string_agg(info, ' ' order by id) from t"), "c d a");
}

/// Microseconds since 2000, by this machine's clock, which is the servers'.
pub(crate) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_micros()).expect("a while to go") - 946_684_800 * SECOND
}

/// Waits until somebody waits for a lock.
async fn somebody_waits(peer: &Peer) {
    while peer.sql("select count(*) from pg_locks where not granted") == "0" {
        tokio::task::yield_now().await;
    }
}

/// One transaction, which waits for what is open on the peer until that is committed; again, where it has to be tried again.
pub(crate) async fn meanwhile(peer: &Peer, from: &mut From, time: i64, entries: &[Entry], commit: impl AsyncFnOnce()) {
    let committed = async {
        somebody_waits(peer).await;
        commit().await;
    };
    let (brought, ()) = tokio::join!(from.brings(time, entries), committed);
    match brought {
        Ok(()) => {}
        Err(ApplyError::Retry(_)) => {
            from.applier.rollback().await.expect("a rollback");
            from.ord -= 1;
            from.brings(time, entries).await.expect("the second time");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_row_that_is_deleted_while_a_change_waits_for_it_stays_dead() {
    let peer = peer("", LAST);
    run(async {
        let mut a = From::node(&peer, "a", LAST).await;
        let mut c = From::node(&peer, "c", LAST).await;
        let before = now();
        a.brings(before - SECOND, &[row(1, "old", None)]).await.expect("a row");
        // By a client: its proxy notes the deletion in the same transaction.
        let mut client = peer.session();
        client.ok(
            "begin; delete from t; insert into pgcanon.tombstone (nsp_name, table_name, key) values ('public', 't', \
                   '\\x0000001700000004'::bytea || int4send(1))",
        );
        meanwhile(&peer, &mut a, before, &[row(1, "late", None)], async || drop(client.ok("commit"))).await;
        assert_eq!(peer.sql("select count(*) from t"), "0");
        // By another node, where there is no row yet.
        c.ord += 1;
        c.applier.begin(Mode::default()).expect("begin");
        c.applier.source(place(1, c.ord)).expect("a source");
        c.applier.as_of(Some(CommitTime(before + SECOND)), None).expect("a time");
        let deletion = gone(2, None);
        let to = c.applier.destination(&deletion.head).expect("a destination");
        c.applier.entry(&to, &deletion).await.expect("a deletion");
        c.applier.settle().await.expect("nothing is on its way");
        let commit = async || {
            c.applier.commit().await.expect("commit");
            c.applier.settle().await.map(drop).expect("settle");
        };
        meanwhile(&peer, &mut a, before, &[row(2, "late", None)], commit).await;
    });
    assert_eq!(peer.sql("select count(*) from t"), "0");
}

/// A change of one transaction on one row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    time: i64,
    writer: &'static str,
    kind: Kind,
    n: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Row,
    Deletion,
    /// A deletion, and a row in its place.
    Anew,
    /// A row, and its deletion.
    ForNothing,
    /// Two images of one row.
    Twice,
}

/// How versions are weighed: the end is a function of all of them, whatever came first.
struct Policy {
    conflict: &'static str,
    prefer: &'static str,
    by_column: bool,
}

const WRITERS: [&str; 4] = ["a", "b", "c", "d"];
pub(crate) const SECOND: i64 = 1_000_000;

impl Version {
    fn info(&self) -> String {
        format!("{} at {} with {}", self.writer, self.time, self.n)
    }

    fn entries(&self, id: i32) -> Vec<Entry> {
        let (row, gone) = (row(id, &self.info(), Some(self.n)), gone(id, Some(self.n)));
        match self.kind {
            Kind::Row => vec![row],
            Kind::Deletion => vec![gone],
            Kind::Anew => vec![gone, row],
            Kind::ForNothing => vec![row, gone],
            Kind::Twice => vec![self::row(id, "not for long", Some(self.n)), row],
        }
    }

    fn deletes(&self) -> bool {
        matches!(self.kind, Kind::Deletion | Kind::Anew | Kind::ForNothing)
    }

    fn leaves(&self) -> bool {
        matches!(self.kind, Kind::Row | Kind::Anew | Kind::Twice)
    }
}

impl Policy {
    fn first(&self) -> bool {
        self.conflict.contains("first")
    }

    /// The stronger of two rows is the greater.
    fn weight(&self, v: &Version, newest: bool) -> (bool, i64, bool, std::cmp::Reverse<String>, Vec<u8>) {
        let preferred = v.writer == self.prefer;
        let by_node = self.conflict.contains("\"node\"");
        let sign = if newest { 1 } else { -1 };
        let bytes = v.info().into_bytes();
        if self.by_column {
            return (false, sign * i64::from(v.n), preferred, std::cmp::Reverse(String::new()), bytes);
        }
        (by_node && preferred, sign * v.time, preferred, std::cmp::Reverse(v.writer.to_owned()), bytes)
    }

    /// Whether a deletion makes an end of a row.
    fn ends(&self, deletion: &Version, row: &Version) -> bool {
        match self.by_column {
            true => deletion.n >= row.n,
            false => self.weight(deletion, true) > self.weight(row, true),
        }
    }

    fn end(&self, versions: &[Version]) -> Option<String> {
        let alive = versions.iter().filter(|row| {
            let killed = |d: &Version| d.deletes() && self.ends(d, row);
            row.leaves() && !versions.iter().any(killed)
        });
        alive.max_by_key(|row| self.weight(row, !self.first())).map(Version::info)
    }
}

/// All orders of so many.
pub(crate) fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let smaller = orders(n - 1);
    let with = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    smaller.iter().flat_map(|order| (0..n).map(|at| with(order, at)).collect::<Vec<_>>()).collect()
}

/// Rows that stand for the same row on different nodes, each of which hears of the same versions in another order, and then of
/// what the others have to say, until nobody has.
async fn in_all_orders(peer: &Peer, policy: &Policy, sets: &[Vec<Version>]) {
    let mut nodes: BTreeMap<&str, From> = BTreeMap::new();
    for node in ["a", "c", "d"] {
        nodes.insert(node, From::node(peer, node, policy.conflict).await);
    }
    let orders = orders(sets[0].len());
    let id = |set: usize, order: usize| i32::try_from(1000 + set * orders.len() + order).expect("not so many");
    for (set, versions) in sets.iter().enumerate() {
        for (order, places) in orders.iter().enumerate() {
            for version in places.iter().map(|at| &versions[*at]) {
                let entries = version.entries(id(set, order));
                if let Some(from) = nodes.get_mut(version.writer) {
                    from.brings(version.time, &entries).await.expect("apply");
                    continue;
                }
                // What the peer has written itself, as it comes home.
                for entry in entries {
                    let told = if policy.by_column { entry } else { told(entry, version.writer, version.time) };
                    nodes.get_mut("a").expect("a node").brings(version.time, &[told]).await.expect("apply");
                }
            }
        }
    }
    let mut session = peer.session();
    for round in 0.. {
        let echoes =
            session.ok("with e as (delete from pgcanon.echo returning *) select head, image from e order by id");
        let echoes = echoes.rows();
        if echoes.is_empty() {
            break;
        }
        assert!(round < 12, "they talk for ever: {} versions are still to be said again", echoes.len());
        for echo in echoes {
            let hex = |at: usize| pgcanon::journal::unhex(echo[at].as_deref().expect("bytes").as_bytes()).expect("hex");
            let (head, image) = (hex(0), hex(1));
            let mut data = Vec::new();
            for part in [&head, &image] {
                data.put_u32(u32::try_from(part.len()).expect("short"));
                data.put_slice(part);
            }
            let entry = Entries::new(None, Bytes::from(data)).next().expect("an entry").expect("decode");
            let key = |id: i32| [[0, 0, 0, 23, 0, 0, 0, 4].as_slice(), &id.to_be_bytes()].concat();
            let is_there = |id: i32| image.windows(12).position(|window| *window == key(id)[..]);
            let all = id(0, 0)..id(sets.len(), 0);
            let (whose, at) = all.clone().find_map(|id| Some((id, is_there(id)?))).expect("a key");
            let of_set = |id: i32| (id - 1000) / i32::try_from(orders.len()).expect("few");
            for other in all.filter(|id| *id != whose && of_set(*id) == of_set(whose)) {
                let mut image = image.clone();
                image[at..at + 12].copy_from_slice(&key(other));
                let entry = with_body(entry.clone(), &image);
                nodes.get_mut("c").expect("a node").brings(0, &[entry]).await.expect("apply an echo");
            }
        }
    }
    let found: BTreeMap<i32, String> = session
        .ok("select id, info from t")
        .rows()
        .into_iter()
        .map(|row| (row[0].as_deref().and_then(|id| id.parse().ok()).expect("a key"), row[1].clone().expect("a text")))
        .collect();
    for (set, versions) in sets.iter().enumerate() {
        let ends: Vec<Option<&String>> = (0..orders.len()).map(|order| found.get(&id(set, order))).collect();
        let end = policy.end(versions);
        assert!(
            ends.iter().all(|e| e.map(String::as_str) == end.as_deref()),
            "{versions:#?} end as {ends:?}, not {end:?}"
        );
    }
}

fn no_decision_depends_on_arrival_order(policy: &Policy) {
    let many: usize = std::env::var("VERSION_SETS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let mut rng = Rng::new(seed(policy.conflict));
    let mut set = || {
        let mut versions: Vec<Version> = Vec::new();
        while versions.len() < 3 {
            let kinds =
                [Kind::Row, Kind::Row, Kind::Deletion, Kind::Deletion, Kind::Anew, Kind::ForNothing, Kind::Twice];
            let kind = *rng.pick(if policy.by_column { &kinds[..4] } else { &kinds });
            // The same moment, and clocks that are ten seconds apart.
            let time = SECOND * *rng.pick(&[50, 50, 60, 40, 45]);
            let writer: &'static str = rng.pick::<&str>(&WRITERS);
            let version = Version { time, writer, kind, n: *rng.pick(&[1, 2, 3]) };
            // The peer's own transactions come home a piece at a time.
            let whole = version.writer != "b" || matches!(kind, Kind::Row | Kind::Deletion);
            // A clock that is set back tells the same moment twice; what is then deleted and what is there, nobody can tell.
            let told = versions.iter().filter(|v| (v.time, v.writer) == (time, writer));
            let apart = |v: &Version| v.kind == Kind::Row && kind == Kind::Row && v.n != version.n;
            if whole && told.clone().all(apart) {
                versions.push(version);
            }
        }
        versions
    };
    let sets: Vec<Vec<Version>> = (0..many).map(|_| set()).collect();
    let peer = peer("", policy.conflict);
    run(in_all_orders(&peer, policy, &sets));
}

#[test]
fn no_order_changes_which_is_the_last() {
    no_decision_depends_on_arrival_order(&Policy { conflict: LAST, prefer: "", by_column: false });
}

#[test]
fn no_order_changes_which_is_the_first() {
    let conflict = "{ resolve = \"first\", prefer = \"b\" }";
    no_decision_depends_on_arrival_order(&Policy { conflict, prefer: "b", by_column: false });
}

#[test]
fn no_order_changes_what_the_preferred_node_has() {
    let conflict = "{ resolve = \"node\", prefer = \"b\" }";
    no_decision_depends_on_arrival_order(&Policy { conflict, prefer: "b", by_column: false });
}

#[test]
fn no_order_changes_what_a_column_says() {
    let conflict = "{ resolve = \"last\", by = \"column:n\" }";
    no_decision_depends_on_arrival_order(&Policy { conflict, prefer: "", by_column: true });
}

#[test]
fn no_order_changes_what_a_column_says_first() {
    let conflict = "{ resolve = \"first\", by = \"column:n\" }";
    no_decision_depends_on_arrival_order(&Policy { conflict, prefer: "", by_column: true });
}
