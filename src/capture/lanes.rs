//! How many statements of which shape travelled in which lane, and why: bounded, and shared by all sessions.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::capture::write::Decision;
use crate::journal::entry::Lane;
use crate::sql::{LexOptions, shape};

/// Shapes told apart; past that the ones not seen for longest are only counted by their fate.
const SHAPES_MAX: usize = 1000;

/// What their texts may take together.
const BYTES_MAX: usize = 512 << 10;

/// Decisions about one shape that are told apart: refusals name what is in their way, and that can be anything.
const REASONS_MAX: usize = 8;

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    Travelled(Lane),
    Refused,
    /// It would be refused, but the rule lets such statements run here alone.
    Local,
    /// Relayed as it is: it writes no replicated table.
    Relayed,
}

// === impl Fate ===

impl Fate {
    /// The fate and the reason that a decision means.
    pub fn of(decision: &Decision) -> (Self, &str) {
        match decision {
            Decision::Pass { .. } => (Self::Relayed, "writes no replicated table"),
            Decision::Write(write) => (Self::Travelled(write.lane), write.reason),
            Decision::Refuse(refusal) => (Self::Refused, &refusal.message),
            Decision::Warn { refusal, .. } => (Self::Local, &refusal.message),
        }
    }

    /// As operators and scripts read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Travelled(Lane::Statement) => "statement",
            Self::Travelled(Lane::Row) => "row",
            Self::Travelled(Lane::Locked) => "locked",
            Self::Travelled(Lane::Copy) => "copy",
            Self::Refused => "refused",
            Self::Local => "local",
            Self::Relayed => "relayed",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One line of the statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneCount {
    /// The statement's shape; none for all those together that were left out.
    pub shape: Option<String>,
    pub fate: Fate,
    pub reason: String,
    pub count: u64,
}

/// The statistics of this process.
#[derive(Debug, Default)]
pub struct Lanes {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    shapes: HashMap<String, Shape>,
    /// What their texts and reasons take.
    bytes: usize,
    /// Grows with each statement: who was seen last.
    clock: u64,
    /// What was left out, by fate.
    rest: HashMap<Fate, Tally>,
}

#[derive(Debug)]
struct Shape {
    last: u64,
    /// Few decisions, mostly one.
    counts: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    fate: Fate,
    reason: String,
    count: Tally,
}

/// Where one decision about one shape is counted. Who keeps it, with a prepared statement say, counts without a look at
/// the text.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

// === impl Tally ===

impl Tally {
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

// === impl Lanes ===

impl Lanes {
    /// Where statements like this one are counted.
    pub fn tally(&self, sql: &[u8], opts: LexOptions, decision: &Decision) -> Tally {
        let (fate, reason) = Fate::of(decision);
        let shape = shape(sql, opts);
        self.seen().tally(shape, fate, reason)
    }

    /// What was counted, the most frequent first; what was left out stands at the end.
    pub fn list(&self) -> Vec<LaneCount> {
        let seen = self.seen();
        let mut all: Vec<LaneCount> = Vec::with_capacity(seen.shapes.len());
        for (text, shape) in &seen.shapes {
            all.extend(shape.counts.iter().map(|counted| LaneCount {
                shape: Some(text.clone()),
                fate: counted.fate,
                reason: counted.reason.clone(),
                count: counted.count.get(),
            }));
        }
        let rest = |(fate, count): (&Fate, &Tally)| LaneCount {
            shape: None,
            fate: *fate,
            reason: String::new(),
            count: count.get(),
        };
        let mut rest: Vec<LaneCount> = seen.rest.iter().map(rest).collect();
        drop(seen);
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| (&a.shape, a.fate).cmp(&(&b.shape, b.fate))));
        rest.sort_by_key(|line| line.fate);
        all.extend(rest);
        all
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Counts are whole after every step, whoever panicked behind it.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seen ===

impl Seen {
    fn tally(&mut self, text: String, fate: Fate, reason: &str) -> Tally {
        self.clock += 1;
        let clock = self.clock;
        if let Some(shape) = self.shapes.get_mut(&text) {
            shape.last = clock;
            if let Some(counted) = shape.counts.iter().find(|c| c.fate == fate && c.reason == reason) {
                return counted.count.clone();
            }
            if shape.counts.len() >= REASONS_MAX {
                return self.rest.entry(fate).or_default().clone();
            }
            let counted = Counted { fate, reason: reason.to_owned(), count: Tally::default() };
            let count = counted.count.clone();
            self.bytes += reason.len();
            shape.counts.push(counted);
            return count;
        }
        if self.is_full() {
            self.forget();
        }
        if self.is_full() {
            // All that is here is kept by somebody.
            return self.rest.entry(fate).or_default().clone();
        }
        let counted = Counted { fate, reason: reason.to_owned(), count: Tally::default() };
        let count = counted.count.clone();
        self.bytes += text.len() + reason.len();
        self.shapes.insert(text, Shape { last: clock, counts: vec![counted] });
        count
    }

    fn is_full(&self) -> bool {
        self.shapes.len() >= SHAPES_MAX || self.bytes >= BYTES_MAX
    }

    /// Leaves out the quarter that was not seen for longest: a part at a time, so that a stream of new shapes does not
    /// look for the oldest at each of them.
    fn forget(&mut self) {
        let mut ages: Vec<u64> = self.shapes.values().filter(|s| !s.is_kept()).map(|shape| shape.last).collect();
        ages.sort_unstable();
        let Some(&last_to_go) = ages.get(ages.len() / 4) else { return };
        let (rest, bytes) = (&mut self.rest, &mut self.bytes);
        self.shapes.retain(|text, shape| {
            let keep = shape.last > last_to_go || shape.is_kept();
            if !keep {
                *bytes -= text.len();
                for counted in shape.counts.drain(..) {
                    *bytes -= counted.reason.len();
                    let rest = rest.entry(counted.fate).or_default();
                    rest.0.fetch_add(counted.count.get(), Ordering::Relaxed);
                }
            }
            keep
        });
    }
}

// === impl Shape ===

impl Shape {
    fn is_kept(&self) -> bool {
        self.counts.iter().any(|counted| counted.count.is_kept())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
// a test that panics has done its work
mod tests {
    use super::*;
    use crate::capture::write::Refusal;

    const PASS: Decision = Decision::Pass { unsettles: false };

    fn refuse(message: &str) -> Decision {
        Decision::Refuse(Refusal { message: message.to_owned(), detail: None, hint: None })
    }

    fn record(lanes: &Lanes, sql: &str, decision: &Decision) {
        lanes.tally(sql.as_bytes(), LexOptions::default(), decision).count();
    }

    fn lines(lanes: &Lanes) -> Vec<String> {
        let text = |l: LaneCount| format!("{} | {} | {} | {}", l.shape.unwrap_or_default(), l.fate, l.reason, l.count);
        lanes.list().into_iter().map(text).collect()
    }

    #[test]
    fn one_shape_has_a_line_for_each_decision() {
        let lanes = Lanes::default();
        record(&lanes, "select 1", &PASS);
        record(&lanes, "delete from t where a = 1", &refuse("no"));
        record(&lanes, "SELECT 2;", &PASS);
        record(&lanes, "delete from t where a = 2", &PASS);
        record(&lanes, "select 3", &PASS);
        record(&lanes, "delete from t where a = 3", &refuse("no"));
        assert_eq!(
            lines(&lanes),
            [
                "select ? | relayed | writes no replicated table | 3",
                "delete from t where a = ? | refused | no | 2",
                "delete from t where a = ? | relayed | writes no replicated table | 1",
            ]
        );
    }

    #[test]
    fn the_shapes_seen_last_stay_and_the_sum_is_always_right() {
        let lanes = Lanes::default();
        for n in 0..5 * SHAPES_MAX {
            record(&lanes, "select 1", &PASS);
            record(&lanes, &format!("select {}", "a,".repeat(n % 17) + &format!("t{n}")), &PASS);
        }
        let all = lanes.list();
        assert!(all.len() <= SHAPES_MAX + 1, "{}", all.len());
        assert_eq!(all[0].shape.as_deref(), Some("select ?"), "often seen, never forgotten");
        assert_eq!(all[0].count, 5 * SHAPES_MAX as u64);
        assert_eq!(all.iter().map(|line| line.count).sum::<u64>(), 10 * SHAPES_MAX as u64);
        assert!(all.last().unwrap().shape.is_none() && all.last().unwrap().count > 0);
        assert!(all.iter().any(|line| line.shape.as_deref().is_some_and(|s| s.ends_with("t4999"))));
    }

    #[test]
    fn long_texts_and_many_reasons_take_bounded_memory() {
        let lanes = Lanes::default();
        for n in 0..3000 {
            record(&lanes, &format!("select t{n} {}", "x".repeat(900)), &PASS);
            record(&lanes, "delete from t", &refuse(&format!("because of {n}")));
        }
        let seen = lanes.seen();
        let held =
            |(text, shape): (&String, &Shape)| text.len() + shape.counts.iter().map(|c| c.reason.len()).sum::<usize>();
        let bytes: usize = seen.shapes.iter().map(held).sum();
        assert_eq!(bytes, seen.bytes, "what is counted is what is held");
        assert!(bytes <= BYTES_MAX + (2 << 10), "{bytes}");
        assert_eq!(seen.rest[&Fate::Refused].get(), 3000 - REASONS_MAX as u64);
    }

    #[test]
    fn who_keeps_a_tally_counts_on_and_is_never_forgotten() {
        let lanes = Lanes::default();
        let kept = lanes.tally(b"delete from kept", LexOptions::default(), &PASS);
        for n in 0..3 * SHAPES_MAX {
            record(&lanes, &format!("select t{n}"), &PASS);
        }
        kept.count();
        kept.count();
        assert!(lines(&lanes).contains(&"delete from kept | relayed | writes no replicated table | 2".to_owned()));

        let lanes = Lanes::default();
        let tally = |n| lanes.tally(format!("select t{n}").as_bytes(), LexOptions::default(), &PASS);
        let kept: Vec<Tally> = (0..2 * SHAPES_MAX).map(tally).collect();
        kept.iter().for_each(Tally::count);
        let all = lanes.list();
        assert_eq!(all.len(), SHAPES_MAX + 1, "what is kept is bounded, too");
        assert_eq!(all.iter().map(|line| line.count).sum::<u64>(), 2 * SHAPES_MAX as u64);
    }
}
