//! Sessions that have a server to themselves, and what it makes of each query.

use pgcanon::sql::{ClientEncoding, LexOptions};

use crate::common::raw::Frame;
use crate::common::{Client, Cluster, Pg, msg};

pub(crate) const ON: LexOptions = LexOptions { standard_conforming_strings: true, encoding: ClientEncoding::AsciiSafe };
pub(crate) const OFF: LexOptions =
    LexOptions { standard_conforming_strings: false, encoding: ClientEncoding::AsciiSafe };

/// The oldest server and one that scans numbers otherwise, as all do since 16.
pub(crate) const SERVERS: [Pg; 2] = [Pg::V15, Pg::V18];

/// The only session of its cluster: what it makes and drops is in nobody's way.
pub(crate) struct Session {
    client: Client,
    _cluster: Cluster,
}

/// The answers to one simple query.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) tags: Vec<String>,
    /// The first column of each row.
    pub(crate) rows: Vec<Option<String>>,
    pub(crate) empty: usize,
    pub(crate) error: Option<Frame>,
}

impl Session {
    pub(crate) fn start(pg: Pg) -> Session {
        let cluster = Cluster::start(pg, "max_prepared_transactions = 2", "");
        Session { client: Client::login(&cluster.unix()), _cluster: cluster }
    }

    /// Sets the server to these options and gives it an empty schema.
    pub(crate) fn settings(&mut self, opts: LexOptions, encoding: &str) {
        let conforming = if opts.standard_conforming_strings { "on" } else { "off" };
        self.must(&format!(
            "set standard_conforming_strings = {conforming}; set backslash_quote = on; \
             set escape_string_warning = off; set client_min_messages = error; set client_encoding = {encoding}"
        ));
        self.must("drop schema if exists s cascade; create schema s; set search_path = s; create table t (a int)");
    }

    pub(crate) fn query(&mut self, sql: &[u8]) -> Answer {
        self.client.send(&msg::query(sql));
        let mut answer = Answer::default();
        for frame in self.client.until_ready() {
            match frame.tag {
                b'C' => answer.tags.push(frame.command()),
                b'D' => answer.rows.push(frame.columns().into_iter().next().flatten()),
                b'I' => answer.empty += 1,
                b'E' => answer.error = Some(frame),
                _ => {}
            }
        }
        answer
    }

    pub(crate) fn must(&mut self, sql: &str) -> Answer {
        let answer = self.query(sql.as_bytes());
        assert_eq!(answer.error, None, "{sql}");
        answer
    }

    /// Back to an idle session without statements and cursors.
    pub(crate) fn reset(&mut self) {
        self.query(b"rollback");
        self.must("deallocate all");
        self.must("close all");
    }
}
