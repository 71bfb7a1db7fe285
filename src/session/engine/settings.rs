//! Reported settings that wait for a ReadyForQuery that the client sees: the server reports what a whole query has changed.

/// ParameterStatus messages, in the order in which the server would send them.
#[derive(Debug, Default)]
pub(super) struct Reported {
    held: Vec<Change>,
    /// How many of them came since the last ReadyForQuery: what has changed last is reported first.
    fresh: usize,
}

#[derive(Debug)]
struct Change {
    name: Vec<u8>,
    /// What the client believes.
    before: Option<Vec<u8>>,
    after: Vec<u8>,
    frame: Vec<u8>,
}

impl Reported {
    pub(super) fn hold(&mut self, name: &[u8], before: Option<&[u8]>, after: &[u8], frame: &[u8]) {
        if let Some(change) = self.held.iter_mut().find(|change| change.name == name) {
            change.after = after.to_vec();
            change.frame = frame.to_vec();
            return;
        }
        let (name, before) = (name.to_vec(), before.map(<[u8]>::to_vec));
        let change = Change { name, before, after: after.to_vec(), frame: frame.to_vec() };
        self.held.insert(self.fresh.min(self.held.len()), change);
        self.fresh = self.fresh.saturating_add(1);
    }

    /// The server is ready, which the client does not see.
    pub(super) fn pass(&mut self) {
        self.fresh = 0;
    }

    /// The server is ready, and the client sees it: what goes before that.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        self.fresh = 0;
        let held = std::mem::take(&mut self.held);
        let changed = held.into_iter().filter(|change| change.before.as_ref() != Some(&change.after));
        changed.for_each(|change| out.extend_from_slice(&change.frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_changed_in_the_end_is_reported_the_last_one_first() {
        let mut reported = Reported::default();
        reported.hold(b"b", Some(b"0"), b"1", b"[b1]");
        reported.hold(b"a", Some(b"0"), b"1", b"[a1]");
        reported.pass();
        reported.hold(b"c", None, b"1", b"[c1]");
        reported.hold(b"a", Some(b"1"), b"0", b"[a0]");
        reported.hold(b"b", Some(b"1"), b"2", b"[b2]");
        let mut out = Vec::new();
        reported.release(&mut out);
        assert_eq!(out, b"[c1][b2]");
        reported.release(&mut out);
        assert_eq!(out.len(), 8);
    }
}
