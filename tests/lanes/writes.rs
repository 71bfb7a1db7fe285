//! The productions: UPDATE, DELETE, INSERT and what else writes.

use crate::grammar::Maker;
use crate::pieces::{LOOSE, MAY, NO, PINS, SETS, SPECIAL, TARGETS, TYPES, TYPES_OF_ROW, YES};

impl Maker<'_> {
    pub(crate) fn write(&mut self) -> String {
        match self.rng.below(46) {
            40..=44 => self.typed(),
            45 => self.current(),
            0..=13 => self.update(),
            14..=18 => self.delete(),
            19..=26 => self.insert(),
            27 | 28 => self.upsert(),
            29 | 30 => self.composite(),
            31 => self.quoted(),
            32 => self.partitioned(),
            33 => self.keyless(),
            34 => self.special(),
            35 => self.moving(),
            36 => self.merge(),
            37 | 38 => self.with(),
            _ => self.truncate(),
        }
    }

    fn condition(&mut self, reference: &str) -> String {
        let text = match self.rng.below(10) {
            0..=5 => self.piece(PINS),
            6 => {
                self.rows = 2;
                self.piece(&[
                    ("id in (7, 11)", YES),
                    ("id in (4, 5) and a > 0", YES),
                    ("@.id in (8, 9)", YES),
                    ("a > 0 and id in (12, 13)", YES),
                ])
            }
            _ => self.piece(LOOSE),
        };
        text.replace("@.", &format!("{reference}."))
    }

    fn update(&mut self) -> String {
        let (target, reference) = *self.rng.pick(TARGETS);
        let mut sets = self.piece(SETS);
        if !sets.contains("r = ") && !sets.contains("s = ") && self.rng.one_in(4) {
            let more =
                self.piece(&[("r = {i}", YES), ("s = 'more'", YES), ("r = random()", NO), ("s = left(b, 5)", YES)]);
            sets = format!("{sets}, {more}");
        }
        let sets = sets.replace("k_ref", reference);
        if self.rng.one_in(8) {
            self.note(NO);
            let from = *self.rng.pick(&[
                "plain.src z",
                "(select * from plain.src) z",
                "plain.src z join plain.src y using (id)",
                "(values (1), (2)) z(id)",
            ]);
            let returning =
                if self.rng.one_in(3) { format!(" returning {reference}.id, z.id as other") } else { String::new() };
            return format!(
                "update {target} set {sets} from {from} where {reference}.id = z.id and z.id < 4{returning}"
            );
        }
        let condition = self.condition(reference);
        let returning = self.returning(reference);
        format!("update {target} set {sets} where {condition}{returning}")
    }

    fn delete(&mut self) -> String {
        let (target, reference) = *self.rng.pick(TARGETS);
        if self.rng.one_in(5) {
            self.note(NO);
            let using = *self.rng.pick(&[
                "plain.src z",
                "k2 z0, plain.src z",
                "(select 4 as id) z",
                "lateral (select 5 as id) z",
            ]);
            return format!("delete from {target} using {using} where {reference}.id = z.id and z.id > 3 and z.id < 7");
        }
        let condition = self.condition(reference);
        let returning = self.returning(reference);
        format!("delete from {target} where {condition}{returning}")
    }

    fn insert(&mut self) -> String {
        let rows = if self.rng.one_in(3) { self.rng.below(3) + 2 } else { 1 };
        self.rows = rows;
        let target = *self.rng.pick(&["k", "public.k", "\"k\"", "k as t", "public.k as \"T t\""]);
        let reference = if target.contains(" as t") {
            "t"
        } else if target.contains("\"T t\"") {
            "\"T t\""
        } else {
            "k"
        };
        let columns = self.rng.below(6);
        // column `f` has a stable-looking default that is a constant of a time type: rows or text, as it is read
        let (list, one): (&str, &[&[crate::grammar::Piece]]) = match columns {
            0 => (
                "id, a",
                &[&[
                    ("{i}", YES),
                    ("null", YES),
                    ("1 + {i}", YES),
                    ("abs(-5)", YES),
                    ("default", MAY),
                    ("random()::int", NO),
                    ("(select 5)", NO),
                ]],
            ),
            1 => (
                "id, b",
                &[&[
                    ("{t}", YES),
                    ("'a' || 'b'", YES),
                    ("upper('x')", YES),
                    ("default", MAY),
                    ("now()::text", NO),
                    ("current_user", NO),
                    ("shout('x')", NO),
                ]],
            ),
            2 => (
                "id, c, bo",
                &[
                    &[("1.25", YES), ("'1.5'", YES), ("2 * 3", YES)],
                    &[("true", YES), ("null", YES), ("1 > 2", YES), ("'t'", YES)],
                ],
            ),
            3 => (
                "id, f",
                &[&[
                    ("null", MAY),
                    ("'2020-02-02'", NO),
                    ("now()", NO),
                    ("'now'", NO),
                    ("current_timestamp", NO),
                    ("default", MAY),
                ]],
            ),
            4 => (
                "id, d, e",
                &[&[("'{\"a\": 1}'", YES), ("null", YES)], &[("'{1,2}'", YES), ("array[1,2]", MAY), ("null", YES)]],
            ),
            _ => (
                "\"id\", S, h",
                &[&[("'s'", YES), ("null", YES)], &[("'\\x00'", YES), ("null", YES), ("md5('x')::bytea", MAY)]],
            ),
        };
        if columns != 3 {
            self.note(MAY); // the omitted `f`: see above
        }
        let tuples: Vec<String> = (0..rows)
            .map(|_| {
                let id = self.filled("{new}");
                let values: Vec<String> = one.iter().map(|pieces| self.piece(pieces)).collect();
                format!("({id}, {})", values.join(", "))
            })
            .collect();
        // the server takes nothing but nulls under each other for text
        let selects: Vec<String> = tuples
            .iter()
            .map(|tuple| format!("select {}", tuple[1..tuple.len() - 1].replace("null", "null::int")))
            .collect();
        let source = if columns < 2
            && self.rng.one_in(6)
            && tuples.iter().all(|tuple| !tuple.contains("default") && !tuple.contains('$'))
        {
            self.note(NO);
            selects.join(" union all ")
        } else {
            format!("values {}", tuples.join(", "))
        };
        let conflict = match self.rng.below(6) {
            0 => " on conflict do nothing",
            1 => " on conflict (id) do nothing",
            _ => "",
        };
        if !conflict.is_empty() && rows > 1 {
            self.note(NO);
        }
        let returning = self.returning(reference);
        format!("insert into {target} ({list}) {source}{conflict}{returning}")
    }

    fn upsert(&mut self) -> String {
        let there = self.rng.one_in(2);
        let id = self.filled(if there { "{id}" } else { "{new}" });
        let several = self.rng.one_in(4);
        self.note(if several { NO } else { MAY }); // the omitted `f`
        let more = if several { ", (2000000, 1, 'x')" } else { "" };
        let target = *self.rng.pick(&["k", "k as t", "public.k"]);
        let own = if target.ends_with(" t") { "t" } else { "k" };
        let arbiter = *self.rng.pick(&["(id)", "(\"id\")", "on constraint k_pkey", "(id) where true"]);
        let set = self.piece(&[
            ("a = excluded.a", YES),
            ("a = @.a + excluded.a", YES),
            ("a = @.a + 1, b = excluded.b", YES),
            ("b = @.b || 'x'", YES),
            ("a = default", MAY),
            ("b = now()::text", NO),
            ("(a, b) = (excluded.a, excluded.b)", MAY),
            ("(a, b) = (select 1, 'x')", NO),
            ("a = (random() * 5)::int", NO),
            ("e[1] = 4", NO),
            ("f = excluded.f", MAY),
            ("a = case when @.a > 5 then 0 else excluded.a end", YES),
            ("r = extract(epoch from now())", NO),
        ]);
        let filter = self.piece(&[
            ("", YES),
            ("", YES),
            (" where @.a > 5", YES),
            (" where @.b is distinct from excluded.b", YES),
            (" where now() > '2000-01-01'", NO),
        ]);
        let (set, filter) = (set.replace("@.", &format!("{own}.")), filter.replace("@.", &format!("{own}.")));
        let t = self.filled("{t}");
        let returning = self.returning(own);
        format!(
            "insert into {target} (id, a, b) values ({id}, 5, {t}){more} on conflict {arbiter} do update set {set}{filter}{returning}"
        )
    }

    fn composite(&mut self) -> String {
        if self.rng.one_in(4) {
            let id = self.filled("{new}");
            let set = self.piece(&[
                ("v = k2.v + 1", YES),
                ("w = {t}", YES),
                ("v = k2.v * 2, w = k2.w || 'x'", YES),
                ("w = random()::text", NO),
            ]);
            return format!("insert into k2 (x, y, v) values ({id}, 'new', 1) on conflict (x, y) do update set {set}");
        }
        let delete = self.rng.one_in(3);
        let set = if delete {
            String::new()
        } else {
            self.piece(&[
                ("v = v + 1", YES),
                ("w = {t}", YES),
                ("v = v * 2, w = w || 'x'", YES),
                ("w = random()::text", NO),
                ("v = default", MAY),
                ("w = null", YES),
            ])
        };
        let pin = self.piece(&[
            ("x = 5 and y = 'y2'", YES),
            ("y = 'y1' and x = 7", YES),
            ("x in (5, 8) and y = 'y2'", MAY),
            ("(x, y) = (5, 'y2')", MAY),
            ("x = 5", NO),
            ("y = 'y1'", NO),
            ("x > 25 and y = 'y0'", NO),
            ("x = 6 and y = 'y0' and v >= 0", YES),
            ("k2.x = 9 and k2.y = 'y0'", YES),
            ("x = 4 and y = 'y1' and w <> now()::text", NO),
            ("x = {id} and y = 'y' || 1", MAY),
        ]);
        if delete { format!("delete from k2 where {pin}") } else { format!("update k2 set {set} where {pin}") }
    }

    fn quoted(&mut self) -> String {
        let (target, reference) = *self.rng.pick(&[
            ("\"Quo ted\"", "\"Quo ted\""),
            ("public.\"Quo ted\"", "\"Quo ted\""),
            ("\"Quo ted\" as \"A b\"", "\"A b\""),
            ("U&\"Quo\\0020ted\"", "U&\"Quo\\0020ted\""),
        ]);
        if target.starts_with('U') {
            self.note(MAY);
        }
        if self.rng.one_in(4) {
            let id = self.filled("{new}");
            return format!(
                "insert into {target} (\"Id\", \"sel ect\") values ({id}, 'x') returning \"sel ect\" as \"a\"\"b\""
            );
        }
        let delete = self.rng.one_in(3);
        let set = if delete {
            String::new()
        } else {
            self.piece(&[
                ("\"sel ect\" = {t}", YES),
                ("\"ünï\" = \"ünï\" + 1", YES),
                ("\"sel ect\" = now()::text", NO),
                ("\"ünï\" = \"ünï\" + 1, \"sel ect\" = \"sel ect\" || 'x'", YES),
            ])
        };
        let pin = self.piece(&[
            ("\"Id\" = {id}", YES),
            ("@.\"Id\" = {id}", YES),
            ("\"Id\" < 4", NO),
            ("\"Id\" = 5 and \"ünï\" >= 0", YES),
        ]);
        let pin = pin.replace("@.", &format!("{reference}."));
        if delete {
            format!("delete from {target} where {pin}")
        } else {
            format!("update {target} set {set} where {pin} returning \"ünï\"")
        }
    }

    fn partitioned(&mut self) -> String {
        let table = *self.rng.pick(&["par", "public.par", "par_0", "par_x"]);
        if table.contains('_') {
            self.note(MAY);
        }
        match self.rng.below(5) {
            0 => {
                let id = self.filled("{new}");
                self.note(NO);
                return format!(
                    "insert into {table} values ({id}, {}, now()::text)",
                    if table == "par_x" { 7 } else { 1 }
                );
            }
            1 => {
                self.note(NO);
                let from = self.rng.below(1_000_000) + 100;
                return format!("insert into par (id, at, v) select {from} + i, i, 'v' from generate_series(0, 2) i");
            }
            _ => {}
        }
        let set = if self.rng.one_in(3) {
            String::new()
        } else {
            self.piece(&[
                ("v = v || 'x'", YES),
                ("v = {t}", YES),
                ("v = random()::text", NO),
                ("at = at + 1", MAY),
                ("at = 1, v = 'm'", MAY),
            ])
        };
        self.refusable |= set.starts_with("at");
        let pin = self.piece(&[
            ("id = 3 and at = 0", YES),
            ("id = 4 and at = 1", YES),
            ("id = 5 and at = 2", YES),
            ("id = 6", NO),
            ("at = 1 and id < 9", NO),
            ("id < 9", NO),
        ]);
        if set.is_empty() {
            format!("delete from {table} where {pin}")
        } else {
            format!("update {table} set {set} where {pin}")
        }
    }

    fn keyless(&mut self) -> String {
        self.refusable = true;
        let i = self.rng.below(50);
        let (sql, provable) = match self.rng.below(9) {
            0 => (format!("insert into nk values ({i}, 'x')"), MAY),
            1 => (format!("insert into nk (a) values ({i}), (2), (3)"), MAY),
            2 => ("insert into nk select id, v from plain.src limit 3".to_owned(), NO),
            3 => (format!("update nk set b = 'u{i}' where a = {i}"), NO),
            4 => ("update nk set a = a + 1 where a = 3".to_owned(), NO),
            5 => (format!("delete from nk where a = {i}"), NO),
            6 => ("delete from nk where b like 'b1%'".to_owned(), NO),
            7 => ("update nk set b = random()::text where a = 1".to_owned(), NO),
            _ => ("delete from nk where a in (select a from nk limit 1)".to_owned(), NO),
        };
        self.note(provable);
        sql
    }

    /// A column of each type in turn.
    fn typed(&mut self) -> String {
        let insert = self.rng.one_in(3);
        let mut given: Vec<(&str, String)> = Vec::new();
        for _ in 0..self.rng.below(2) + 1 {
            let from = if insert || self.rng.one_in(2) { TYPES } else { TYPES_OF_ROW };
            let (column, value, provable) = *self.rng.pick(from);
            let base = |column: &str| column.split(['.', '[']).next().unwrap_or_default().to_owned();
            if given.iter().all(|(other, _)| base(other) != base(column)) {
                self.note(provable);
                let value = self.filled(value);
                given.push((column, value));
            }
        }
        if insert {
            let id = self.filled("{new}");
            let columns: Vec<&str> = given.iter().map(|(column, _)| *column).collect();
            let values: Vec<&str> = given.iter().map(|(_, value)| value.as_str()).collect();
            let returning = self.returning("ty");
            return format!(
                "insert into ty (id, {}) values ({id}, {}){returning}",
                columns.join(", "),
                values.join(", ")
            );
        }
        let set: Vec<String> = given.iter().map(|(column, value)| format!("{column} = {value}")).collect();
        let pin = self.piece(&[("id = {id}", YES), ("id < 5", NO), ("id = {id} and sm is null", YES)]);
        let returning = self.returning("ty");
        format!("update ty set {} where {pin}{returning}", set.join(", "))
    }

    /// The row that a cursor stands on.
    fn current(&mut self) -> String {
        self.note(NO);
        let more = *self.rng.pick(&["", " order by id", " where id > 9", " for update"]);
        self.cursor =
            Some(format!("declare c cursor for select * from k{more}; fetch {} from c", self.rng.below(5) + 1));
        let returning = self.returning("k");
        if self.rng.one_in(3) {
            return format!("delete from k where current of c{returning}");
        }
        let sets = self.piece(SETS).replace("k_ref", "k");
        format!("update k set {sets} where current of c{returning}")
    }

    fn special(&mut self) -> String {
        self.piece(SPECIAL)
    }

    fn moving(&mut self) -> String {
        self.refusable = true;
        let new = self.rng.below(1_000_000) + 100;
        match self.rng.below(5) {
            0 => {
                let id = self.filled("{id}");
                self.note(YES);
                format!("update k set id = {new} where id = {id}")
            }
            1 => {
                self.note(MAY);
                format!("update k2 set x = {new} where x = 5 and y = 'y2'")
            }
            2 => {
                self.note(NO);
                "update k set id = id + 10000 where a > 350".to_owned()
            }
            3 => {
                self.note(NO);
                format!("update k set id = {new} where a = 100")
            }
            _ => {
                self.note(MAY);
                let i = self.filled("{i}");
                format!("update uq set id = {new}, v = 'm' where u = {i} + 100")
            }
        }
    }

    fn merge(&mut self) -> String {
        self.note(NO);
        self.refusable = true;
        let source = *self.rng.pick(&[
            "plain.src s",
            "(select * from plain.src where id < 5) s",
            "(values (3, 'x', 1), (900, 'y', 2)) s(id, v, n)",
        ]);
        let matched = *self.rng.pick(&[
            "when matched then update set b = s.v",
            "when matched and s.n > 50 then delete",
            "when matched then update set a = k.a + s.n, b = now()::text",
            "when matched then do nothing",
            "when matched and k.a > 100 then update set b = 'big' when matched then delete",
        ]);
        let other = *self.rng.pick(&[
            "",
            " when not matched then insert (id, b) values (s.id + 7000, s.v)",
            " when not matched then insert (id, a) values (s.id + 8000, random()::int)",
            " when not matched then do nothing",
        ]);
        format!("merge into k using {source} on k.id = s.id {matched}{other}")
    }

    fn with(&mut self) -> String {
        self.note(NO);
        self.elsewhere = true;
        self.refusable = true;
        let (id, t) = (self.rng.below(32) + 1, format!("'t{}'", self.rng.below(100)));
        match self.rng.below(12) {
            0 => format!("with z as (select {id}::int as id) update k set a = 1 from z where k.id = z.id"),
            1 => format!("with z as (delete from k where id = {id} returning *) insert into nk select a, b from z"),
            2 => format!("with z as (delete from k where id = {id} returning id, b) select id from z"),
            3 => format!(
                "with z(i, w) as (update k set b = {t} where id = {id} returning id, b), y as (insert into ser (a, b) select i, w from z returning id) select * from y"
            ),
            4 => format!(
                "with z as (insert into ser (b) values ({t}) returning id) insert into p select id + 3000000, 'cte' from z on conflict do nothing"
            ),
            5 => format!(
                "with recursive z(n) as (select 1 union all select n + 1 from z where n < 4) update k set a = n from z where k.id = n + {id}"
            ),
            6 => format!("with z as (select 1), y as (delete from k where id = {id}) select count(*) from z"),
            7 => format!(
                "with z as materialized (select id from k where id = {id}) delete from k using z where k.id = z.id returning k.id"
            ),
            8 => format!(
                "with z as (insert into plain.sink values ({id}, {t}) returning id) update k set b = 'sunk' from z where k.id = z.id"
            ),
            9 => format!(
                "with z as (update p set v = {t} where id = {id} returning p.*) insert into plain.sink select id, v from z"
            ),
            10 => format!("with z as (select {id}::int as i) insert into p select i + 4000000, {t} from z"),
            _ => format!(
                "with z as (delete from k2 where x = {id} returning x as a, y as \"B b\") insert into nk (a, b) select a, \"B b\" from z returning *"
            ),
        }
    }

    fn truncate(&mut self) -> String {
        self.elsewhere = true;
        self.preparable = false;
        let tables = ["nk", "ser", "ident", "byd", "dflt", "ex", "k2", "trg"];
        let (a, b) = (*self.rng.pick(&tables), *self.rng.pick(&tables));
        let list = match self.rng.below(6) {
            5 => "p, kid".to_owned(),
            0 if a != b => format!("{a}, {b}"),
            1 => format!("only {a}"),
            2 => format!("{a} *"),
            3 => format!("public.{a}, plain.sink"),
            _ => a.to_owned(),
        };
        let word = *self.rng.pick(&["", " table"]);
        let end = *self.rng.pick(&[
            "",
            " restart identity",
            " continue identity",
            " cascade",
            " restrict",
            " restart identity cascade",
        ]);
        format!("truncate{word} {list}{end}")
    }
}
