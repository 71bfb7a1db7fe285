//! Conflicts that end the same everywhere (§8): a change takes effect where its version wins against what the peer has, and in
//! the same statement the decision is recorded, a deletion remembered, and a version that has won kept for its node to send
//! again: the one that lost does not know it, perhaps.
//!
//! Which of two versions wins hangs on the two alone, so that all nodes keep the same one in whatever order they get them.

use super::applier::{Applier, TIMESTAMPTZ};
use super::error::{ApplyError, Rejection};
use super::line::{Expect, Param};
use super::route::Destination;
use super::shape::{Act, Input, Make, Shape, Statement, TEXT};
use crate::config::{Conflict, NodeName, Resolve, ResolveBy};
use crate::journal::codec::encode_head;
use crate::journal::entry::{ColumnRole, Extra, Head, ImageColumn, Lane, Op};
use crate::journal::image::Image;
use crate::journal::{CommitTime, row_key, row_number};
use crate::sql::quote::{ident, literal};

/// Types of which a column can tell versions apart: `int2`, `int4`, `int8`, `date`, `timestamp` and `timestamptz`.
const NUMBERS: [u32; 6] = [21, 23, 20, 1082, 1114, TIMESTAMPTZ];

/// The first of the parameters behind those of the columns: time, origin, key, number, tick and ord.
const TYPES: [u32; 6] = [TIMESTAMPTZ, TEXT, 17, 20, 20, 23];

/// What brings images of one shape where conflicts are settled.
#[derive(Debug)]
pub(super) struct Settled {
    columns: Vec<Input>,
    /// Which value of the image tells the version.
    number: Option<usize>,
    insert: Vec<Statement>,
    upsert: Vec<Statement>,
    update: Vec<Statement>,
    delete: Vec<Statement>,
}

/// How versions are told apart on this peer.
pub(super) struct Ground<'a> {
    pub(super) conflict: &'a Conflict,
    pub(super) peer: &'a NodeName,
    /// The peer knows whose each row is, and as of when.
    pub(super) keeps_times: bool,
    /// Columns of each further unique key of the peer's table.
    pub(super) rivals: Vec<Vec<String>>,
}

/// Writes the statements.
struct Words<'a> {
    make: &'a Make<'a>,
    head: &'a Head,
    to: &'a Destination,
    ground: &'a Ground<'a>,
    /// The columns that travel and can be given a value.
    used: Vec<usize>,
    number: Option<usize>,
}

// === impl Settled ===

impl Settled {
    pub(super) fn new(
        make: &Make<'_>,
        to: &Destination,
        head: &Head,
        ground: &Ground<'_>,
        mut ids: impl FnMut() -> u32,
    ) -> Result<Self, String> {
        let number = match &ground.conflict.by {
            ResolveBy::CommitTime => None,
            ResolveBy::Column(name) => {
                let at = head.columns.iter().position(|column| column.name == *name);
                let at = at.ok_or_else(|| format!("column \"{name}\" of the rule's conflict does not travel"))?;
                if !make.types.get(at).is_some_and(|t| NUMBERS.contains(&t.oid)) {
                    return Err(format!("column \"{name}\" of the rule's conflict is no integer, date or time"));
                }
                Some(at)
            }
        };
        let used: Vec<usize> =
            make.of(|column| !make.own.iter().any(|own| own.generated && own.name == column.name)).collect();
        let columns = used.iter().filter_map(|at| make.input(*at)).collect();
        let oids = used.iter().filter_map(|at| make.types.get(*at)).map(|t| t.oid);
        let types: Vec<u32> = oids.chain(TYPES).collect();
        let words = Words { make, head, to, ground, used, number };
        let mut statements = |all: Option<Vec<String>>| -> Result<Vec<Statement>, String> {
            let all = all.ok_or("rows without a key")?;
            Ok(all.into_iter().map(|sql| Statement { id: ids(), sql, types: types.clone() }).collect())
        };
        Ok(Self {
            columns,
            number: number.map(|at| at.saturating_add(head.extra.width())),
            insert: statements(words.write(Act::Insert))?,
            upsert: statements(words.write(Act::Upsert))?,
            update: statements(words.write(Act::Update))?,
            delete: statements(words.delete().map(|sql| vec![words.lock(), sql]))?,
        })
    }

    fn statements(&self, act: Act) -> &[Statement] {
        match act {
            Act::Insert => &self.insert,
            Act::Upsert => &self.upsert,
            Act::Update | Act::Move => &self.update,
            Act::Delete | Act::Remove => &self.delete,
        }
    }
}

// === impl Applier ===

impl Applier {
    /// Brings one image, as far as its version wins.
    pub(super) fn settle_image(
        &mut self,
        shape: &Shape,
        settled: &Settled,
        act: Act,
        head: &Head,
        (row, image): (u32, &Image<'_>),
    ) -> Result<(), ApplyError> {
        let at = self.at(row);
        let own = self.origin().to_string();
        let (time, origin) = match head.extra {
            Extra::Version => {
                let told = image.values.first().and_then(row_number).map(CommitTime);
                let origin = image.values.get(1).and_then(|v| v.bytes);
                let origin = origin.map_or(own, |name| String::from_utf8_lossy(name).into_owned());
                // As of then the peer has it, too, and of that node.
                self.opened()?.version = told.map(|told| (told, origin.clone()));
                (told, origin)
            }
            _ => (self.opened()?.time, own),
        };
        if self.keeps_times() && time.is_none() {
            let message = "it is not known when this was committed: track_commit_timestamp was off on its node";
            return Err(self.line.fail(Rejection::own("55000", message.to_owned(), at)));
        }
        self.encode(&head.encoding)?;
        let values = image.values.get(head.extra.width()..).unwrap_or_default();
        let key = row_key(shape.columns(), values);
        let number = settled.number.and_then(|at| image.values.get(at)).and_then(row_number).map(i64::to_be_bytes);
        let time = time.map(|time| time.0.to_be_bytes());
        let (tick, ord) = at.map_or((0, 0), |at| (at.tick.0, at.ord));
        let (tick, ord) = (tick.to_be_bytes(), ord.to_be_bytes());
        let columns = settled
            .columns
            .iter()
            .map(|input| Param { value: image.values.get(input.at).and_then(|v| v.bytes), binary: !input.text });
        let binary = |value| Param { value, binary: true };
        let params: Vec<Param<'_>> = columns
            .chain([
                binary(time.as_ref().map(<[u8; 8]>::as_slice)),
                binary(Some(origin.as_bytes())),
                binary(Some(&key)),
                binary(number.as_ref().map(<[u8; 8]>::as_slice)),
                binary(Some(&tick)),
                binary(Some(&ord)),
            ])
            .collect();
        for statement in settled.statements(act) {
            let name = self.prepare(statement)?;
            self.line.execute(&name, &params, Expect::Done, at);
        }
        Ok(())
    }
}

// === impl Words ===

impl Words<'_> {
    /// The column's value among the parameters.
    fn value(&self, at: usize) -> Option<String> {
        Some(format!("${}", self.used.iter().position(|used| *used == at)?.checked_add(1)?))
    }

    /// The `n`th parameter behind those of the columns.
    fn further(&self, n: usize) -> String {
        format!("${}", self.used.len().saturating_add(n))
    }

    fn column(&self, at: usize) -> Option<&ImageColumn> {
        self.make.columns.get(at)
    }

    fn name(&self, at: usize) -> Option<String> {
        self.column(at).map(|column| ident(&column.name, "UTF8"))
    }

    fn each(&self, which: impl Fn(usize) -> bool, by: &str, text: impl Fn(usize) -> Option<String>) -> Option<String> {
        let parts: Option<Vec<String>> = self.used.iter().filter(|at| which(**at)).map(|at| text(*at)).collect();
        Some(parts?.join(by))
    }

    fn is_key(&self, at: usize) -> bool {
        self.column(at).is_some_and(|column| column.role != ColumnRole::Value)
    }

    /// Whether a row called `t` has the image's key.
    fn same_key(&self, t: &str) -> Option<String> {
        let same = self.each(
            |at| self.is_key(at),
            " AND ",
            |at| Some(format!("{t}.{} = {}", self.name(at)?, self.value(at)?)),
        )?;
        (!same.is_empty()).then_some(same)
    }

    /// Whether a row called `t` has a value of another unique key that the image has.
    fn rival(&self, t: &str) -> Option<String> {
        let by = |columns: &Vec<String>| {
            let at = |name: &String| self.make.columns.iter().position(|column| column.name == *name);
            let same = |name| at(name).and_then(|at| Some(format!("{t}.{} = {}", self.name(at)?, self.value(at)?)));
            columns.iter().map(same).collect::<Option<Vec<_>>>().map(|all| format!("({})", all.join(" AND ")))
        };
        let all: Vec<String> = self.ground.rivals.iter().filter_map(by).collect();
        (!all.is_empty()).then(|| format!("({}) AND NOT ({})", all.join(" OR "), self.same_key(t).unwrap_or_default()))
    }

    /// How the image's version stands to that of a row called `t`.
    fn rank(&self, t: &str, resolve: Resolve) -> Option<String> {
        let (row, there) = (self.row(|at| self.value(at))?, self.row(|at| Some(format!("{t}.{}", self.name(at)?)))?);
        // A clock that is set back may give two transactions of one node the same time.
        let bytes = format!("CASE WHEN {row} = {there} THEN 0 WHEN {row} > {there} THEN 1 ELSE -1 END");
        let Some(at) = self.number else {
            return Some(format!("COALESCE(NULLIF({}, 0), {bytes})", self.rank_by_time(&self.further(1), t, resolve)));
        };
        let (name, value) = (self.name(at)?, self.value(at)?);
        let (greater, less) = if resolve == Resolve::First { ("<", ">") } else { (">", "<") };
        let tie = match self.tells_writers() {
            true => format!("COALESCE(NULLIF({}, 0), {bytes})", self.rank_by_time("NULL", t, resolve)),
            false => bytes,
        };
        // NULL is before anything.
        let (null, some) = if resolve == Resolve::First { (1, -1) } else { (-1, 1) };
        Some(format!(
            "CASE WHEN {value} {greater} {t}.{name} THEN 1 WHEN {value} {less} {t}.{name} THEN -1 \
             WHEN {value} IS NULL AND {t}.{name} IS NOT NULL THEN {null} \
             WHEN {value} IS NOT NULL AND {t}.{name} IS NULL THEN {some} \
             ELSE {tie} END"
        ))
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
            self.further(2),
            literal(self.ground.peer.as_str()),
            literal(self.ground.conflict.prefer.as_ref().map_or("", NodeName::as_str)),
        )
    }

    /// All of a row, in bytes that every node makes alike.
    fn row(&self, value: impl Fn(usize) -> Option<String>) -> Option<String> {
        let cast = |at| self.column(at).is_some_and(|column| column.text).then_some("::pg_catalog.text");
        let values = self.each(|_| true, ", ", |at| Some(format!("{}{}", value(at)?, cast(at).unwrap_or_default())))?;
        Some(format!("pg_catalog.record_send(ROW({values}))"))
    }

    fn table_and_name(&self) -> (&str, String, String) {
        (&self.make.table, literal(&self.to.table.schema), literal(&self.to.table.table))
    }

    /// Deletions that win against the image.
    fn dead(&self) -> String {
        let (_, schema, table) = self.table_and_name();
        let key = self.further(3);
        let wins = match self.number {
            // NULL is before anything.
            Some(_) => format!("({n} IS NULL OR d.number >= {n})", n = self.further(4)),
            // One transaction may delete a row and make it anew: then it is there.
            None => format!("{} < 0", self.rank_by_time(&self.further(1), "d", self.deleting())),
        };
        format!(
            "dead AS (SELECT d.number, v.at, v.origin FROM pgcanon.tombstone AS d, {} \
             WHERE d.table_name = {table} AND d.key IN ({key}, '') AND d.nsp_name = {schema} AND {wins} LIMIT 1)",
            self.version("d")
        )
    }

    /// Where the image has won though nodes may know more than they tell, and the end would hang on the order of what they
    /// hear: it goes out again. Over a newer row, as who wrote that may have known the image; and, where rows are not as
    /// strong as they are new, over the deletion of another node, as it has been beaten elsewhere by what is deleted, perhaps.
    fn again(&self) -> Option<String> {
        let (table, schema, name) = self.table_and_name();
        let (same, key) = (self.same_key("t")?, self.further(3));
        let newer = match (self.number, self.ground.conflict.resolve) {
            (_, Resolve::Last | Resolve::Error) => return None,
            (Some(_), Resolve::Node) => return None,
            (Some(at), Resolve::First) => format!("t.{} > {}", self.name(at)?, self.value(at)?),
            (None, _) => format!("v.at > {}", self.further(1)),
        };
        let mut why = vec![
            format!("SELECT FROM {table} AS t, {} WHERE {same} AND {newer}", self.version("t")),
            // The transaction has said so of this row before.
            format!(
                "SELECT FROM pgcanon.echo AS e WHERE e.key = {key} AND e.table_name = {name} AND e.nsp_name = {schema}"
            ),
        ];
        if self.ground.conflict.resolve == Resolve::First {
            why.push(format!(
                "SELECT FROM pgcanon.tombstone AS d, {} WHERE d.table_name = {name} AND d.key IN ({key}, '') \
                 AND d.nsp_name = {schema} AND v.origin IS DISTINCT FROM {} \
                 AND NOT EXISTS (SELECT FROM {table} AS t WHERE {same} AND {} = 0)",
                self.version("d"),
                self.further(2),
                self.rank("t", Resolve::First)?
            ));
        }
        let version = match self.tells_versions() {
            true => format!("{}, {}, ", self.further(1), self.further(2)),
            false => String::new(),
        };
        let cast = |at| self.column(at).is_some_and(|column| column.text).then_some("::pg_catalog.text");
        let values =
            self.each(|_| true, ", ", |at| Some(format!("{}{}", self.value(at)?, cast(at).unwrap_or_default())))?;
        let why: Vec<String> = why.into_iter().map(|why| format!("EXISTS ({why})")).collect();
        Some(format!(
            " UNION ALL SELECT {}, pg_catalog.record_send(ROW(0::pg_catalog.oid, {version}{values})), {schema}, {name}, {key} \
             FROM won WHERE {}",
            self.row_head()?,
            why.join(" OR ")
        ))
    }

    /// Whether the peer knows who wrote a row, and it matters although a column tells versions apart.
    fn tells_writers(&self) -> bool {
        self.ground.conflict.prefer.is_some() && self.ground.keeps_times
    }

    /// Whether the version of a row that goes out again goes with it.
    fn tells_versions(&self) -> bool {
        self.by_time() || self.tells_writers()
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

    /// The statements for a row that is there now.
    fn write(&self, act: Act) -> Option<Vec<String>> {
        let (table, ..) = self.table_and_name();
        let (same, dead) = (self.same_key("t")?, self.dead());
        let names = self.each(|_| true, ", ", |at| self.name(at))?;
        let values = self.each(|_| true, ", ", |at| self.value(at))?;
        let key = self.each(|at| self.is_key(at), ", ", |at| self.name(at))?;
        let sets = |at: usize| {
            let own = |column: &ImageColumn| self.make.own.iter().any(|own| own.name == column.name);
            self.column(at).is_some_and(|column| !self.is_key(at) && !own(column))
        };
        let set = self.each(sets, ", ", |at| self.name(at).map(|n| format!("{n} = EXCLUDED.{n}")))?;
        let set = if set.is_empty() {
            self.each(|at| self.is_key(at), ", ", |at| self.name(at).map(|n| format!("{n} = EXCLUDED.{n}")))?
        } else {
            set
        };
        let rank = self.rank("t", self.ground.conflict.resolve)?;
        let (rival, mut before) = (self.rival("t"), Vec::new());
        let beaten = match &rival {
            None => String::new(),
            Some(rival) => {
                let beaten = format!("EXISTS (SELECT FROM {table} AS t WHERE {rival} AND {rank} < 0)");
                before = self.rivalry(rival, &beaten)?;
                format!(" AND NOT {beaten}")
            }
        };
        let won = format!(
            "won AS (INSERT INTO {table} AS t ({names}) OVERRIDING SYSTEM VALUE SELECT {values} \
             WHERE NOT EXISTS (SELECT FROM dead){beaten} \
             ON CONFLICT ({key}) DO UPDATE SET {set} WHERE {rank} >= 0 \
             RETURNING CASE WHEN t.xmax = 0 THEN {} END)",
            self.outlives()
        );
        let stands = match rival {
            Some(rival) => format!("(({same}) OR ({rival}))"),
            None => same.clone(),
        };
        // Its node may have got it from another one, and then it is not what has won.
        let other = match self.number {
            Some(_) => String::new(),
            None => {
                let row = self.row(|at| self.value(at))?;
                let there = self.row(|at| Some(format!("t.{}", self.name(at)?)))?;
                format!(" AND NOT ({} = v.at AND {row} = {there})", self.further(1))
            }
        };
        let mut loses = format!("{rank} < 0");
        if self.ground.conflict.resolve == Resolve::First {
            // It is dead, and who sent it does not know what came after, perhaps.
            loses = format!("({loses} OR {same} AND EXISTS (SELECT FROM dead))");
        }
        let here = self.here(&format!("{stands} AND NOT EXISTS (SELECT FROM won) AND {loses}{other}"))?;
        let nothing =
            "SELECT NULL::pg_catalog.jsonb AS row, NULL::pg_catalog.timestamptz AS at, NULL::pg_catalog.text AS origin";
        let (kind, applied) = match act {
            Act::Insert => {
                ("insert_exists", Some(("insert_exists", "was AS w WHERE EXISTS (SELECT FROM won)".to_owned())))
            }
            Act::Update => {
                let missed = format!("EXISTS (SELECT FROM won) AND NOT EXISTS (SELECT FROM {table} AS t WHERE {same})");
                ("update_differs", Some(("update_missing", format!("({nothing} WHERE {missed}) AS w"))))
            }
            _ => ("update_differs", None),
        };
        let was = match act {
            Act::Insert => format!(
                "was AS (SELECT pg_catalog.to_jsonb(t) AS row, v.at, v.origin FROM {table} AS t, {} WHERE {same}), ",
                self.version("t")
            ),
            _ => String::new(),
        };
        let lost = self.record(
            &format!("CASE WHEN h.row IS NULL AND EXISTS (SELECT FROM dead) THEN 'deleted' ELSE '{kind}' END"),
            "'kept'",
            "h",
            "(VALUES (1)) AS one(x) LEFT JOIN here AS h ON true WHERE NOT EXISTS (SELECT FROM won)",
        )?;
        let won_over = match applied {
            None => String::new(),
            Some((kind, from)) => {
                format!(" UNION ALL {}", self.record(&format!("'{kind}'"), "'applied'", "w", &from)?)
            }
        };
        let (row_head, grave_head) = (self.row_head()?, self.grave_head()?);
        let main = format!(
            "WITH {dead}, {won}, {was}{here}, told AS ({INTO_CONFLICT} {lost}{won_over}) \
             INSERT INTO pgcanon.echo (head, image, nsp_name, table_name, key) \
             SELECT {grave_head}, {}, NULL, NULL, NULL::pg_catalog.bytea FROM dead AS d WHERE NOT EXISTS (SELECT FROM won) \
             UNION ALL SELECT {row_head}, h.image, NULL, NULL, NULL FROM here AS h{}",
            self.grave_image()?,
            self.again().unwrap_or_default()
        );
        before.push(main);
        Some(before)
    }

    /// Rows that have values of other unique keys go where the image wins against all of them; where it does not, the row of
    /// its own key goes, as the image has taken its place and has lost.
    fn rivalry(&self, rival: &str, beaten: &str) -> Option<Vec<String>> {
        let (table, schema, name) = self.table_and_name();
        let (same, rank) = (self.same_key("t")?, self.rank("t", self.ground.conflict.resolve)?);
        let own_beaten = format!("EXISTS (SELECT FROM {table} AS t WHERE {same} AND {rank} < 0)");
        let key_of = self.key_of("t")?;
        let number = match self.number {
            Some(_) => self.further(4),
            None => "NULL".to_owned(),
        };
        let delete = |which: String| {
            format!(
                "WITH gone AS (DELETE FROM {table} AS t WHERE {which} RETURNING {key_of} AS key, pg_catalog.to_jsonb(t) AS row), \
                 told AS ({INTO_CONFLICT} {}) \
                 INSERT INTO pgcanon.tombstone (nsp_name, table_name, key, number) SELECT {schema}, {name}, g.key, {number} FROM gone AS g",
                self.record(
                    "'unique'",
                    "'applied'",
                    "g",
                    "(SELECT row, NULL::pg_catalog.timestamptz AS at, NULL::pg_catalog.text AS origin FROM gone) AS g"
                )
                .unwrap_or_default(),
            )
        };
        let dead = self.dead();
        let first = delete(format!("{rival} AND NOT {beaten} AND NOT {own_beaten} AND NOT EXISTS (SELECT FROM dead)"));
        let second = delete(format!("{same} AND {rank} >= 0 AND {beaten}"));
        Some(vec![first.replacen("WITH ", &format!("WITH {dead}, "), 1), second])
    }

    /// Whether a row that has been made is dead by now.
    fn outlives(&self) -> String {
        let (_, schema, table) = self.table_and_name();
        let resolve = match (self.number, self.deleting()) {
            (Some(_), _) => "NULL",
            (None, Resolve::Node) => "'node'",
            (None, _) => "'last'",
        };
        let Conflict { prefer, .. } = self.ground.conflict;
        format!(
            "pgcanon.outlives({schema}, {table}, {}, {}, {}, {}, {}, {}, {resolve})",
            self.further(3),
            self.further(1),
            self.further(2),
            self.further(4),
            literal(self.ground.peer.as_str()),
            literal(prefer.as_ref().map_or("", NodeName::as_str)),
        )
    }

    /// Before a deletion looks for its row.
    fn lock(&self) -> String {
        format!("SELECT pgcanon.lock_key({})", self.further(3))
    }

    /// The statement for a row that is gone.
    fn delete(&self) -> Option<String> {
        let (table, schema, name) = self.table_and_name();
        let same = self.same_key("t")?;
        let rank = match self.number {
            Some(at) => {
                let (column, value) = (self.name(at)?, self.value(at)?);
                format!("CASE WHEN {value} >= t.{column} OR t.{column} IS NULL THEN 1 ELSE -1 END")
            }
            None => {
                // What comes again of a deletion by itself must not undo what its transaction has made anew.
                let same = if self.head.extra == Extra::Version { -1 } else { 0 };
                let rank = self.rank_by_time(&self.further(1), "t", self.deleting());
                format!("COALESCE(NULLIF({rank}, 0), {same})")
            }
        };
        let here = self.here(&format!("{same} AND NOT EXISTS (SELECT FROM gone)"))?;
        let lost = self.record("'delete_differs'", "'kept'", "h", "here AS h")?;
        let key = self.further(3);
        let (stale, loses) = match self.ground.conflict.resolve {
            Resolve::Last | Resolve::Error => (String::new(), " WHERE NOT EXISTS (SELECT FROM here)"),
            // What its transaction has made itself is not to go out again. And rows that come later may be weaker than the one
            // that stands, and are no less dead for that.
            _ => (
                format!(
                    "stale AS (DELETE FROM pgcanon.echo AS e USING gone AS g WHERE g.own AND e.key = {key} \
                     AND e.table_name = {name} AND e.nsp_name = {schema}), "
                ),
                "",
            ),
        };
        Some(format!(
            "WITH gone AS (DELETE FROM {table} AS t WHERE {same} AND {rank} >= 0 \
                 RETURNING t.xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid AS own), {here}, {stale}\
             told AS ({INTO_CONFLICT} {lost}), \
             grave AS (INSERT INTO pgcanon.tombstone (nsp_name, table_name, key, number) \
                 SELECT {schema}, {name}, {key}, {}{loses}) \
             INSERT INTO pgcanon.echo (head, image) SELECT {}, h.image FROM here AS h",
            self.further(4),
            self.row_head()?,
        ))
    }

    /// The rows that have won against the image.
    fn here(&self, which: &str) -> Option<String> {
        let version = if self.tells_versions() { "v.at, v.origin, " } else { "" };
        let cast = |at| self.column(at).is_some_and(|column| column.text).then_some("::pg_catalog.text");
        let columns =
            self.each(|_| true, ", ", |at| Some(format!("t.{}{}", self.name(at)?, cast(at).unwrap_or_default())))?;
        Some(format!(
            "here AS (SELECT pg_catalog.to_jsonb(t) AS row, \
             pg_catalog.record_send(ROW(0::pg_catalog.oid, {version}{columns})) AS image, v.at, v.origin \
             FROM {} AS t, {} WHERE {which})",
            self.make.table,
            self.version("t")
        ))
    }

    /// A decision, where `stored` is called so.
    fn record(&self, kind: &str, decision: &str, stored: &str, from: &str) -> Option<String> {
        let (_, schema, table) = self.table_and_name();
        let incoming = self.each(|_| true, ", ", |at| Some(format!("{} AS {}", self.value(at)?, self.name(at)?)))?;
        Some(format!(
            "SELECT {}, {}, {}, {schema}, {table}, {kind}, {decision}, {stored}.row, \
             (SELECT pg_catalog.to_jsonb(i) FROM (SELECT {incoming}) AS i), {stored}.origin, {stored}.at, {} FROM {from}",
            self.further(2),
            self.further(5),
            self.further(6),
            self.further(1),
        ))
    }

    /// As [`row_key`], of a row called `t`.
    fn key_of(&self, t: &str) -> Option<String> {
        let mut keys: Vec<usize> = self.used.iter().copied().filter(|at| self.is_key(*at)).collect();
        keys.sort_by_key(|at| self.column(*at).map(|column| column.name.clone()));
        let cast = |at| self.column(at).is_some_and(|column| column.text).then_some("::pg_catalog.text");
        let columns: Option<Vec<String>> = keys
            .into_iter()
            .map(|at| Some(format!("{t}.{}{}", self.name(at)?, cast(at).unwrap_or_default())))
            .collect();
        Some(format!("pg_catalog.substr(pg_catalog.record_send(ROW({})), 5)", columns?.join(", ")))
    }

    fn by_time(&self) -> bool {
        self.number.is_none()
    }

    /// What an entry with the row of the peer is headed with there.
    fn row_head(&self) -> Option<String> {
        let role = |role| if role == ColumnRole::Value { role } else { ColumnRole::KeyValue };
        let columns = self.used.iter().filter_map(|at| self.column(*at));
        let columns = columns.map(|c| ImageColumn { role: role(c.role), ..c.clone() }).collect();
        self.head_of(Op::Upsert, self.tells_versions(), columns)
    }

    /// The columns that an image of what is gone has behind its key: whoever has a newer row is to tell all of it.
    fn beside_key(&self) -> impl Iterator<Item = usize> {
        self.used.iter().copied().filter(|at| !self.is_key(*at))
    }

    /// The same where it is gone: its key, in the order of [`row_key`], and nothing but the number of its version.
    fn grave_head(&self) -> Option<String> {
        let keys = self.used.iter().filter(|at| self.is_key(**at)).filter_map(|at| self.column(*at));
        let mut columns: Vec<ImageColumn> = keys.map(|c| ImageColumn { role: ColumnRole::Key, ..c.clone() }).collect();
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns.extend(self.beside_key().filter_map(|at| self.column(at)).cloned());
        self.head_of(Op::Delete, self.by_time(), columns)
    }

    fn head_of(&self, op: Op, version: bool, columns: Vec<ImageColumn>) -> Option<String> {
        let head = Head {
            lane: Lane::Row,
            op,
            schema: self.to.table.schema.clone(),
            table: self.to.table.table.clone(),
            encoding: "UTF8".to_owned(),
            columns,
            extra: if version { Extra::Version } else { Extra::None },
            text: None,
            rows: Some(1),
            ..self.head.clone()
        };
        let bytes = encode_head(&head).ok()?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("'\\x{hex}'::pg_catalog.bytea"))
    }

    /// The image of what is gone: `dead` is called `d`.
    fn grave_image(&self) -> Option<String> {
        let field = |oid: u32, len: i32| format!("'\\x{oid:08x}{len:08x}'::pg_catalog.bytea || ");
        let values = self.used.len().checked_add(if self.by_time() { 3 } else { 1 })?;
        let mut image =
            format!("'\\x{values:08x}'::pg_catalog.bytea || {}'\\x00000000'::pg_catalog.bytea", field(26, 4));
        if self.by_time() {
            image.push_str(&format!(
                " || {}pg_catalog.timestamptz_send(d.at) || '\\x{TEXT:08x}'::pg_catalog.bytea \
                 || pg_catalog.int4send(pg_catalog.octet_length(d.origin)) || pg_catalog.convert_to(d.origin, 'UTF8')",
                field(TIMESTAMPTZ, 8)
            ));
        }
        image.push_str(&format!(" || {}", self.further(3)));
        for at in self.beside_key() {
            let oid = self.make.types.get(at)?.oid;
            let null = format!("'\\x{oid:08x}ffffffff'::pg_catalog.bytea");
            if self.number != Some(at) {
                image.push_str(&format!(" || {null}"));
                continue;
            }
            let (len, send) = match oid {
                21 => (2, "pg_catalog.int2send(d.number::pg_catalog.int2)"),
                23 | 1082 => (4, "pg_catalog.int4send(d.number::pg_catalog.int4)"),
                _ => (8, "pg_catalog.int8send(d.number)"),
            };
            image.push_str(&format!(" || COALESCE({}{send}, {null})", field(oid, len)));
        }
        Some(image)
    }
}

const INTO_CONFLICT: &str = "INSERT INTO pgcanon.conflict (origin, tick, ord, nsp_name, table_name, kind, decision, stored, \
    incoming, stored_origin, stored_time, incoming_time)";
