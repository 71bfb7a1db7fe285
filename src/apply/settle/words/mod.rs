//! The statements that settle conflicts, in SQL.

mod echo;

use super::Ground;
use crate::apply::applier::TIMESTAMPTZ;
use crate::apply::route::Destination;
use crate::apply::shape::{Act, Make, TEXT};
use crate::config::{NodeName, Resolve};
use crate::journal::codec::EncodeError;
use crate::journal::entry::{ColumnRole, Extra, Head, ImageColumn};
use crate::sql::quote::{ident, literal};

/// Types of which a column can tell versions apart: `int2`, `int4`, `int8`, `date`, `timestamp` and `timestamptz`.
pub(super) const NUMBERS: [u32; 6] = [21, 23, 20, 1082, 1114, TIMESTAMPTZ];

const INTO_TOMBSTONE: &str = "INSERT INTO pgcanon.tombstone (nsp_name, table_name, key, number)";

/// The parameters behind those of the columns.
#[derive(Clone, Copy)]
pub(super) enum Told {
    Time,
    Origin,
    Key,
    Number,
    Tick,
    Ord,
    /// The peer's tick up to which who made the change had seen the peer's own.
    Seen,
}

/// Writes the statements for images of one shape. In them `t` is a row of the table, `d` a deletion.
pub(super) struct Words<'a> {
    table: &'a str,
    head: &'a Head,
    to: &'a Destination,
    ground: &'a Ground<'a>,
    /// Those that travel and can be given a value.
    columns: Vec<Column<'a>>,
    /// The one that tells versions apart, where it is not the time.
    number: Option<Column<'a>>,
}

#[derive(Clone)]
struct Column<'a> {
    /// Among those of the head.
    at: usize,
    head: &'a ImageColumn,
    type_oid: u32,
    /// Quoted.
    name: String,
    /// Its parameter.
    value: String,
    /// No UPDATE may set it.
    own: bool,
}

// === impl Told ===

impl Told {
    /// In their order.
    pub(super) const TYPES: [u32; 7] = [TIMESTAMPTZ, TEXT, 17, 20, 20, 23, 20];
}

// === impl Column ===

impl Column<'_> {
    fn is_key(&self) -> bool {
        self.head.role != ColumnRole::Value
    }

    /// What stands for it, in bytes that every node makes alike.
    fn plain(&self, text: &str) -> String {
        format!("{text}{}", if self.head.text { "::pg_catalog.text" } else { "" })
    }

    fn same(&self) -> String {
        format!("t.{} = {}", self.name, self.value)
    }
}

// === impl Words ===

impl<'a> Words<'a> {
    /// None where the images have no key.
    pub(super) fn new(
        make: &'a Make<'a>,
        to: &'a Destination,
        head: &'a Head,
        ground: &'a Ground<'a>,
        number: Option<usize>,
    ) -> Option<Self> {
        let own = |name: &str| make.own.iter().find(|own| own.name == name);
        let given = make.of(|column| !own(&column.name).is_some_and(|own| own.generated));
        let columns = given.zip(1_usize..).filter_map(|(at, n)| {
            let head = make.columns.get(at)?;
            Some(Column {
                at,
                head,
                type_oid: make.types.get(at)?.oid,
                name: ident(&head.name, "UTF8"),
                value: format!("${n}"),
                own: own(&head.name).is_some(),
            })
        });
        let columns: Vec<Column<'_>> = columns.collect();
        let number = columns.iter().find(|column| Some(column.at) == number).cloned();
        let keyed = columns.iter().any(Column::is_key);
        keyed.then_some(Self { table: &make.table, head, to, ground, columns, number })
    }

    /// Which columns of the head become parameters.
    pub(super) fn used(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().map(|column| column.at)
    }

    pub(super) fn types(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().map(|column| column.type_oid)
    }

    /// The statements for a row that is there now.
    pub(super) fn write(&self, act: Act) -> Result<Vec<String>, EncodeError> {
        let (table, dead) = (self.table, self.dead());
        let names = self.list(", ", |_| true, |c| c.name.clone());
        let values = self.list(", ", |_| true, |c| c.value.clone());
        let key = self.list(", ", Column::is_key, |c| c.name.clone());
        let (same, rank, rival) = (self.same_key(), self.rank("t", self.ground.conflict.resolve), self.rival());
        let (beaten, mut all) = match &rival {
            None => (String::new(), Vec::new()),
            Some(rival) => {
                let beaten = format!("EXISTS (SELECT FROM {table} AS t WHERE {rival} AND {rank} < 0)");
                (format!(" AND NOT {beaten}"), self.rivalry(rival, &beaten).to_vec())
            }
        };
        let allowed = format!("NOT EXISTS (SELECT FROM dead){beaten}");
        let insert =
            format!("INSERT INTO {table} AS t ({names}) OVERRIDING SYSTEM VALUE SELECT {values} WHERE {allowed}");
        let won = if self.ground.partitioned {
            // No INSERT there may look at who wrote a row. One that is there stays so when it is locked; one that is made
            // meanwhile lets this fail, and is met when it is tried again.
            all.push(format!("SELECT FROM {table} AS t WHERE {same} FOR UPDATE"));
            format!(
                "kept AS (UPDATE {table} AS t SET {} WHERE {same} AND {rank} >= 0 AND {allowed} RETURNING 1), \
                 made AS ({insert} AND NOT EXISTS (SELECT FROM {table} AS t WHERE {same}) RETURNING {}), \
                 won AS (SELECT FROM kept UNION ALL SELECT FROM made)",
                self.assignments(|c| c.value.clone()),
                self.outlives()
            )
        } else {
            format!(
                "won AS ({insert} ON CONFLICT ({key}) DO UPDATE SET {} WHERE {rank} >= 0 \
                 RETURNING CASE WHEN t.xmax = 0 THEN {} END)",
                self.assignments(|c| format!("EXCLUDED.{}", c.name)),
                self.outlives()
            )
        };
        let stands = match rival {
            Some(rival) => format!("(({same}) OR ({rival}))"),
            None => same.clone(),
        };
        // Its node may have got it from another one, and then it is not what has won.
        let other = match self.number {
            Some(_) => String::new(),
            None => format!(" AND NOT ({} = v.at AND {} = {})", self.told(Told::Time), self.row(), self.row_of_table()),
        };
        let mut loses = format!("{rank} < 0");
        if self.ground.conflict.resolve == Resolve::First {
            // It is dead, and who sent it does not know what came after, perhaps.
            loses = format!("({loses} OR {same} AND EXISTS (SELECT FROM dead))");
        }
        let here = self.here(&format!("{stands} AND NOT EXISTS (SELECT FROM won) AND {loses}{other}"));
        let kind = if act == Act::Insert { "insert_exists" } else { "update_differs" };
        let lost = self.record(
            &format!("CASE WHEN h.row IS NULL AND EXISTS (SELECT FROM dead) THEN 'deleted' ELSE '{kind}' END"),
            "'kept'",
            "h",
            "(VALUES (1)) AS one(x) LEFT JOIN here AS h ON true WHERE NOT EXISTS (SELECT FROM won)",
        );
        let (was, won_over) = match act {
            Act::Insert => (
                format!(
                    "was AS (SELECT pg_catalog.to_jsonb(t) AS row, v.at, v.origin FROM {table} AS t, {} WHERE {same}), ",
                    self.version("t")
                ),
                Some(self.record("'insert_exists'", "'applied'", "w", "was AS w WHERE EXISTS (SELECT FROM won)")),
            ),
            Act::Update => {
                let missed = format!("EXISTS (SELECT FROM won) AND NOT EXISTS (SELECT FROM {table} AS t WHERE {same})");
                let from = format!(
                    "(SELECT NULL::pg_catalog.jsonb AS row, NULL::pg_catalog.timestamptz AS at, \
                     NULL::pg_catalog.text AS origin WHERE {missed}) AS w"
                );
                (String::new(), Some(self.record("'update_missing'", "'applied'", "w", &from)))
            }
            _ => (String::new(), None),
        };
        let dead_still = "dead AS d WHERE NOT EXISTS (SELECT FROM won)";
        let told = [
            Some(lost).filter(|_| self.is_news()),
            won_over,
            Some(self.tell_grave(dead_still)?),
            Some(self.tell_row()?),
            self.again()?,
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        all.push(format!("WITH {dead}, {won}, {was}{here} {}", told.join(" UNION ALL ")));
        Ok(all)
    }

    /// What an UPDATE sets; something it has to.
    fn assignments(&self, value: impl Fn(&Column<'a>) -> String) -> String {
        let assigned = |c: &Column<'a>| format!("{} = {}", c.name, value(c));
        let all = self.list(", ", |c| !c.is_key() && !c.own, assigned);
        if all.is_empty() { self.list(", ", Column::is_key, assigned) } else { all }
    }

    /// The statements for a row that is gone: before it is looked for, it is locked.
    pub(super) fn delete(&self) -> Result<Vec<String>, EncodeError> {
        let same = self.same_key();
        let rank = match &self.number {
            Some(Column { name, value, .. }) => {
                format!("CASE WHEN {value} >= t.{name} OR t.{name} IS NULL THEN 1 ELSE -1 END")
            }
            None => {
                // What comes again of a deletion by itself must not undo what its transaction has made anew.
                let same = if self.head.extra == Extra::Version { -1 } else { 0 };
                let rank = self.rank_by_time(&self.told(Told::Time), "t", self.deleting());
                format!("COALESCE(NULLIF({rank}, 0), {same})")
            }
        };
        let key = self.told(Told::Key);
        let (stale, stands) = match self.ground.conflict.resolve {
            Resolve::Last | Resolve::Error => (String::new(), "NOT EXISTS (SELECT FROM here)"),
            // What its transaction has made itself is not to go out again. And rows that come later may be weaker than the one
            // that stands, and are no less dead for that.
            _ => (
                format!(
                    "stale AS (DELETE FROM pgcanon.echo AS e USING gone AS g \
                     WHERE g.own AND (e.nsp_name, e.table_name, e.key) = ({}, {key}) AND e.sent IS NULL), ",
                    self.schema_and_name()
                ),
                "true",
            ),
        };
        let (table, recorded) = (self.schema_and_name(), self.record("'delete_differs'", "'kept'", "h", "here AS h"));
        let told = [Some(recorded).filter(|_| self.is_news()), Some(self.tell_row()?)];
        let told: Vec<String> = told.into_iter().flatten().collect();
        let (stronger, weaker) = self.among_deletions();
        // Of a key's deletions the strongest is enough: whatever is looked for here would be found in all of them otherwise.
        let delete = format!(
            "WITH gone AS (DELETE FROM {} AS t WHERE {same} AND {rank} >= 0 \
                 RETURNING t.xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid AS own), {}, {stale}\
             past AS (DELETE FROM pgcanon.tombstone AS d \
                 WHERE (d.nsp_name, d.table_name, d.key) = ({table}, {key}) AND {weaker} AND {stands}), \
             grave AS ({INTO_TOMBSTONE} SELECT {table}, {key}, {} \
                 WHERE {stands} AND NOT EXISTS (SELECT FROM {} AS d WHERE {stronger})) {}",
            self.table,
            self.here(&format!("{same} AND NOT EXISTS (SELECT FROM gone)")),
            self.told(Told::Number),
            self.deletions(),
            told.join(" UNION ALL "),
        );
        Ok(vec![format!("SELECT pgcanon.lock_key({key})"), delete])
    }

    /// Rows that have values of other unique keys go where the image wins against all of them; where it does not, the row of
    /// its own key goes, as the image has taken its place and has lost.
    fn rivalry(&self, rival: &str, beaten: &str) -> [String; 2] {
        let (table, same, rank) = (self.table, self.same_key(), self.rank("t", self.ground.conflict.resolve));
        let own_beaten = format!("EXISTS (SELECT FROM {table} AS t WHERE {same} AND {rank} < 0)");
        let number = match self.number {
            Some(_) => self.told(Told::Number),
            None => "NULL".to_owned(),
        };
        let from = "(SELECT row, NULL::pg_catalog.timestamptz AS at, NULL::pg_catalog.text AS origin FROM gone) AS g";
        let grave = match self.ground.conflict.resolve {
            // What is older than the image is no less alive for that: it wins, and what is newer loses again.
            Resolve::First => String::new(),
            _ => {
                let table = self.schema_and_name();
                format!("grave AS ({INTO_TOMBSTONE} SELECT {table}, g.key, {number} FROM gone AS g) ")
            }
        };
        let comma = if grave.is_empty() { "" } else { "," };
        let delete = |which: &str| {
            format!(
                "gone AS (DELETE FROM {table} AS t WHERE {which} RETURNING {} AS key, pg_catalog.to_jsonb(t) AS row){comma} \
                 {grave}{}",
                self.key_of_table(),
                self.record("'unique'", "'applied'", "g", from),
            )
        };
        // What each row is measured by itself is measured anew where it has changed while its lock was waited for.
        let first = delete(&format!(
            "{rival} AND {rank} >= 0 AND NOT {beaten} AND NOT {own_beaten} AND NOT EXISTS (SELECT FROM dead)"
        ));
        let second = delete(&format!("{same} AND {rank} >= 0 AND {beaten}"));
        [format!("WITH {}, {first}", self.dead()), format!("WITH {second}")]
    }

    /// Whether a row that has been made is dead by now.
    fn outlives(&self) -> String {
        let resolve = match (&self.number, self.deleting()) {
            (Some(_), _) => "NULL",
            (None, Resolve::Node) => "'node'",
            (None, _) => "'last'",
        };
        format!(
            "pgcanon.outlives({}, {}, {}, {}, {}, {}, {}, {resolve})",
            self.schema_and_name(),
            self.told(Told::Key),
            self.told(Told::Time),
            self.told(Told::Origin),
            self.told(Told::Number),
            literal(self.ground.peer.as_str()),
            self.preferred(),
        )
    }

    /// Deletions that win against the image.
    fn dead(&self) -> String {
        let wins = match self.number {
            Some(_) => self.outnumbers(),
            // One transaction may delete a row and make it anew: then it is there.
            None => format!("{} < 0", self.rank_by_time(&self.told(Told::Time), "d", self.deleting())),
        };
        format!(
            "dead AS (SELECT d.number, v.at, v.origin, d.xmin AS writer FROM {} AS d, {} WHERE {wins} LIMIT 1)",
            self.deletions(),
            self.version("d"),
        )
    }

    /// Which deletions are no weaker than the one at hand, and which are.
    fn among_deletions(&self) -> (String, String) {
        match self.number {
            Some(_) => {
                let stronger = self.outnumbers();
                let weaker = format!("({stronger} IS NOT TRUE)");
                (stronger, weaker)
            }
            None => {
                let rank = self.rank_by_time(&self.told(Told::Time), "d", self.deleting());
                (format!("{rank} <= 0"), format!("{rank} > 0"))
            }
        }
    }

    /// Whether the number of a deletion is not before that of the image; NULL is before anything.
    fn outnumbers(&self) -> String {
        format!("({n} IS NULL OR d.number >= {n})", n = self.told(Told::Number))
    }

    /// All deletions of the image's row.
    fn deletions(&self) -> String {
        // Each by all of the index: of a list of keys the server may think that looking through the table's is cheaper.
        let by_key = |key: &str| {
            let table = self.schema_and_name();
            format!("SELECT number, xmin FROM pgcanon.tombstone WHERE (nsp_name, table_name, key) = ({table}, {key})")
        };
        format!("({} UNION ALL {})", by_key(&self.told(Told::Key)), by_key("''"))
    }

    /// The rows that have won against the image.
    fn here(&self, which: &str) -> String {
        let version = if self.tells_versions() { "v.at, v.origin, " } else { "" };
        let columns = self.list(", ", |_| true, |c| c.plain(&format!("t.{}", c.name)));
        format!(
            "here AS (SELECT pg_catalog.to_jsonb(t) AS row, \
             pg_catalog.record_send(ROW(0::pg_catalog.oid, {version}{columns})) AS image, v.at, v.origin, t.xmin AS writer \
             FROM {} AS t, {} WHERE {which})",
            self.table,
            self.version("t")
        )
    }

    /// A decision, where `stored` is called so.
    fn record(&self, kind: &str, decision: &str, stored: &str, from: &str) -> String {
        let incoming = self.list(", ", |_| true, |c| format!("{} AS {}", c.value, c.name));
        format!(
            "SELECT pgcanon.decided({}, {}, {}, {}, {kind}, {decision}, {stored}.row, \
             (SELECT pg_catalog.to_jsonb(i) FROM (SELECT {incoming}) AS i), {stored}.origin, {stored}.at, {}) FROM {from}",
            self.told(Told::Origin),
            self.told(Told::Tick),
            self.told(Told::Ord),
            self.schema_and_name(),
            self.told(Told::Time),
        )
    }

    /// How the image's version stands to that of a row called `t`.
    fn rank(&self, t: &str, resolve: Resolve) -> String {
        let (row, there) = (self.row(), self.row_of_table());
        // A clock that is set back may give two transactions of one node the same time.
        let bytes = format!("CASE WHEN {row} = {there} THEN 0 WHEN {row} > {there} THEN 1 ELSE -1 END");
        let or_bytes = |time: &str| format!("COALESCE(NULLIF({}, 0), {bytes})", self.rank_by_time(time, t, resolve));
        let Some(Column { name, value, .. }) = &self.number else { return or_bytes(&self.told(Told::Time)) };
        let tie = if self.tells_writers() { or_bytes("NULL") } else { bytes };
        // NULL is before anything.
        let (greater, less, null, some) = match resolve {
            Resolve::First => ("<", ">", 1, -1),
            _ => (">", "<", -1, 1),
        };
        format!(
            "CASE WHEN {value} {greater} {t}.{name} THEN 1 WHEN {value} {less} {t}.{name} THEN -1 \
             WHEN {value} IS NULL AND {t}.{name} IS NOT NULL THEN {null} \
             WHEN {value} IS NOT NULL AND {t}.{name} IS NULL THEN {some} ELSE {tie} END"
        )
    }

    /// The same by the versions alone; without a time only prefer decides.
    fn rank_by_time(&self, time: &str, t: &str, resolve: Resolve) -> String {
        let word = match resolve {
            Resolve::First => "first",
            Resolve::Node => "node",
            Resolve::Last | Resolve::Error => "last",
        };
        format!(
            "pgcanon.rank({time}, {}, {t}.xmin, {}, {}, '{word}')",
            self.told(Told::Origin),
            literal(self.ground.peer.as_str()),
            self.preferred(),
        )
    }

    fn preferred(&self) -> String {
        literal(self.ground.conflict.prefer.as_ref().map_or("", NodeName::as_str))
    }

    /// Whether the peer knows who wrote a row, and it matters although a column tells versions apart.
    fn tells_writers(&self) -> bool {
        self.ground.conflict.prefer.is_some() && self.ground.keeps_times
    }

    /// Whether the change comes from who made it: what others say of it again is decided about where it comes first.
    fn is_news(&self) -> bool {
        !matches!(self.head.extra, Extra::Version | Extra::Told)
    }

    /// Whether the version of a row that goes out again goes with it.
    fn tells_versions(&self) -> bool {
        self.number.is_none() || self.tells_writers()
    }

    /// How a deletion stands to others. Who deletes has seen what was there before: it is never the first version of anything.
    fn deleting(&self) -> Resolve {
        match self.ground.conflict.resolve {
            Resolve::First => Resolve::Last,
            other => other,
        }
    }

    /// Time and origin of a row called `t`, as far as they are known.
    fn version(&self, t: &str) -> String {
        match self.ground.keeps_times {
            true => format!("pgcanon.version({t}.xmin, {}) AS v", literal(self.ground.peer.as_str())),
            false => "(SELECT NULL::pg_catalog.timestamptz, NULL::pg_catalog.text) AS v(at, origin)".to_owned(),
        }
    }

    /// Whether a row has the image's key.
    fn same_key(&self) -> String {
        self.list(" AND ", Column::is_key, Column::same)
    }

    /// Whether a row has a value of another unique key that the image has.
    fn rival(&self) -> Option<String> {
        let column = |name: &String| self.columns.iter().find(|column| column.head.name == *name);
        let same = |names: &Vec<String>| {
            let all: Option<Vec<String>> = names.iter().map(|name| column(name).map(Column::same)).collect();
            all.map(|all| format!("({})", all.join(" AND ")))
        };
        let all: Vec<String> = self.ground.rivals.iter().filter_map(same).collect();
        (!all.is_empty()).then(|| format!("({}) AND NOT ({})", all.join(" OR "), self.same_key()))
    }

    /// All of the image's row.
    fn row(&self) -> String {
        format!("pg_catalog.record_send(ROW({}))", self.list(", ", |_| true, |c| c.plain(&c.value)))
    }

    /// The same of a row of the table.
    fn row_of_table(&self) -> String {
        let values = self.list(", ", |_| true, |c| c.plain(&format!("t.{}", c.name)));
        format!("pg_catalog.record_send(ROW({values}))")
    }

    /// As [`row_key`](crate::journal::row_key), of a row of the table.
    fn key_of_table(&self) -> String {
        let columns: Vec<String> = self.keys().into_iter().map(|c| c.plain(&format!("t.{}", c.name))).collect();
        format!("pg_catalog.substr(pg_catalog.record_send(ROW({})), 5)", columns.join(", "))
    }

    /// In the order of [`row_key`](crate::journal::row_key).
    fn keys(&self) -> Vec<&Column<'a>> {
        let mut keys: Vec<_> = self.columns.iter().filter(|column| column.is_key()).collect();
        keys.sort_by_key(|column| &column.head.name);
        keys
    }

    /// Schema and name of the table, as two values.
    fn schema_and_name(&self) -> String {
        format!("{}, {}", literal(&self.to.table.schema), literal(&self.to.table.table))
    }

    fn told(&self, what: Told) -> String {
        format!("${}", self.columns.len().saturating_add(what as usize).saturating_add(1))
    }

    fn list(&self, by: &str, which: impl Fn(&Column<'a>) -> bool, text: impl Fn(&Column<'a>) -> String) -> String {
        let all: Vec<String> = self.columns.iter().filter(|column| which(column)).map(text).collect();
        all.join(by)
    }
}
