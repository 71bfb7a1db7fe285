//! From the journal into the queue, tick by tick, in the transaction that says how far that is (§6.1).

use std::time::Duration;

use tokio::time::Instant;

use crate::apply::{Route, renamed_for};
use crate::config::TableName;
use crate::journal::entry::{Head, Lane, Op, Text};
use crate::journal::{Entry, Image, Item, Reader, Rendered, Renderer, TickId, Xid, encode_entry};

use super::course::next;
use super::store::{Piece, Place, Store, WHOLE};
use super::{ForwardError, alarm};

/// Pieces that are written together, and bytes of them.
const BATCH: (usize, usize) = (500, 1 << 20);

/// How long ticks are moved before somebody looks after the peer again.
const STINT: Duration = Duration::from_millis(200);

pub(super) struct Spiller {
    reader: Reader,
    renderer: Renderer,
    route: Route,
}

/// Pieces on their way into the queue.
#[derive(Default)]
struct Batch {
    pieces: Vec<Piece>,
    bytes: usize,
}

impl Spiller {
    pub(super) fn new(reader: Reader, renderer: Renderer, route: Route) -> Self {
        Self { reader, renderer, route }
    }

    /// Other rules, from the next tick on.
    pub(super) fn set_route(&mut self, route: Route) {
        self.route = route;
    }

    /// Moves what is behind a place, up to the end of a tick, as long as there is time; how far it has come.
    pub(super) async fn run_to(&mut self, at: Place, latest: TickId, store: &Store) -> Result<Place, ForwardError> {
        let mut reached = at;
        let (mut tick, mut after) = next(at);
        let until = Instant::now() + STINT;
        while tick <= latest && (reached == at || Instant::now() < until) {
            store.begin().await?;
            if let Err(e) = self.tick(tick, after, store).await {
                self.reader.close().await?;
                store.rollback().await?;
                return Err(e);
            }
            reached = (tick, WHOLE);
            store.reach(reached).await?;
            store.commit().await?;
            (tick, after) = (TickId(tick.0.saturating_add(1)), 0);
        }
        Ok(reached)
    }

    async fn tick(&mut self, tick: TickId, after: i32, store: &Store) -> Result<(), ForwardError> {
        self.reader.open(tick, after).await?;
        let mut batch = Batch::default();
        let (mut place, mut of, mut seq, mut nr) = ((tick, after), Xid(0), 0, 0);
        while let Some(item) = self.reader.next().await? {
            match item {
                Item::TxBegin { ord, xid, .. } => (place, of, seq, nr) = ((tick, ord), xid, 0, 0),
                Item::Entry(entry) => {
                    let Some(to) = self.route.of(&entry.head.schema, &entry.head.table) else { continue };
                    let pieces = match self.ddl(&entry, &to.table).await? {
                        Some(query) => vec![(Entry::clone(&entry), query)],
                        None => self.pieces(&entry, &to.table).await?,
                    };
                    for (one, query) in pieces {
                        let mut encoded = Vec::new();
                        encode_entry(&mut encoded, &one.head, &one.body)?;
                        batch.bytes = batch.bytes.saturating_add(encoded.len()).saturating_add(query.len());
                        let (schema, table) = (one.head.schema, one.head.table);
                        batch.pieces.push(Piece { place, xid: of, seq, nr, schema, table, query, entry: encoded });
                        seq = seq.saturating_add(1);
                        if batch.pieces.len() >= BATCH.0 || batch.bytes >= BATCH.1 {
                            store.append(&std::mem::take(&mut batch).pieces).await?;
                        }
                    }
                    nr = nr.saturating_add(1);
                }
                Item::Forged { xid, lsn, why } => alarm(xid, lsn, &why),
                Item::TxEnd => {}
            }
        }
        if !batch.pieces.is_empty() {
            store.append(&batch.pieces).await?;
        }
        Ok(())
    }

    /// The SQL of DDL on the peer, which may name many tables.
    async fn ddl(&mut self, entry: &Entry, table: &TableName) -> Result<Option<String>, ForwardError> {
        let Some(text) = entry.head.text.as_ref().filter(|_| entry.head.op == Op::Ddl) else { return Ok(None) };
        let Some(sql) = renamed_for(&mut self.route, &entry.head, text) else { return Ok(None) };
        let text = Text { sql, names: Vec::new(), ..text.clone() };
        let shown = Entry { head: Head { text: Some(text), ..entry.head.clone() }, body: entry.body.clone() };
        Ok(Some(joined(&self.render(&shown, table).await?)))
    }

    /// What an entry consists of, each with its SQL on the peer.
    async fn pieces(&mut self, entry: &Entry, table: &TableName) -> Result<Vec<(Entry, String)>, ForwardError> {
        let pieces = split(entry)?;
        let all = self.render(entry, table).await?;
        if let [only] = pieces.as_slice() {
            return Ok(vec![(only.clone(), joined(&all))]);
        }
        if all.len() == pieces.len() {
            return Ok(pieces
                .into_iter()
                .zip(&all)
                .map(|(piece, one)| (piece, joined(std::slice::from_ref(one))))
                .collect());
        }
        let mut out = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let query = joined(&self.render(&piece, table).await?);
            out.push((piece, query));
        }
        Ok(out)
    }

    async fn render(&mut self, entry: &Entry, table: &TableName) -> Result<Vec<Rendered>, ForwardError> {
        let mut all = Vec::new();
        self.renderer
            .render(entry, Some(table), |one| {
                all.push(one);
                Ok::<_, ForwardError>(())
            })
            .await?;
        Ok(all)
    }
}

/// One entry for each row, where rows are what travels.
fn split(entry: &Entry) -> Result<Vec<Entry>, ForwardError> {
    let (lane, text) = entry.travels();
    if lane != Lane::Row || text.is_some() {
        return Ok(vec![entry.clone()]);
    }
    let head = Head { lane: Lane::Row, text: None, rows: Some(1), ..entry.head.clone() };
    let mut pieces = Vec::new();
    let mut rest: &[u8] = &entry.body;
    while !rest.is_empty() {
        let start = entry.body.len().saturating_sub(rest.len());
        Image::read(&mut rest)?;
        let end = entry.body.len().saturating_sub(rest.len());
        pieces.push(Entry { head: head.clone(), body: entry.body.slice(start..end) });
    }
    Ok(pieces)
}

/// The SQL of an entry: notes as comments, statements a line each.
fn joined(all: &[Rendered]) -> String {
    let lines = all.iter().flat_map(|one| {
        let notes = one.notes.iter().map(|note| format!("-- {note}"));
        notes.chain((!one.sql.is_empty()).then(|| one.sql.clone()))
    });
    lines.collect::<Vec<_>>().join("\n")
}
