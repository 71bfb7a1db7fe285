//! psql: a long session whose whole output must equal that of the server, Ctrl-C, and many sessions in one string.

use std::process::Stdio;

use rustix::process::Signal;

use crate::common::cluster::PG15_BIN;
use crate::common::{Addr, Pg, proc, temp_dir, tests_dir};
use crate::{SUITE, Site};

/// What `session.sql` prints on stdout and stderr, each on its own.
fn session(site: &Site, addr: &Addr) -> (String, String) {
    let dir = temp_dir("psql");
    let mut psql = site.client_at(&format!("{PG15_BIN}/psql"), addr);
    psql.args(["-Xa", "-v", &format!("dir={}", dir.path().display()), "-f"]);
    psql.arg(tests_dir().join("clients/session.sql"));
    let output = proc::output(&mut psql, SUITE);
    let lo = std::fs::read(dir.path().join("t.lo")).expect("the large object came back");
    assert_eq!(lo, std::fs::read(dir.path().join("t.tsv")).expect("the file it came from"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&dir.path().display().to_string(), "DIR");
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn prints_the_same_as_on_the_server() {
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, "psql_session");
        let expected = session(&site, &site.way.cluster.unix());
        assert!(expected.0.contains("  3000 | 1501500"), "the copies were made:\n{}\n{}", expected.0, expected.1);
        for addr in [site.way.unix(), site.way.tcp()] {
            let got = session(&site, &addr);
            for (expected, got) in [(&expected.0, &got.0), (&expected.1, &got.1)] {
                let differs = expected.lines().zip(got.lines()).find(|(one, other)| one != other);
                assert_eq!(differs, None, "over {addr:?}");
                assert_eq!(expected.lines().count(), got.lines().count(), "over {addr:?}");
            }
        }
    }
}

#[test]
fn is_interrupted_by_the_user() {
    let site = Site::new(Pg::V15, "psql_interrupt");
    let mut psql = site.tool("psql");
    psql.args(["-X", "-c", "select pg_sleep(60)"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = psql.spawn().expect("start psql");
    let asleep = "select 1 from pg_stat_activity where datname = 'psql_interrupt' and wait_event = 'PgSleep'";
    crate::common::eventually("psql's query to run", || (!site.sql(asleep).is_empty()).then_some(()));
    proc::kill(child.id(), Signal::INT);
    let ended = proc::wait(&mut child, SUITE).is_some();
    if !ended {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("psql ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(ended && said.contains("canceling statement due to user request"), "{said}");
}

#[test]
fn reconnects_and_speaks_replication() {
    let site = Site::new(Pg::V15, "psql_replication");
    let addr = site.way.tcp();
    let mut psql = site.tool("psql");
    let conninfo = format!("host={} port={} dbname=psql_replication replication=database", addr.host(), addr.port());
    psql.args(["-XAt", &conninfo, "-c", "IDENTIFY_SYSTEM", "-c", "SHOW server_version_num", "-c", "select 40 + 2"]);
    let printed = proc::run(&mut psql, SUITE);
    assert!(printed.contains("psql_replication") && printed.ends_with("42\n"), "{printed}");
    let mut psql = site.tool("psql");
    psql.args(["-XAt", "-c", "select 1", "-c", "\\c postgres", "-c", "select current_database()", "-c", "\\c - - - -"]);
    assert!(proc::run(&mut psql, SUITE).contains("postgres"));
}
