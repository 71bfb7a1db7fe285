//! `[[table]]`: the rules of replication, read and checked against each other and against the peers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::choice::{Choice, nearest};
use super::node::NodeName;
use super::peer::Names;
use super::problem::Complaint;
use super::section::{Item, Section};
use super::units;

/// What happens to the changes of one table, or of all that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRule {
    /// The tables; the first rule that matches a table counts.
    pub name: TablePattern,
    /// The peers that receive its changes; none for all.
    pub peers: Option<Vec<NodeName>>,
    /// What it is called on a peer, where that differs.
    pub rename: BTreeMap<NodeName, TableName>,
    /// The columns that travel besides the key; none for all.
    pub columns: Option<Vec<String>>,
    /// The condition a row must meet to travel, in SQL.
    pub filter: Option<String>,
    /// When a client is answered.
    pub delivery: Delivery,
    /// What becomes of changes that a peer rejects.
    pub on_error: OnError,
    /// Whether user triggers fire on the peer; a table that has some must say so.
    pub triggers: Option<Triggers>,
    /// How conflicts end; none makes them errors.
    pub conflict: Option<Conflict>,
    /// What becomes of statements that cannot be replicated faithfully (I5).
    pub unreplicable: Unreplicable,
    /// What becomes of DDL.
    pub ddl: Ddl,
}

/// A table, by its exact names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
}

/// `schema.table` where `*` stands for any run of characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TablePattern(TableName);

/// When a client is answered (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// When its node has committed.
    Async,
    /// … and the peers have applied it, or this time has passed.
    Ack(Duration),
    /// When all have committed or none; peers have this long to answer.
    Atomic(Duration),
}

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
        }
    };
}

choices! {
    /// What becomes of changes that a peer rejects (§6.1).
    OnError {
        /// They wait, and everything behind them.
        #[default]
        Stall = "stall",
        /// They wait, and what touches the same keys.
        Park = "park",
        /// They are dropped with a record.
        Discard = "discard",
    }
}
choices! {
    /// Whether user triggers fire on the peer (§6).
    Triggers {
        /// They fire.
        #[default]
        Fire = "fire",
        /// They do not.
        Skip = "skip",
    }
}
impl Triggers {
    /// What to choose between, for those who have to.
    pub const CHOICE: &str = "Set triggers = \"fire\" in its rule if the triggers shall fire on the peers, too (what they do must \
        then come out the same on every node), or triggers = \"skip\" if they shall not (the apply role then needs SET on \
        session_replication_role).";
}
choices! {
    /// What becomes of statements that cannot be replicated faithfully (I5).
    Unreplicable {
        /// They fail.
        #[default]
        Refuse = "refuse",
        /// They run here alone, with a warning.
        Warn = "warn",
        /// They run here alone.
        Ignore = "ignore",
    }
}
choices! {
    /// What becomes of DDL (§9).
    Ddl {
        /// It is forwarded.
        #[default]
        Replicate = "replicate",
        /// It fails.
        Refuse = "refuse",
        /// It runs here alone.
        Local = "local",
    }
}
choices! {
    /// Which of two versions of a row stays (§8).
    Resolve {
        /// The later.
        #[default]
        Last = "last",
        /// The earlier.
        First = "first",
        /// Neither: it is an error.
        Error = "error",
        /// That of the preferred node.
        Node = "node",
    }
}

/// How conflicts end (§8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Which version stays.
    pub resolve: Resolve,
    /// By what it is earlier or later.
    pub by: ResolveBy,
    /// The node that wins a tie, or always with [`Resolve::Node`], where it is always there.
    pub prefer: Option<NodeName>,
}

/// By what a version is earlier or later (§8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveBy {
    /// The time of its commit.
    CommitTime,
    /// The time when the last statement of its transaction began that wrote by such a rule.
    StatementTime,
    /// The value of this column.
    Column(String),
}

/// How `delivery` is written; only two of the words carry a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeliveryWord {
    Async,
    Ack,
    Atomic,
}

impl Choice for DeliveryWord {
    const WORDS: &'static [(&'static str, Self)] =
        &[("async", Self::Async), ("ack", Self::Ack), ("atomic", Self::Atomic)];
}

impl ResolveBy {
    /// None where versions go by a time that the server keeps.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        match self {
            Self::Column(name) => Some(name),
            Self::CommitTime | Self::StatementTime => None,
        }
    }
}

impl TableRule {
    /// How conflicts are settled, where they are: otherwise a change that meets another row than it should is an error.
    pub fn settles(&self) -> Option<&Conflict> {
        self.conflict.as_ref().filter(|conflict| conflict.resolve != Resolve::Error)
    }

    /// Whether they are by the times of statements.
    pub fn goes_by_statements(&self) -> bool {
        self.settles().is_some_and(|conflict| conflict.by == ResolveBy::StatementTime)
    }
}

// === names ===

impl TablePattern {
    /// The pattern, spelled as a name.
    pub fn as_name(&self) -> &TableName {
        &self.0
    }

    fn unnamed() -> Self {
        Self(TableName { schema: String::new(), table: String::new() })
    }

    /// Whether it matches a table, by its exact names.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        glob(&self.0.schema, schema) && glob(&self.0.table, table)
    }

    /// Whether it matches tables of this name in some schema.
    pub fn matches_name(&self, table: &str) -> bool {
        glob(&self.0.table, table)
    }

    /// Whether it is one table's name and no pattern.
    pub fn is_exact(&self) -> bool {
        !self.0.schema.contains(['*', '?']) && !self.0.table.contains(['*', '?'])
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether `*` (any run of characters) and `?` (any one) in `pattern` can stand for what `text` has there.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Behind the last `*`: what has to match, and how much it has swallowed. Giving it more is the only way back.
    let mut star = None;
    loop {
        let here = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = here.1;
                star = Some((pattern.clone(), text.clone()));
                continue;
            }
            (Some('?'), Some(_)) => continue,
            (Some(want), Some(have)) if want == have => continue,
            _ => {}
        }
        let Some((behind, mut swallowed)) = star.take() else {
            return false;
        };
        if swallowed.next().is_none() {
            return false;
        }
        (pattern, text) = (behind.clone(), swallowed.clone());
        star = Some((behind, swallowed));
    }
}

/// Names as the catalog has them: the first dot ends the schema, nothing is quoted, case counts.
fn table_name(text: &str) -> Result<TableName, Complaint> {
    match text.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => {
            Ok(TableName { schema: schema.to_owned(), table: table.to_owned() })
        }
        None if !text.is_empty() => {
            Err(Complaint::new(format!("`{text}` lacks its schema")).suggest(Some(format!("public.{text}"))))
        }
        _ => Err(Complaint::new(format!("`{text}` is not a schema and a table, such as \"public.orders\""))),
    }
}

fn new_name(text: &str) -> Result<TableName, Complaint> {
    let name = table_name(text)?;
    match TablePattern(name.clone()).is_exact() {
        true => Ok(name),
        false => Err(Complaint::new(format!("`{text}` is a pattern; this must be one table"))),
    }
}

// === reading ===

impl TableRule {
    /// Reads a rule; `earlier` are those before it.
    pub(super) fn read(mut s: Section<'_>, names: &Names, earlier: &[TableRule]) -> Option<Self> {
        let reading = s.reading();
        let name = s.require("name", "the table, or a pattern, with its schema").and_then(|item| {
            let name = TablePattern(reading.parse(&item, table_name)?);
            if earlier.iter().any(|rule| rule.name == name) {
                let message = format!("an earlier rule is for `{name}` already, and the first match wins");
                reading.object(&item, Complaint::new(message));
            }
            Some(name)
        });
        let peers = s.take("peers").map(|item| read_peers(&s, &item, names));
        let rename = read_rename(&mut s, name.as_ref(), peers.as_deref(), names);
        let conflict = s.take("conflict").and_then(|item| Conflict::read(Section::of(reading, &item)?, names));
        let delivery = read_delivery(&mut s);
        if conflict.is_some() && matches!(delivery, Delivery::Atomic(_)) {
            s.object(
                "conflict",
                Complaint::new("with delivery = \"atomic\" there is nothing to settle: both sides agree first"),
            );
        }
        let rule = Self {
            // Every key is read even without a name, so that all problems are found.
            name: name.clone().unwrap_or_else(TablePattern::unnamed),
            peers,
            rename,
            columns: read_columns(&mut s),
            filter: s.parse("where", |text| match text.trim() {
                "" => Err(Complaint::new("an empty condition; leave the key out to replicate every row")),
                text => Ok(text.to_owned()),
            }),
            delivery,
            on_error: s.choice("on_error").unwrap_or_default(),
            triggers: s.choice("triggers"),
            conflict,
            unreplicable: s.choice("unreplicable").unwrap_or_default(),
            ddl: s.choice("ddl").unwrap_or_default(),
        };
        s.finish(|_| None);
        name.map(|_| rule)
    }
}

/// The peer that `text` names, or a complaint that there is none.
fn known_peer(text: &str, names: &Names) -> Result<NodeName, Complaint> {
    let found = names.peers.iter().find(|p| p.as_str() == text).cloned();
    match found.or_else(|| NodeName::new(text).filter(|_| names.incomplete)) {
        Some(peer) => Ok(peer),
        None if names.node.as_ref().is_some_and(|n| n.as_str() == text) => {
            Err(Complaint::new(format!("`{text}` is this node itself; here its peers are named")))
        }
        None => {
            let meant = nearest(text, names.peers.iter().map(NodeName::as_str));
            Err(Complaint::new(format!("no [[peer]] is named `{text}`")).suggest(meant))
        }
    }
}

fn read_peers(s: &Section<'_>, item: &Item<'_>, names: &Names) -> Vec<NodeName> {
    let mut found = Vec::new();
    for item in s.reading().each(item) {
        match s.reading().parse(&item, |text| known_peer(text, names)) {
            Some(peer) if found.contains(&peer) => {
                s.reading().object(&item, Complaint::new(format!("`{peer}` is listed twice")));
            }
            Some(peer) => found.push(peer),
            None => {}
        }
    }
    found
}

fn read_rename(
    s: &mut Section<'_>,
    name: Option<&TablePattern>,
    peers: Option<&[NodeName]>,
    names: &Names,
) -> BTreeMap<NodeName, TableName> {
    let mut found = BTreeMap::new();
    let reading = s.reading();
    let Some(item) = s.take("rename") else {
        return found;
    };
    let Some(section) = Section::of(reading, &item) else {
        return found;
    };
    if name.is_some_and(|n| !n.is_exact()) {
        let message = "a pattern cannot be renamed: all its tables would become one; write a rule per table";
        reading.object(&item, Complaint::new(message));
    }
    for (peer, item) in section.entries() {
        match known_peer(peer, names) {
            Err(complaint) => reading.object(&item, complaint),
            Ok(peer) => {
                if peers.is_some_and(|peers| !peers.contains(&peer)) {
                    let message = format!("`{peer}` is not among this rule's `peers`");
                    reading.object(&item, Complaint::new(message));
                }
                found.extend(reading.parse(&item, new_name).map(|to| (peer, to)));
            }
        }
    }
    found
}

fn read_columns(s: &mut Section<'_>) -> Option<Vec<String>> {
    let item = s.take("columns")?;
    let mut found: Vec<String> = Vec::new();
    for item in s.reading().each(&item) {
        match s.reading().text(&item) {
            Some(column) if column.is_empty() => s.reading().object(&item, Complaint::new("a column name is empty")),
            Some(column) if found.contains(&column) => {
                s.reading().object(&item, Complaint::new(format!("`{column}` is listed twice")));
            }
            column => found.extend(column),
        }
    }
    Some(found)
}

fn read_delivery(s: &mut Section<'_>) -> Delivery {
    let word = s.choice("delivery");
    let timeout = s.parse("ack_timeout", units::duration);
    let wait = timeout.unwrap_or(Duration::from_secs(10));
    match word {
        Some(DeliveryWord::Ack) => Delivery::Ack(wait),
        Some(DeliveryWord::Atomic) => Delivery::Atomic(wait),
        Some(DeliveryWord::Async) | None => {
            if let Some(item) = s.take("ack_timeout")
                && (word.is_some() || !s.has("delivery"))
            {
                let message = "this needs delivery = \"ack\" or \"atomic\"; nobody waits in \"async\"";
                s.reading().object(&item, Complaint::new(message));
            }
            Delivery::Async
        }
    }
}

impl Conflict {
    fn read(mut s: Section<'_>, names: &Names) -> Option<Self> {
        let resolve = s.require("resolve", "which version stays: last, first, error or node");
        let resolve = resolve.and_then(|_| s.choice("resolve"));
        let by = s.parse("by", |text| match text.split_once(':') {
            _ if text == "commit_time" => Ok(ResolveBy::CommitTime),
            _ if text == "statement_time" => Ok(ResolveBy::StatementTime),
            Some(("column", name)) if !name.is_empty() => Ok(ResolveBy::Column(name.to_owned())),
            _ => Err(Complaint::new(format!(
                "`{text}` is not allowed here; it takes `commit_time`, `statement_time` or `column:NAME`"
            ))
            .suggest(nearest(text, ["commit_time", "statement_time"]))),
        });
        let prefer = s.take("prefer").map(|item| {
            s.reading().parse(&item, |text| match &names.node {
                Some(node) if node.as_str() == text => Ok(node.clone()),
                _ => known_node(text, names),
            })
        });
        if resolve == Some(Resolve::Node) {
            if prefer.is_none() {
                s.missing("prefer", "resolve = \"node\" needs the node whose version stays");
            }
            if by.as_ref().is_some_and(|by| by.column().is_some()) {
                s.object(
                    "by",
                    Complaint::new("resolve = \"node\" goes by a time where neither version is that node's"),
                );
            }
        }
        s.finish(|_| None);
        Some(Self { resolve: resolve?, by: by.unwrap_or(ResolveBy::CommitTime), prefer: prefer.flatten() })
    }
}

/// Like [`known_peer`], where this node may be named too.
fn known_node(text: &str, names: &Names) -> Result<NodeName, Complaint> {
    if names.node.is_none() {
        return NodeName::new(text).ok_or_else(|| Complaint::new(format!("`{text}` is no node name")));
    }
    known_peer(text, names).map_err(|_| {
        let all = names.peers.iter().chain(&names.node).map(NodeName::as_str);
        Complaint::new(format!("neither this node nor a [[peer]] is named `{text}`")).suggest(nearest(text, all))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_by_character_and_case() {
        let matches = |pattern: &str, text: &str| glob(pattern, text);
        for (pattern, yes, no) in [
            ("orders", &["orders"][..], &["order", "orderss", "Orders", ""][..]),
            ("*", &["", "a", "é.x"], &[]),
            ("pgbench_*", &["pgbench_", "pgbench_tellers"], &["pgbench", "xpgbench_a"]),
            ("?", &["a", "é"], &["", "ab"]),
            ("*_20??", &["log_2024", "_2020_2021"], &["log_202", "log_20245"]),
            ("a*b*c", &["abc", "aXbXbXc", "abbcc"], &["ab", "acb", "abcd"]),
            ("**a", &["a", "ba"], &["ab"]),
        ] {
            for text in yes {
                assert!(matches(pattern, text), "{pattern} {text}");
            }
            for text in no {
                assert!(!matches(pattern, text), "{pattern} {text}");
            }
        }
        let pattern = TablePattern(TableName { schema: "a?".into(), table: "*".into() });
        assert!(pattern.matches("ab", "t") && !pattern.matches("a", "t"));
    }
}
