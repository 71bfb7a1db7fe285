//! Reads `MERGE`.

use super::cursor::Cursor;
use super::word::Word;
use super::{Merge, insert, returning, update};

/// `MERGE INTO target [AS alias] USING … ON … WHEN … THEN … [RETURNING …]`
pub(super) fn merge(mut c: Cursor<'_>) -> Option<Merge> {
    c.take(Word::Merge);
    if !c.take(Word::Into) {
        return None;
    }
    let target = update::aliased_target(&mut c)?;
    if !c.take(Word::Using) {
        return None;
    }
    c.until(&[Word::When, Word::Returning], false);
    let mut merge = Merge { target, assigns: Vec::new(), inserts: false, deletes: false, returning: None };
    if !c.is(Word::When) {
        return None;
    }
    while c.take(Word::When) {
        c.until(&[Word::Then], false);
        if !c.take(Word::Then) {
            return None;
        }
        action(&mut c, &mut merge)?;
    }
    merge.returning = returning::read(&mut c, &merge.target, true)?;
    Some(merge)
}

fn action(c: &mut Cursor<'_>, merge: &mut Merge) -> Option<()> {
    let stops = [Word::When, Word::Returning];
    match c.next()?.word {
        Word::Do => c.take(Word::Nothing).then_some(())?,
        Word::Delete => merge.deletes = true,
        Word::Update => {
            c.take(Word::Set).then_some(())?;
            for assign in update::assignments(c, &stops)? {
                if !merge.assigns.contains(&assign.column) {
                    merge.assigns.push(assign.column);
                }
            }
        }
        Word::Insert => {
            merge.inserts = true;
            if c.is_char(b'(') {
                c.group()?;
            }
            insert::overriding(c)?;
            c.until(&stops, false);
        }
        _ => return None,
    }
    (c.is_over() || c.is(Word::When) || c.is(Word::Returning)).then_some(())
}
