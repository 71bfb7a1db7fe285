//! Statements of ours that the session's server holds prepared: the capturing twins of the client's, and our own.
//!
//! They carry names of ours, so that the client's statements stay what the client made them; a client that looks into
//! `pg_prepared_statements` finds none, for they are closed before it looks (I6).

use std::collections::HashMap;
use std::rc::Rc;

/// Above this many the oldest is closed.
const KEPT: usize = 128;

type Key = (Rc<[u8]>, Box<[u32]>);

#[derive(Debug, Default)]
pub(super) struct Twins {
    by_text: HashMap<Key, Twin>,
    /// Counts the Syncs: up to each the server passes over what stands behind an error.
    batch: u64,
    /// Number of the next name, and clock of the uses.
    next: u64,
}

#[derive(Debug)]
struct Twin {
    name: TwinName,
    used: u64,
    /// In which batch it was sent, until the server has said that it is there.
    unsure: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TwinName(u64);

impl TwinName {
    pub(super) fn bytes(self) -> Vec<u8> {
        format!("pgcanon_{}", self.0).into_bytes()
    }
}

/// The twins of statements that the client has prepared by SQL, by its texts.
#[derive(Debug, Default)]
pub(super) struct SqlTwins {
    by_text: HashMap<Vec<u8>, SqlTwin>,
    /// Number of the next name, and clock of the uses.
    next: u64,
}

#[derive(Debug)]
struct SqlTwin {
    name: String,
    used: u64,
    /// The text that it was made with: another one when the table has changed.
    made: Option<Vec<u8>>,
}

/// What has to be sent before a twin can be used.
#[derive(Debug)]
pub(super) enum Need {
    Nothing,
    /// Parse it; close this older one, if any.
    Parse {
        close: Option<TwinName>,
    },
}

impl Twins {
    /// The twin with this text and these parameter types.
    pub(super) fn take(&mut self, sql: &[u8], types: &[u32]) -> (TwinName, Need) {
        self.next += 1;
        let now = self.next;
        // An Rc<[u8]> cannot be looked up by a slice within a tuple without making one; texts are short.
        let key: Key = (sql.into(), types.into());
        if let Some(twin) = self.by_text.get_mut(&key) {
            twin.used = now;
            if twin.unsure.is_none_or(|batch| batch == self.batch) {
                return (twin.name, Need::Nothing);
            }
            let old = std::mem::replace(&mut twin.name, TwinName(now));
            twin.unsure = Some(self.batch);
            return (twin.name, Need::Parse { close: Some(old) });
        }
        let close = if self.by_text.len() < KEPT { None } else { self.drop_oldest() };
        let name = TwinName(now);
        self.by_text.insert(key, Twin { name, used: now, unsure: Some(self.batch) });
        (name, Need::Parse { close })
    }

    fn drop_oldest(&mut self) -> Option<TwinName> {
        let key = self.by_text.iter().min_by_key(|(_, twin)| twin.used).map(|(key, _)| key.clone())?;
        self.by_text.remove(&key).map(|twin| twin.name)
    }

    /// A Sync was sent.
    pub(super) fn next_batch(&mut self) {
        self.batch += 1;
    }

    /// The server has it.
    pub(super) fn confirm(&mut self, name: TwinName) {
        if let Some(twin) = self.by_text.values_mut().find(|twin| twin.name == name) {
            twin.unsure = None;
        }
    }

    /// The server does not have it after all.
    pub(super) fn forget(&mut self, name: TwinName) {
        self.by_text.retain(|_, twin| twin.name != name);
    }

    /// Forgets all, and says which there were.
    pub(super) fn take_all(&mut self) -> Vec<TwinName> {
        self.by_text.drain().map(|(_, twin)| twin.name).collect()
    }
}

impl SqlTwins {
    /// The name of this text's twin, and of one that gives way to it.
    pub(super) fn take(&mut self, sql: &[u8]) -> (String, Option<String>) {
        self.next += 1;
        if let Some(twin) = self.by_text.get_mut(sql) {
            twin.used = self.next;
            return (twin.name.clone(), None);
        }
        let old = if self.by_text.len() < KEPT { None } else { self.drop_oldest() };
        let name = format!("pgcanon_sql_{}", self.next);
        self.by_text.insert(sql.to_vec(), SqlTwin { name: name.clone(), used: self.next, made: None });
        (name, old)
    }

    fn drop_oldest(&mut self) -> Option<String> {
        let text = self.by_text.iter().min_by_key(|(_, twin)| twin.used).map(|(text, _)| text.clone())?;
        self.by_text.remove(&text).map(|twin| twin.name)
    }

    /// The twin is made as `made`; its name, if it was not so before.
    pub(super) fn make(&mut self, sql: &[u8], made: &[u8]) -> Option<String> {
        let twin = self.by_text.get_mut(sql).filter(|twin| twin.made.as_deref() != Some(made))?;
        twin.made = Some(made.to_vec());
        Some(twin.name.clone())
    }

    /// Whether the server has any of them is not known.
    pub(super) fn unmake(&mut self) {
        self.by_text.values_mut().for_each(|twin| twin.made = None);
    }

    /// Each text with its twin's name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &str)> {
        self.by_text.iter().map(|(text, twin)| (text.as_slice(), twin.name.as_str()))
    }

    /// Forgets all, and says which there were.
    pub(super) fn take_all(&mut self) -> Vec<String> {
        self.by_text.drain().map(|(_, twin)| twin.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parsed_once_per_types() {
        let mut twins = Twins::default();
        let (a, need) = twins.take(b"select 1", &[]);
        assert!(matches!(need, Need::Parse { close: None }));
        assert!(matches!(twins.take(b"select 1", &[]), (name, Need::Nothing) if name == a));
        assert!(matches!(twins.take(b"select 1", &[23]), (name, Need::Parse { .. }) if name != a));
        twins.forget(a);
        assert!(matches!(twins.take(b"select 1", &[]), (name, Need::Parse { .. }) if name != a));
        assert_eq!(twins.take_all().len(), 2);
    }

    #[test]
    fn behind_a_sync_only_the_servers_word_counts() {
        let mut twins = Twins::default();
        let (first, _) = twins.take(b"select 1", &[]);
        twins.next_batch();
        let (second, need) = twins.take(b"select 1", &[]);
        assert!(second != first && matches!(need, Need::Parse { close: Some(old) } if old == first));
        twins.forget(first); // the server has passed it over: the second one stays
        twins.confirm(second);
        twins.next_batch();
        assert!(matches!(twins.take(b"select 1", &[]), (name, Need::Nothing) if name == second));
    }

    #[test]
    fn of_those_prepared_by_sql_only_so_many_are_kept() {
        let mut twins = SqlTwins::default();
        let (first, _) = twins.take(b"0");
        assert_eq!(twins.make(b"0", b"prepare"), Some(first.clone()));
        assert_eq!(twins.make(b"0", b"prepare"), None, "it is there");
        for n in 1..KEPT {
            assert_eq!(twins.take(n.to_string().as_bytes()).1, None);
        }
        let (again, old) = twins.take(b"0");
        assert_eq!((again, old), (first.clone(), None));
        let (_, old) = twins.take(b"more");
        assert!(old.is_some_and(|old| old != first));
        assert_eq!(twins.take_all().len(), KEPT);
    }

    #[test]
    fn the_one_longest_unused_gives_way() {
        let mut twins = Twins::default();
        let first = twins.take(b"0", &[]).0;
        for n in 1..KEPT {
            twins.take(n.to_string().as_bytes(), &[]);
        }
        twins.take(b"0", &[]);
        let (_, Need::Parse { close: Some(closed) }) = twins.take(b"more", &[]) else {
            panic!("nothing was closed");
        };
        assert_ne!(closed, first);
    }
}
