//! A replication connection is an opaque pipe: walsender commands pass, and so does what they stream.

use crate::common::msg::{copy_done, parse, query, sync};
use crate::common::oracle::{same, states, tags};

#[test]
fn commands_on_a_database_connection() {
    same(|c| {
        c.mask(|frame| {
            // IDENTIFY_SYSTEM tells the position in the WAL, which other tests move
            if frame.tag == b'D' && frame.columns().len() == 4 {
                frame.body.truncate(2 + 4 + 19);
            }
        });
        c.login_with(&[("replication", "database")]);
        assert_eq!(tags(&c.query("IDENTIFY_SYSTEM")), "TDCZ");
        c.query("SHOW wal_level");
        c.query("select 1"); // SQL is allowed here
        c.query("select 1; select 2");
        c.query("READ_REPLICATION_SLOT nowhere");
        c.query("CREATE_REPLICATION_SLOT oracle_db PHYSICAL");
        c.query("DROP_REPLICATION_SLOT oracle_db");
        assert_eq!(states(&c.query("CREATE_REPLICATION_SLOT oracle_l LOGICAL test_decoding")), ["55000"]); // wal_level
        c.query("nonsense (");
        c.send(&sync());
        c.ready();
        c.pipeline(&[parse("", "select 1", &[]), sync()]); // no extended protocol here
        assert_eq!(states(&c.ready()), ["08P01"]);
    });
}

#[test]
fn physical_replication_streams_and_ends() {
    same(|c| {
        c.mask(|frame| {
            if frame.tag == b'D' && frame.columns().len() == 4 {
                frame.body.truncate(2 + 4 + 19);
            }
        });
        c.startup(&[("user", "postgres"), ("replication", "true")]);
        c.ready();
        c.query("IDENTIFY_SYSTEM");
        c.query("select 1"); // no SQL without a database
        c.query("TIMELINE_HISTORY 1");
        c.query("CREATE_REPLICATION_SLOT oracle_phys TEMPORARY PHYSICAL RESERVE_WAL");
        // from the far future: nothing is streamed, but the stream begins
        c.query("START_REPLICATION 0/1000000 TIMELINE 99");
    });
    same(|c| {
        c.startup(&[("user", "postgres"), ("replication", "true")]);
        c.ready();
        c.send(&query("START_REPLICATION SLOT nowhere PHYSICAL 0/0"));
        c.ready();
        c.send(&copy_done());
        c.query("SHOW server_version_num");
    });
}
