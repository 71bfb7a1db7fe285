//! Peers and their queues, as an operator sees and steers them.

use super::common::eventually;
use super::site::Site;
use super::{psql, shown};

#[test]
fn every_peer_is_shown_with_how_far_behind_it_is() {
    let site = Site::new();
    site.client().ok("insert into t select i, 'v' || i from generate_series(1, 3) i");
    site.until("b", "live");
    site.until("c", "spilling");
    site.until_queued("c", "3");
    eventually("b to have everything", || {
        (site.peer("b", &["lag_ticks", "lag_seconds", "queue_rows", "transactions"]) == ["0", "0", "0", "1"])
            .then_some(())
    });
    assert_eq!(site.b.sql("select count(*) from t"), "3");
    let [since, tick, trouble] = &site.peer("b", &["since", "applied_tick", "trouble"])[..] else { panic!("columns") };
    assert!(since.ends_with("+00") && since.starts_with("20"), "{since}");
    assert!(tick.parse::<u32>().is_ok_and(|tick| tick > 0) && trouble.is_empty(), "{tick} {trouble}");
    let [tick, trouble, bytes] = &site.peer("c", &["applied_tick", "trouble", "queue_bytes"])[..] else {
        panic!("columns")
    };
    assert!(tick.is_empty() && trouble.contains("refused"), "{trouble}");
    assert!(bytes.parse::<u32>().is_ok_and(|bytes| bytes > 100), "{bytes}");
    let seconds = |column| site.peer("c", &[column])[0].parse::<f64>().unwrap_or_else(|e| panic!("{column}: {e}"));
    assert!(seconds("queue_seconds") > 0.0 && seconds("lag_seconds") > 0.0);
    let queue = shown(&site.proxy, "show queue");
    let lines: Vec<&str> = queue.lines().collect();
    assert_eq!((lines[0], lines[1]), ("peer|rows|bytes|oldest", "b|0|0|"));
    assert!(lines[2].starts_with("c|3|") && lines[2].ends_with("+00"), "{queue}");
    let status = shown(&site.proxy, "show status");
    let row = status.lines().nth(1).expect("a row");
    assert!(row.starts_with(concat!("a|", env!("CARGO_PKG_VERSION"), "|t|")) && row.ends_with("|0"), "{status}");
}

#[test]
fn the_queue_can_be_read_as_a_table_and_nothing_else_can() {
    let site = Site::peers(&["c"], "");
    site.client().ok("insert into t select * from (values (1, 'it''s'), (2, 'ä')) as v");
    site.until_queued("c", "2");
    assert_eq!(site.value("select count(*) from sync_err_rec where dst_server = 'c'"), "2");
    let query =
        "select nsp_name, table_name, dst_server, dst_query, attempts from sync_err_rec order by id desc limit 1";
    assert_eq!(site.value(query), "public|t|c|INSERT INTO public.t (id, v) VALUES (2, 'ä');|0");
    assert_eq!(site.value("select id > 0, now() >= create_time from pgcanon.sync_err_rec limit 1"), "t|t");
    assert_eq!(site.value("select 1 + 1"), "2");
    let wrong = site.fails("select nothing from sync_err_rec");
    assert!(wrong.contains("ERROR:  42703: column \"nothing\" does not exist") && wrong.contains("LINE 1:"), "{wrong}");
    for sql in ["select * from meta", "select value from pgcanon.meta, sync_err_rec", "select * from pg_authid"] {
        assert!(site.fails(sql).contains("42601: the console reads sync_err_rec, and no"), "{sql}");
    }
    assert!(site.fails("select pg_sleep(1) from sync_err_rec").contains("42601"));
    assert!(site.fails("select * from sync_err_rec for update").contains("25006"), "the transaction is read-only");
    let all = shown(&site.proxy, "select * from sync_err_rec; show version; select count(*) from sync_err_rec");
    assert_eq!(all.lines().count(), 7, "three answers to three statements: {all}");
}

#[test]
fn a_queue_that_takes_long_to_count_is_counted_nevertheless() {
    let mut site = Site::peers(&["c"], "");
    site.until_queued("c", "0");
    let slow = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
        and query like 'SELECT count(*), COALESCE(sum(%' and now() - query_start > interval '200 ms'";
    for (id, then_paused) in [("1", false), ("2", true)] {
        let mut holder = site.node.direct();
        holder.ok("begin; lock table pgcanon.error_queue in access exclusive mode");
        site.restart();
        eventually("the count to take long", || (site.node.sql(slow) != "0").then_some(()));
        holder.ok("commit");
        site.client().ok(&format!("insert into t values ({id}, 'x')"));
        let queued = "select count(*) from pgcanon.error_queue";
        eventually("the row in the queue", || (site.node.sql(queued) == id).then_some(()));
        if then_paused {
            shown(&site.proxy, "pause c");
        }
        site.until_queued("c", id);
    }
}

#[test]
fn a_paused_peer_gets_nothing_until_it_is_resumed() {
    let site = Site::peers(&["b"], "");
    site.client().ok("insert into t values (1, 'x')");
    eventually("the first row on b", || (site.b.sql("select count(*) from t") == "1").then_some(()));
    assert_eq!(shown(&site.proxy, "pause b"), "PAUSE\n");
    site.until("b", "paused");
    site.client().ok("insert into t values (2, 'x')");
    eventually("b to be behind", || {
        site.peer("b", &["lag_ticks"])[0].parse::<u32>().is_ok_and(|lag| lag > 0).then_some(())
    });
    assert!(site.fails("pause B2").contains("HINT:  The peers are b."));
    assert!(site.fails("resume").contains("42601: the name of a peer is missing"));
    assert_eq!(site.b.sql("select count(*) from t"), "1");
    assert_eq!(shown(&site.proxy, "resume \"b\";"), "RESUME\n");
    site.until("b", "live");
    eventually("the row on b", || (site.b.sql("select count(*) from t") == "2").then_some(()));
}

/// A site whose peer has a row in the way of the first of three.
fn stalled() -> Site {
    let site = Site::peers(&["b"], "");
    site.until("b", "live");
    site.b.sql("insert into t values (1, 'in the way')");
    for id in 1..=3 {
        site.client().ok(&format!("insert into t values ({id}, 'new')"));
    }
    site.until("b", "stalled");
    site.until_queued("b", "3");
    site
}

#[test]
fn what_is_in_the_way_is_named_and_another_text_takes_its_place() {
    let site = stalled();
    let attempts = "select attempts from sync_err_rec where sqlstate is not null";
    // The queue is left to the operator from the first trial on.
    site.fails("select try_sync_err_rec(10)");
    let before = site.value(attempts);
    let told = site.fails("select try_sync_err_rec(10)");
    assert!(told.contains("ERROR:  F0000: peer b: number ") && told.contains("duplicate key"), "{told}");
    assert_eq!(site.value(attempts), before, "a trial is no attempt");
    let told = site.fails("select deal_sync_err_rec(10)");
    assert!(told.contains("ERROR:  F0000: peer b: number ") && told.contains("duplicate key"), "{told}");
    let first = site.value("select min(id) from sync_err_rec");
    assert_eq!(
        site.value("select id, sqlstate, attempts > 0 from sync_err_rec where sqlstate is not null"),
        format!("{first}|23505|t")
    );
    assert!(site.fails(&format!("select edit_sync_err_rec({first}, 'commit')")).contains("42601"));
    assert_eq!(site.value("select edit_sync_err_rec(999999, 'select 1')"), "f");
    let edit =
        format!("select edit_sync_err_rec({first}, $$update public.t set v = 'mended' where id = 1 -- by hand$$)");
    assert_eq!(site.value(&edit), "t");
    let text = site.value("select dst_query, sqlstate from sync_err_rec limit 1");
    assert!(text.starts_with("update public.t set v = 'mended'"), "{text}");
    for _ in 0..2 {
        assert_eq!(site.value("select try_sync_err_rec(1000)"), "3", "nothing of a trial stays");
        assert_eq!(site.b.sql("select string_agg(id || v, ' ' order by id) from t"), "1in the way");
    }
    assert_eq!(shown(&site.proxy, "select * from deal_sync_err_rec(1)"), "deal_sync_err_rec\n1\n");
    assert_eq!(site.b.sql("select v from t where id = 1"), "mended");
    assert_eq!(site.value("select count(*) from sync_err_rec"), "2", "no more than was asked for");
    assert_eq!(site.value("select deal_sync_err_rec(1000)"), "2");
    site.until("b", "live");
    assert_eq!(site.b.sql("select string_agg(id || v, ' ' order by id) from t"), "1mended 2new 3new");
}

#[test]
fn what_is_skipped_is_on_record_and_the_rest_goes_on() {
    let site = stalled();
    let first = site.value("select min(id) from sync_err_rec");
    assert_eq!(site.value(&format!("select skip_sync_err_rec({first})")), "t");
    assert_eq!(site.value(&format!("select skip_sync_err_rec({first})")), "f");
    // Nobody has to ask for the rest.
    site.until("b", "live");
    assert_eq!(site.b.sql("select string_agg(id || v, ' ' order by id) from t"), "1in the way 2new 3new");
    let record = shown(&site.proxy, "show conflicts");
    let row = record.lines().nth(1).expect("a record");
    assert!(
        row.contains("|a|public.t|") && row.contains("|skipped|") && row.contains("\"by\": \"postgres\""),
        "{record}"
    );
}

#[test]
fn numbers_that_are_none_are_refused() {
    let site = Site::peers(&["c"], "");
    for (sql, code) in [
        ("select deal_sync_err_rec()", "42601"),
        ("select deal_sync_err_rec(0)", "22023"),
        ("select deal_sync_err_rec(-1)", "22023"),
        ("select deal_sync_err_rec('many')", "22P02"),
        ("select deal_sync_err_rec($1)", "42P02"),
    ] {
        assert!(site.fails(sql).contains(&format!("ERROR:  {code}: ")), "{sql}");
    }
    assert_eq!(site.value("select deal_sync_err_rec(5)"), "0", "nothing waits");
    assert_eq!(site.value("select deal_sync_err_rec(null)"), "");
    // What was done before an error is told.
    let output = psql(&site.proxy, "select deal_sync_err_rec(5); pause nobody");
    assert!(String::from_utf8_lossy(&output.stdout).contains("deal_sync_err_rec\n0\n"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no peer \"nobody\""));
}

#[test]
fn what_cannot_be_reached_cannot_be_dealt_with() {
    let site = Site::peers(&["c"], "");
    site.client().ok("insert into t values (1, 'x')");
    site.until_queued("c", "1");
    let told = site.fails("select deal_sync_err_rec(10)");
    assert!(told.contains("peer c: ") && told.contains("refused"), "{told}");
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let site = Site::peers(&["b"], "[[console_user]]\nname = \"op\"\npassword = \"hunter3\"\n");
    let mut psql = site.psql_at(&site.proxy.socket_dir().display().to_string());
    psql.args(["-At", "-c", "show config"]);
    let shown = super::common::proc::run(&mut psql, super::common::PATIENCE);
    assert!(shown.contains("node.name|a|\n") && shown.contains("console_user.op.may|look|\n"), "{shown}");
    assert!(shown.contains("peer.b.connect|host=127.0.0.1 ") && shown.contains("password=***"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}
