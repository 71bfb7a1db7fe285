//! What an operator can tell a forwarder to do.

use tokio::sync::{mpsc, oneshot};

/// One wish, and where the answer goes: a number where there is one, or why it was not done.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) wish: Wish,
    pub(super) answer: oneshot::Sender<Result<u64, String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Apply so many pieces of the queue, in order, all or nothing; answered with how many there were.
    Deal(i64),
    /// As [`Deal`](Self::Deal), but nothing of it stays.
    Try(i64),
    /// Leave the peer alone until [`Resume`](Self::Resume): what is for it waits in the journal.
    Pause,
    Resume,
}

/// Reaches one forwarder.
#[derive(Clone, Debug)]
pub struct Remote(pub(super) mpsc::Sender<Command>);

impl Remote {
    /// Waits for the answer.
    pub async fn tell(&self, wish: Wish) -> Result<u64, String> {
        let (answer, answered) = oneshot::channel();
        let gone = || "the forwarder has ended".to_owned();
        self.0.send(Command { wish, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
