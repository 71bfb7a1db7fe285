//! The picture follows the catalog, whoever changes it, and whatever happens to the server.

use std::sync::Arc;
use std::time::Duration;

use pgcanon::catalog::ControlSettings;
use pgcanon::catalog::relation::Catalog;
use pgcanon::catalog::watch::{Catalogs, Pace, Wanted};
use pgcanon::config::Config;
use pgcanon::session::liveness;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::common::cluster::Stop;
use crate::common::{Cluster, PATIENCE, Pg};
use crate::{names, on_15_and_18, rules};

on_15_and_18! {
    an_invalidation_waits_for_a_picture_that_is_newer,
    what_comes_past_the_proxies_is_noticed,
    another_proxy_is_told,
    the_version_grows_only_with_a_difference,
    other_rules_make_another_picture,
    it_waits_for_a_server_and_survives_its_restart,
    what_was_read_counts_no_longer_once_the_server_is_lost,
}

/// So seldom that a test does not wait for it.
const NEVER: Pace = Pace { shortest: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
const OFTEN: Pace = Pace { shortest: Duration::from_millis(20), longest: Duration::from_millis(20) };

struct Proxy {
    catalogs: Catalogs,
    wanted: watch::Sender<Arc<Wanted>>,
    _settings: watch::Sender<Arc<ControlSettings>>,
}

impl Proxy {
    /// What a proxy of this cluster runs.
    fn start(cluster: &Cluster, names: &[&str], pace: Pace) -> Proxy {
        let dir = tempfile::tempdir().expect("make a directory");
        let path = dir.path().join("pgcanon.toml");
        let (host, port) = (cluster.socket_dir().display(), cluster.port());
        let text = format!(
            "[node]\nname = \"a\"\nserver = \"host={host} port={port}\"\ncontrol = \"user=postgres dbname=postgres\"\n"
        );
        std::fs::write(&path, text).expect("write the configuration");
        let config = Config::load(&path).unwrap_or_else(|e| panic!("{e}"));
        let control = config.node.control.as_ref().expect("it is there");
        let settings = ControlSettings::load(control, Duration::from_secs(5), liveness(&config.node));
        let (settings, seen) = watch::channel(Arc::new(settings.unwrap_or_else(|e| panic!("{e}"))));
        let (wanted, wish) = watch::channel(Arc::new(wanted(names)));
        Proxy { catalogs: Catalogs::start(seen, wish, pace), wanted, _settings: settings }
    }

    async fn first(&self) -> Arc<Catalog> {
        within(self.catalogs.get()).await.expect("the task runs")
    }

    async fn invalidated(&self) -> Arc<Catalog> {
        within(self.catalogs.invalidate().picture()).await.expect("the task runs")
    }

    /// Waits until there is a picture with these relations.
    async fn shows(&self, expected: &[&str]) -> Arc<Catalog> {
        within(async {
            loop {
                let now = self.first().await;
                if names(&now) == expected {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

fn wanted(names: &[&str]) -> Wanted {
    Wanted { rules: rules(names).into(), ..Wanted::default() }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it takes too long")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn an_invalidation_waits_for_a_picture_that_is_newer(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    block_on(async {
        let proxy = Proxy::start(&cluster, &["public.*"], NEVER);
        assert_eq!(names(proxy.first().await.as_ref()).len(), 0);
        for n in 1..=5 {
            cluster.psql(&format!("create table t_{n} (id int)"));
            assert_eq!(names(proxy.invalidated().await.as_ref()).len(), n);
        }
    });
}

fn what_comes_past_the_proxies_is_noticed(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    cluster.psql("create table a (id int not null, b int); create table other (x int); create schema s");
    block_on(async {
        let proxy = Proxy::start(&cluster, &["public.a", "s.*"], OFTEN);
        let mut version = proxy.shows(&["a"]).await.version;
        for ddl in [
            "alter table a add column c timestamptz",
            "alter table a alter column c type timestamp",
            "alter table a alter column c set default now()",
            "alter table a alter column c set default '2000-01-01'",
            "alter table a alter column b set not null",
            "alter table a drop column b",
            "alter table a add primary key (id)",
            "create unique index u on a (c)",
            "drop index u",
            "alter table a enable row level security",
            "create table s.child (a int references a on delete cascade)",
            "alter table s.child rename to kid",
            "alter table s.kid rename column a to b",
            "alter table s.kid alter constraint child_a_fkey deferrable",
            "alter table other add unique (x); create table s.more (x int references other (x) on delete cascade)",
            "create view v as select * from a",
            "create rule r as on delete to a do instead nothing",
            "create table part (like a) partition by list (id); create table s.part partition of part for values in (1)",
            "create function f() returns trigger language plpgsql as 'begin return new; end'",
            "create trigger t before insert on a for each row execute function f()",
            "alter table a disable trigger t",
            "create function g() returns int language sql as 'insert into a (id) values (1) returning 1'",
            "create or replace function g() returns int language sql as 'select 2'",
            "create domain d as int; alter table a add e d",
            "alter domain d add check (value > 0)",
            "alter domain d set default random() * 5",
            "create function p(int, text) returns int language sql as 'select 1'",
            "create operator === (leftarg = int, rightarg = text, function = p)",
            "alter schema s rename to s2",
        ] {
            cluster.psql(ddl);
            let noticed = timeout(PATIENCE, async {
                loop {
                    let now = proxy.first().await.version;
                    if now > version {
                        return now;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            version = noticed.await.unwrap_or_else(|_| panic!("not noticed: {ddl}"));
        }
    });
}

fn another_proxy_is_told(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    block_on(async {
        let [one, two] = [(); 2].map(|()| Proxy::start(&cluster, &["public.*"], NEVER));
        one.first().await;
        two.first().await;
        cluster.psql("create table t (id int)");
        one.invalidated().await;
        two.shows(&["t"]).await;
    });
}

fn the_version_grows_only_with_a_difference(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    cluster.psql("create table t (id int primary key)");
    block_on(async {
        let proxy = Proxy::start(&cluster, &["public.*"], OFTEN);
        let first = proxy.first().await;
        cluster.psql("create temp table x (id int primary key)");
        cluster.psql("truncate t");
        cluster.psql("insert into t values (1); analyze t");
        cluster.psql("vacuum full t");
        let same = proxy.invalidated().await;
        assert_eq!(first.version, same.version);
        assert!(Arc::ptr_eq(&first, &same), "an equal picture takes no place of another");
        cluster.psql("alter table t add column x int");
        assert_eq!(proxy.invalidated().await.version, first.version + 1);
    });
}

fn other_rules_make_another_picture(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    cluster.psql("create table a (id int); create table b (id int)");
    block_on(async {
        let proxy = Proxy::start(&cluster, &["public.a"], NEVER);
        assert_eq!(names(proxy.first().await.as_ref()), ["a"]);
        proxy.wanted.send_replace(Arc::new(wanted(&["public.b"])));
        proxy.shows(&["b"]).await;
    });
}

fn it_waits_for_a_server_and_survives_its_restart(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    cluster.psql("create table a (id int)");
    cluster.stop(Stop::Fast);
    block_on(async {
        let proxy = Proxy::start(&cluster, &["public.*"], NEVER);
        assert!(proxy.catalogs.current().is_none());
        cluster.restart();
        assert_eq!(names(proxy.first().await.as_ref()), ["a"]);
        cluster.stop(Stop::Immediate);
        let awaited = proxy.catalogs.invalidate();
        cluster.restart();
        cluster.psql("create table b (id int)");
        within(awaited.picture()).await.expect("the task runs");
        assert_eq!(names(proxy.invalidated().await.as_ref()), ["a", "b"]);
    });
}

/// It may be another server that comes back, or have other tables; sessions may reach it sooner.
fn what_was_read_counts_no_longer_once_the_server_is_lost(pg: Pg) {
    let cluster = Cluster::start(pg, "", "");
    block_on(async {
        let proxy = Proxy::start(&cluster, &["public.*"], NEVER);
        proxy.first().await;
        assert!(!proxy.catalogs.is_behind());
        cluster.stop(Stop::Immediate);
        let turns = |behind: bool| {
            let catalogs = &proxy.catalogs;
            within(async move {
                while catalogs.is_behind() != behind {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        turns(true).await;
        cluster.restart();
        turns(false).await;
    });
}
