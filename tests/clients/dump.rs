//! Copying whole databases and clusters through the proxy: pg_dump, pg_restore, pg_basebackup, pg_recvlogical.

use std::process::Stdio;
use std::sync::Arc;

use crate::common::cluster::PG15_BIN;
use crate::common::oracle::Way;
use crate::common::{Cluster, Pg, proc, temp_dir};
use crate::{SUITE, Site};

const SCHEMA: &str = "
    create type mood as enum ('sad', 'happy');
    create table people (id int generated always as identity primary key, name text, mood mood, data bytea, tags text[], doc jsonb);
    insert into people (name, mood, data, tags, doc)
        select 'N\u{00e4}me ' || g || E'\\t\\\\', (array['sad', 'happy', null])[1 + g % 3]::mood, decode(md5(g::text), 'hex'),
               array[g::text, null, 'x'], jsonb_build_object('g', g) from generate_series(1, 20000) g;
    create view happy as select * from people where mood = 'happy';
    create function double(int) returns int language sql as 'select $1 * 2';
    create index on people (name);
    select lo_from_bytea(4711, convert_to(repeat('large ', 100000), 'UTF8'));";

const CHECKSUM: &str = "select md5(string_agg(p::text, ',' order by id)) from people p
    union all select md5(lo_get(4711)) union all select count(*)::text from happy union all select double(21)::text";

#[test]
fn pg_dump_into_psql() {
    // pg_dump of 15 takes no newer server
    let (from, to) = (Site::new(Pg::V15, "dump_from"), Site::new(Pg::V15, "dump_to"));
    from.sql(SCHEMA);
    let mut dump = from.tool("pg_dump").stdout(Stdio::piped()).spawn().expect("start pg_dump");
    let mut psql = to.tool("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"]).stdin(dump.stdout.take().expect("a pipe"));
    assert!(psql.status().expect("run psql").success());
    assert!(dump.wait().expect("pg_dump ends").success());
    assert_eq!(from.sql(CHECKSUM), to.sql(CHECKSUM));
}

#[test]
fn pg_dump_in_parallel_and_pg_restore() {
    let (from, to) = (Site::new(Pg::V15, "restore_from"), Site::new(Pg::V15, "restore_to"));
    from.sql(SCHEMA);
    let dir = temp_dir("dump");
    let path = dir.path().join("dump").display().to_string();
    proc::run(from.tool("pg_dump").args(["-Fd", "-j", "3", "--inserts", "--rows-per-insert=500", "-f", &path]), SUITE);
    proc::run(to.tool("pg_restore").args(["-j", "2", "-d", "restore_to", &path]), SUITE);
    assert_eq!(from.sql(CHECKSUM), to.sql(CHECKSUM));
}

#[test]
fn pg_basebackup_with_its_wal() {
    let site = Site::new(Pg::V15, "basebackup");
    site.sql("create table t as select generate_series(1, 10000) a");
    let dir = temp_dir("backup");
    for (name, how) in [("plain", ["-Fp", "-Xstream"]), ("tar", ["-Ft", "-Xfetch"])] {
        let path = dir.path().join(name).display().to_string();
        proc::run(site.tool("pg_basebackup").args(how).args(["-c", "fast", "-D", &path]), SUITE);
        if name == "plain" {
            proc::run(site.tool("pg_verifybackup").arg(&path), SUITE);
        }
    }
}

#[test]
fn pg_recvlogical_streams_changes() {
    let way = Way::to(Arc::new(Cluster::start(Pg::V15, "wal_level = logical", "")));
    let receive = |args: &[&str]| {
        let addr = way.tcp();
        let mut command = std::process::Command::new(format!("{PG15_BIN}/pg_recvlogical"));
        command.args([
            "-h",
            &addr.host(),
            "-p",
            &addr.port().to_string(),
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-S",
            "s",
        ]);
        proc::run(command.args(args), SUITE)
    };
    receive(&["--create-slot", "-P", "test_decoding"]);
    way.cluster.psql("create table t (a int); insert into t select generate_series(1, 5000)");
    let end = way.cluster.psql("select pg_current_wal_insert_lsn()");
    let changes = receive(&["--start", "--endpos", &end, "--no-loop", "-f", "-"]);
    assert_eq!(changes.lines().filter(|line| line.starts_with("table public.t: INSERT")).count(), 5000);
    receive(&["--drop-slot"]);
}
