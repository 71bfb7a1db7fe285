//! `pgcanon status` and `pgcanon queue`, which ask the console.

use std::process::Output;

use super::common::eventually;
use super::site::Site;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What was printed by a run that must have ended well.
fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn status_tells_people_and_scripts_and_fails_where_a_peer_is_not_live() {
    let site = Site::new();
    site.client().ok("insert into t values (1, 'x')");
    site.until_queued("c", "1");
    site.until("b", "live");
    let output = site.run(&["status"]);
    assert_eq!(output.status.code(), Some(1), "c is not live");
    let shown = text(&output.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with(concat!("node a, pgcanon ", env!("CARGO_PKG_VERSION"), ", tick ")), "{shown}");
    assert!(lines[2].starts_with("peer  state     lag") && lines[3].starts_with("b     live      "), "{shown}");
    assert!(lines[4].starts_with("c     spilling") && lines[4].contains("1 rows, "), "{shown}");
    assert!(!shown.contains('\x1b'), "colours are for terminals");
    let output = site.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let status = json(&text(&output.stdout));
    assert_eq!((&status["node"], &status["peers"][1]["state"]), (&"a".into(), &"spilling".into()));
    assert_eq!(status["peers"][1]["queue_rows"], 1);
}

#[test]
fn status_is_well_where_all_peers_are_live_and_says_where_it_cannot_ask() {
    let site = Site::peers(&["b"], "[[console_user]]\nname = \"eyes\"\npassword = \"seeing\"\n");
    eventually("status to be well", || site.run(&["status"]).status.success().then_some(()));
    site.proxy.signal(rustix::process::Signal::TERM);
    // The port stands in its log.
    let port = site.proxy.console_port();
    site.proxy.wait_exit();
    let output = site.run(&["status"]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains(&format!("cannot reach the console of node a at 127.0.0.1:{port}")), "{told}");
}

#[test]
fn the_queue_is_listed_edited_skipped_and_exported() {
    let site = Site::peers(&["c"], "");
    let mut client = site.client();
    client.ok("begin; insert into t values (1, 'it''s'); insert into t select 2, 'two\nlines'; commit");
    client.ok("insert into t values (3, 'x')");
    site.until_queued("c", "3");

    let listed = printed(site.run(&["queue", "list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("id  peer  table     query"), "{listed}");
    assert!(lines[1].contains("c     public.t  insert into public.t values (1, 'it''s');"), "{listed}");
    assert!(lines[4] == "3 of 3 rows", "{listed}");
    assert_eq!(printed(site.run(&["queue", "list", "--peer", "b"])).lines().last(), Some("0 of 0 rows"));
    let objects = printed(site.run(&["queue", "list", "--json"]));
    let rows: Vec<serde_json::Value> = objects.lines().map(json).collect();
    assert_eq!((rows.len(), &rows[2]["dst_query"]), (3, &"insert into public.t values (3, 'x');".into()));
    let id = |row: usize| rows[row]["id"].to_string();

    assert_eq!(
        printed(site.run(&["queue", "edit", &id(2), "--sql", "insert into public.t values (3, 'mine')"])),
        format!("{} edited\n", id(2))
    );
    let output = site.run(&["queue", "edit", &id(2), "--sql", "commit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("\"commit\" cannot be run in a row's place"));

    let script = printed(site.run(&["queue", "export", "c"]));
    let wanted = [
        "BEGIN; -- tick ",
        "insert into public.t values (1, 'it''s');",
        "two\nlines",
        "COMMIT;",
        "BEGIN; -- tick ",
        "'mine');",
        "COMMIT;",
    ];
    let mut rest = script.as_str();
    for part in wanted {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} in its place in\n{script}")).1;
    }
    site.b.sql(&script);
    assert_eq!(site.b.sql("select string_agg(v, ',' order by id) from t"), "it's,two\nlines,mine");

    let (one, none) = (id(0), "999999");
    let output = site.run(&["queue", "skip", &one, none]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), format!("{one} skipped\n")));
    assert!(text(&output.stderr).contains("there is no row 999999"));
    let output = site.run(&["queue", "deal", "10"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("peer c: "), "{}", text(&output.stderr));
}

#[test]
fn deal_tells_how_many() {
    let site = Site::peers(&["b"], "");
    assert_eq!(printed(site.run(&["queue", "deal", "10", "--json"])), "{\"applied\":0}\n");
    assert_eq!(site.run(&["queue", "deal", "0"]).status.code(), Some(2));
}
