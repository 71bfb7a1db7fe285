//! `pgcanon check --sql`: how an application's statements will travel, told before it runs.

#[path = "../common/mod.rs"]
mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{Cluster, PATIENCE, Pg, proc, proxy, temp_dir};

const TABLES: &str = "
    create schema app;
    create table app.account (id int primary key, name text, balance numeric not null default 0);
    create table app.event (id bigint generated always as identity primary key, at timestamptz default now(), what text);
    create table app.log (line text);
    create table app.local (id int primary key, n int);
    create view app.rich as select * from app.account where balance > 1000;
";

const RULES: &str = "
    [[table]]
    name = \"app.local\"
    unreplicable = \"warn\"
    [[table]]
    name = \"app.*\"
";

/// A directory with a configuration for a database of the shared cluster that has the tables.
fn site(pg: Pg, database: &str) -> (tempfile::TempDir, std::sync::Arc<Cluster>) {
    let cluster = Cluster::shared(pg);
    cluster.psql(&format!("create database {database}"));
    let mut psql = proxy::psql(&cluster.socket_dir().display().to_string(), cluster.port());
    psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", TABLES]);
    proc::run(&mut psql, PATIENCE);
    let dir = temp_dir("classify");
    let node = format!(
        "[node]\nname = \"a\"\nserver = \"host={} port={}\"\ncontrol = \"user=postgres dbname={database}\"\n{RULES}",
        cluster.socket_dir().display(),
        cluster.port()
    );
    std::fs::write(dir.path().join("pgcanon.toml"), node).expect("write the configuration");
    (dir, cluster)
}

fn check(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgcanon"));
    command.arg("check").arg("--config").arg(dir.join("pgcanon.toml"));
    command
}

fn check_sql(dir: &Path, sql: &str, more: &[&str]) -> Output {
    let script = dir.join("script.sql");
    std::fs::write(&script, sql).expect("write the script");
    proc::output(check(dir).arg("--sql").arg(script).args(more), PATIENCE)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

/// The verdicts on a script, as JSON has them.
fn verdicts(dir: &Path, sql: &str) -> Vec<serde_json::Value> {
    let output = check_sql(dir, sql, &["--json"]);
    assert_eq!(text(output.stderr), "");
    text(output.stdout).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn each_statement_has_its_lane() {
    for (pg, database) in [(Pg::V15, "classify_lanes"), (Pg::V18, "classify_lanes")] {
        let (dir, _cluster) = site(pg, database);
        let expected = [
            ("select * from app.account", "relayed"),
            ("begin", "relayed"),
            ("update app.account set balance = balance + 5 where id = 1", "statement"),
            ("update app.account set balance = balance + :delta where id = :id", "statement"),
            ("insert into app.account (id, name) values (1, 'a')", "statement"),
            ("insert into app.event (what) values ('x')", "row"),
            ("insert into app.account select 1, 'x', 2", "row"),
            ("update app.account set name = 'x' where balance > 3", "row"),
            ("delete from app.account where id in (1, 2)", "statement"),
            ("truncate app.account", "statement"),
            ("insert into app.nowhere values (1)", "relayed"),
            ("create temp table x (a int)", "relayed"),
            ("copy app.account from stdin", "copy"),
        ];
        let script: String = expected.iter().map(|(sql, _)| format!("{sql};\n")).collect();
        let found: Vec<String> = verdicts(dir.path(), &script)
            .iter()
            .zip(expected)
            .map(|(v, (sql, _))| format!("{} {sql}: {}", v["line"], v["lane"].as_str().unwrap_or("none")))
            .collect();
        let lines = (1..).zip(expected).map(|(line, (sql, lane))| format!("{line} {sql}: {lane}")).collect::<Vec<_>>();
        assert_eq!(found, lines);
    }
}

#[test]
fn a_refusal_comes_with_its_hint_and_makes_it_fail() {
    let (dir, cluster) = site(Pg::V15, "classify_refused");
    let sql = "select 1;\n\\echo two\nupdate app.rich set name = 'x' where id = 1;\n";
    let output = check_sql(dir.path(), sql, &[]);
    let told = text(output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("  line  lane       statement"), "{told}");
    assert!(lines[1].starts_with("     1  relayed    select ?  "), "{told}");
    assert!(lines[2].starts_with("     3  refused    update app.rich set name = ? where id = ?  "), "{told}");
    assert!(lines.iter().any(|line| line.contains("HINT: ")), "{told}");
    assert_eq!(lines.last(), Some(&"2 statements: 1 refused, 1 relayed"));
    assert_eq!(cluster.psql("select count(*) from pg_stat_activity where state = 'idle in transaction'"), "0");

    let refused = &verdicts(dir.path(), sql)[1];
    assert!(refused["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{refused}");
    let output = check_sql(dir.path(), "select 1", &[]);
    assert_eq!(output.status.code(), Some(0), "nothing refused");
}

#[test]
fn a_rule_that_lets_statements_run_here_alone_is_no_failure() {
    let (dir, _cluster) = site(Pg::V15, "classify_local");
    let output = check_sql(dir.path(), "explain analyze delete from app.local", &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(verdict["lane"], "local", "{verdict}");
}

#[test]
fn what_sql_prepares_is_judged_where_it_is_executed() {
    let (dir, _cluster) = site(Pg::V15, "classify_prepare");
    let sql = "prepare p as insert into app.account (id, name) values ($1, $2); execute p (1, 'x'); execute q;";
    let lanes: Vec<_> = verdicts(dir.path(), sql).iter().map(|v| v["lane"].clone()).collect();
    assert_eq!(lanes, ["relayed", "row", "relayed"]);
}

#[test]
fn names_are_those_of_the_control_roles_search_path() {
    let (dir, cluster) = site(Pg::V15, "classify_path");
    let sql = "update account set balance = 1 where id = 1";
    assert_eq!(verdicts(dir.path(), sql)[0]["lane"], "relayed", "no such table in public");
    cluster.psql("alter database classify_path set search_path = app, public");
    assert_eq!(verdicts(dir.path(), sql)[0]["lane"], "statement");
}

#[test]
fn a_dump_is_read_from_standard_input_and_nothing_of_it_is_executed() {
    let (dir, cluster) = site(Pg::V15, "classify_stdin");
    let dump = "SET client_encoding = 'UTF8';\nCOPY app.log (line) FROM stdin;\nit's; here\n\\.\ndrop table app.log;\n";
    let mut child = proc::spawn({
        let mut command = check(dir.path());
        command.args(["--sql", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    })
    .expect("start it");
    child.stdin.take().expect("a pipe").write_all(dump.as_bytes()).expect("write the dump");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(text(output.stdout).lines().count(), 3);
    let mut psql = proxy::psql(&cluster.socket_dir().display().to_string(), cluster.port());
    psql.args(["-At", "-d", "classify_stdin", "-c", "select count(*) from app.log"]);
    assert_eq!(proc::run(&mut psql, PATIENCE).trim(), "0");
}

#[test]
fn what_is_missing_is_said_with_exit_code_2() {
    let (dir, _cluster) = site(Pg::V15, "classify_missing");
    let output = proc::output(check(dir.path()).args(["--sql", "/nowhere.sql"]), PATIENCE);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(output.stderr).contains("cannot read /nowhere.sql"));
    let config = dir.path().join("pgcanon.toml");
    let all = std::fs::read_to_string(&config).expect("read the configuration");
    let without: String = all.lines().filter(|l| !l.starts_with("control")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&config, without).expect("write the configuration");
    let output = check_sql(dir.path(), "select 1", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(output.stderr).contains("set control in the [node] section"));
}
