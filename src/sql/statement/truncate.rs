//! Reads `TRUNCATE`.

use super::cursor::Cursor;
use super::word::Word;
use super::{Truncate, update};

/// `TRUNCATE [TABLE] target, … [RESTART IDENTITY | CONTINUE IDENTITY] [CASCADE | RESTRICT]`
pub(super) fn truncate(mut c: Cursor<'_>) -> Option<Truncate> {
    c.take(Word::Truncate);
    c.take(Word::Table);
    let mut targets = Vec::with_capacity(2);
    loop {
        targets.push(update::target(&mut c)?);
        if !c.take_char(b',') {
            break;
        }
    }
    let restart_identity = c.take(Word::Restart);
    if (restart_identity || c.take(Word::Continue)) && !c.take(Word::Identity) {
        return None;
    }
    let cascade = c.take(Word::Cascade);
    let _ = cascade || c.take(Word::Restrict);
    c.is_over().then_some(Truncate { targets, restart_identity, cascade })
}
