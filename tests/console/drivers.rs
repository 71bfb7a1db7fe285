//! Drivers of other languages on the console, with parameters and in binary; each script ends with "all passed".

use std::process::Command;

use super::common::{PATIENCE, cache, proc, tests_dir};
use super::site::Site;

fn passes(script: &str) {
    let site = Site::peers(&["c"], "");
    site.client().ok("insert into t select * from (values (1, 'it''s'), (2, 'ä'), (3, null)) as v");
    site.until_queued("c", "3");
    let mut python = Command::new(cache("venv/bin/python"));
    python.arg(tests_dir().join("console").join(script)).env("PORT", site.proxy.console_port().to_string());
    let printed = proc::run(&mut python, PATIENCE);
    assert!(printed.contains("all passed"), "{printed}");
    assert_eq!(site.value("select count(*) from sync_err_rec"), "2", "the driver skipped one");
}

#[test]
fn psycopg() {
    passes("psycopg_console.py");
}

#[test]
fn asyncpg() {
    passes("asyncpg_console.py");
}
