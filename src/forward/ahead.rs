//! Reads the journal ahead of who applies it, tick by tick as they come, with a few megabytes in between (I7).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::journal::ticker::State as Ticks;
use crate::journal::{Item, ReadError, Reader, Tick, TickId};

use super::alarm;
use super::course::next;
use super::store::Place;

/// Bytes of entries that are read and not applied yet; one alone may be longer.
const BYTES: u32 = 8 << 20;
/// Things that are read ahead.
const MANY: usize = 4096;

/// What was read.
pub(super) enum Read {
    /// A tick begins.
    Tick(Box<Tick>),
    Item(Item),
    /// It is over.
    End(TickId),
}

type Sent = (u64, Result<Read, ReadError>, Option<OwnedSemaphorePermit>);

/// The reader at work.
pub(super) struct Ahead {
    items: mpsc::Receiver<Sent>,
    /// Where to go on reading, and how often that was told.
    from: watch::Sender<(u64, Place)>,
    task: JoinHandle<()>,
}

struct Task {
    reader: Reader,
    ticks: watch::Receiver<Ticks>,
    from: watch::Receiver<(u64, Place)>,
    items: mpsc::Sender<Sent>,
    room: Arc<Semaphore>,
}

/// Why reading stops where it is.
enum Stop {
    /// It goes on elsewhere.
    Moved,
    /// Nobody is there any more.
    Gone,
}

impl Ahead {
    pub(super) fn start(reader: Reader, ticks: watch::Receiver<Ticks>, from: Place) -> Self {
        let (items, received) = mpsc::channel(MANY);
        let (from, place) = watch::channel((0, from));
        let room = Arc::new(Semaphore::new(usize::try_from(BYTES).unwrap_or(usize::MAX)));
        let task = Task { reader, ticks, from: place, items, room };
        Self { items: received, from, task: tokio::spawn(task.run()) }
    }

    /// Forgets what was read, and goes on behind this place.
    pub(super) fn seek(&mut self, place: Place) {
        self.from.send_modify(|from| *from = (from.0.saturating_add(1), place));
    }

    /// Whether nothing was read that is not applied.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What comes next.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<(Read, Option<OwnedSemaphorePermit>), ReadError> {
        loop {
            let Some((from, read, room)) = self.items.recv().await else { return std::future::pending().await };
            if from == self.from.borrow().0 {
                return Ok((read?, room));
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Task {
    async fn run(mut self) {
        loop {
            let (turn, place) = *self.from.borrow_and_update();
            match self.read(turn, place).await {
                Ok(Stop::Gone) => return,
                Ok(Stop::Moved) => {}
                Err(error) => {
                    // Who applies decides what becomes of that.
                    let _ = self.items.send((turn, Err(error), None)).await;
                    if self.from.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn read(&mut self, turn: u64, place: Place) -> Result<Stop, ReadError> {
        self.reader.close().await?;
        let (mut id, mut after) = next(place);
        loop {
            tokio::select! {
                there = self.ticks.wait_for(|ticks| ticks.latest.is_some_and(|latest| latest >= id)) => {
                    if there.is_err() {
                        return Ok(Stop::Gone);
                    }
                }
                moved = self.from.changed() => return Ok(if moved.is_ok() { Stop::Moved } else { Stop::Gone }),
            }
            let tick = self.reader.open(id, after).await?;
            if let Some(stop) = self.send(turn, Read::Tick(Box::new(tick)), 0).await {
                return Ok(stop);
            }
            while let Some(item) = self.reader.next().await? {
                let bytes = match &item {
                    Item::Entry(entry) => entry.body.len(),
                    Item::Forged { xid, lsn, why } => {
                        alarm(*xid, *lsn, why);
                        0
                    }
                    _ => 0,
                };
                if let Some(stop) = self.send(turn, Read::Item(item), bytes).await {
                    return Ok(stop);
                }
            }
            if let Some(stop) = self.send(turn, Read::End(id), 0).await {
                return Ok(stop);
            }
            (id, after) = (TickId(id.0.saturating_add(1)), 0);
        }
    }

    async fn send(&mut self, turn: u64, read: Read, bytes: usize) -> Option<Stop> {
        let room = u32::try_from(bytes).unwrap_or(BYTES).min(BYTES);
        let sent = async {
            let permit = if room > 0 { self.room.clone().acquire_many_owned(room).await.ok() } else { None };
            self.items.send((turn, Ok(read), permit)).await
        };
        tokio::select! {
            sent = sent => sent.err().map(|_| Stop::Gone),
            moved = self.from.changed() => Some(if moved.is_ok() { Stop::Moved } else { Stop::Gone }),
        }
    }
}
