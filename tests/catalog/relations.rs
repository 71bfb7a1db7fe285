//! Which relations are in the picture, by which rule they travel, their keys, and what a write to them does elsewhere.

use pgcanon::catalog::relation::{Catalog, RelationKind, Unique};

use crate::common::Pg;
use crate::{Database, find, named, names, on_15_and_18, relation};

on_15_and_18! {
    only_what_a_rule_concerns_is_in_it,
    a_partition_travels_as_its_root_unless_an_earlier_rule_names_it,
    a_child_by_inheritance_travels_under_its_own_name,
    what_leads_to_a_ruled_table_is_in_it,
    a_write_elsewhere_that_cascades_is_known,
    truncate_reaches_what_references,
    the_key_is_what_tells_rows_apart_on_every_node,
    a_unique_index_of_a_partition_counts_for_its_root,
    what_happens_after_the_statement_makes_a_table_late,
    triggers_and_rules_and_policies,
    the_shape_is_of_names_and_types,
}

/// Name, index of the rule and name of the root.
fn ways(catalog: &Catalog) -> Vec<String> {
    let mut all: Vec<String> = catalog
        .relations
        .values()
        .map(|r| {
            let root = r.root.map_or(String::new(), |root| format!(" as {}", named(catalog, &[root]).concat()));
            format!("{} {:?}{root}", r.name.table, r.rule).replace("Some(", "").replace(')', "")
        })
        .collect();
    all.sort();
    all
}

fn only_what_a_rule_concerns_is_in_it(pg: Pg) {
    let db = Database::new(
        pg,
        "only_ruled",
        "create schema shop; create table shop.orders (id int primary key); create table shop.\"Or_ders\" (id int);
         create table shop.orxders (id int); create table shop.other (id int); create table orders (id int);
         create schema pgcanon; create table pgcanon.orders (id int);
         create table shop.\"50%\" (id int); create table shop.\"50x\" (id int);
         create view shop.orderview as select 1; create sequence shop.orderseq;",
    );
    let catalog =
        db.load(&["shop.or_ders", "shop.orders", "*.Or?ders", "shop.50%", "pg_catalog.*", "information_schema.*"]);
    assert_eq!(ways(&catalog), ["50% 3", "Or_ders 2", "orders 1"]);
    assert_eq!(names(&db.load(&["*.*"])).len(), 7);
    assert_eq!(names(&db.load(&[])), [""; 0]);
    assert_eq!(catalog.server / 10000, if pg == Pg::V15 { 15 } else { 18 });
    let oids: Vec<_> = catalog.by_name.values().flatten().collect();
    assert_eq!(oids.len(), 3);
    assert_eq!(relation(&catalog, "orders").name.to_string(), "shop.orders");
}

fn a_partition_travels_as_its_root_unless_an_earlier_rule_names_it(pg: Pg) {
    let db = Database::new(
        pg,
        "partitions",
        "create table log (id int, day int, primary key (id, day)) partition by range (day);
         create table log_1 partition of log for values from (1) to (2);
         create table log_2 partition of log for values from (2) to (9) partition by list (day);
         create table log_2_2 partition of log_2 for values in (2);
         create table log_2_3 partition of log_2 for values in (3);",
    );
    let all = db.load(&["public.*"]);
    assert_eq!(ways(&all), ["log 0", "log_1 0 as log", "log_2 0 as log", "log_2_2 0 as log", "log_2_3 0 as log"]);
    let earlier = db.load(&["public.log_2", "public.log", "public.log_1"]);
    assert_eq!(ways(&earlier), ["log 1", "log_1 1 as log", "log_2 0", "log_2_2 0 as log_2", "log_2_3 0 as log_2"]);
    // The root has no rule, but writing it writes the partition.
    let below = db.load(&["public.log_2_2"]);
    assert_eq!(ways(&below), ["log None", "log_2 None", "log_2_2 0"]);
    assert_eq!(named(&below, &relation(&below, "log").covers), ["log_2_2"]);
    assert_eq!(relation(&all, "log").kind, RelationKind::Partitioned);
    let ruled = all.ruled(relation(&all, "log_2_3").oid).map(|r| r.name.table.as_str());
    assert_eq!(ruled, Some("log"));
}

fn a_child_by_inheritance_travels_under_its_own_name(pg: Pg) {
    let db = Database::new(
        pg,
        "inheritance",
        "create table animal (id int primary key); create table dog (id int primary key, bark text) inherits (animal);
         create table puppy () inherits (dog); create table stone (id int);",
    );
    let catalog = db.load(&["public.puppy", "public.animal"]);
    assert_eq!(ways(&catalog), ["animal 1", "dog 1", "puppy 0"]);
    // A parent's key does not reach its children's rows.
    let animal = relation(&catalog, "animal");
    assert_eq!(animal.key, None);
    assert_eq!(animal.uniques, [Unique { columns: vec![0], deferrable: false, special: true }]);
    let later = db.load(&["public.dog"]);
    assert_eq!(ways(&later), ["animal None", "dog 0", "puppy 0"]);
    assert_eq!(named(&later, &relation(&later, "animal").covers), ["dog", "puppy"]);
}

fn what_leads_to_a_ruled_table_is_in_it(pg: Pg) {
    let db = Database::new(
        pg,
        "views",
        "create table t (id int primary key); create table plain (id int);
         create view v as select * from t; create view vv as select * from v where id > 0;
         create materialized view m as select * from vv; create view other as select * from plain;
         create rule also as on insert to plain do also insert into t values (new.id);
         create table quiet (id int); create view pair as select 1 from quiet, t;",
    );
    let catalog = db.load(&["public.t"]);
    // A view over what leads to a ruled table leads there too.
    assert_eq!(names(&catalog), ["m", "other", "pair", "plain", "t", "v", "vv"]);
    for view in ["v", "vv", "m", "other", "plain", "pair"] {
        assert_eq!(named(&catalog, &relation(&catalog, view).covers), ["t"], "{view}");
        assert_eq!(relation(&catalog, view).rule, None);
    }
    assert_eq!(relation(&catalog, "vv").kind, RelationKind::View);
    assert_eq!(relation(&catalog, "m").kind, RelationKind::MaterializedView);
    assert!(relation(&catalog, "plain").rewrite_rule && !relation(&catalog, "v").rewrite_rule);
}

fn a_write_elsewhere_that_cascades_is_known(pg: Pg) {
    let db = Database::new(
        pg,
        "cascades",
        "create table top (id int primary key); create table middle (id int primary key references top on delete set null);
         create table bottom (id int primary key, m int references middle on update cascade);
         create table leaf (id int primary key, b int references bottom on delete cascade);
         create table safe (id int primary key); create table leaf2 (id int references safe);
         create view over as select * from top;
         create table parted (id int primary key) partition by range (id);
         create table part1 partition of parted for values from (0) to (9);
         create table of_parted (id int references parted on delete cascade);",
    );
    let catalog = db.load(&["public.leaf", "public.bottom"]);
    assert_eq!(names(&catalog), ["bottom", "leaf", "middle", "over", "top"]);
    for leading in ["top", "middle", "over"] {
        assert_eq!(named(&catalog, &relation(&catalog, leading).cascades_into), ["bottom", "leaf"], "{leading}");
        assert_eq!(relation(&catalog, leading).covers, []);
    }
    assert_eq!(relation(&catalog, "bottom").cascades_into, []);
    // Without a cascade a write stays where it is; TRUNCATE CASCADE does not.
    let catalog = db.load(&["public.leaf2"]);
    assert_eq!(names(&catalog), ["leaf2", "safe"]);
    assert_eq!(relation(&catalog, "safe").cascades_into, []);
    assert_eq!(named(&catalog, &relation(&catalog, "safe").truncates), ["leaf2"]);
    let catalog = db.load(&["public.of_parted"]);
    for leading in ["parted", "part1"] {
        assert_eq!(named(&catalog, &relation(&catalog, leading).cascades_into), ["of_parted"], "{leading}");
    }
}

fn truncate_reaches_what_references(pg: Pg) {
    let db = Database::new(
        pg,
        "truncates",
        "create table a (id int primary key, a int references a); create table b (id int primary key references a);
         create table c (id int, b int references b) partition by range (id);
         create table c1 partition of c for values from (0) to (9); create table d (id int references b);",
    );
    let catalog = db.load(&["public.a", "public.b", "public.c"]);
    let truncates = |name: &str| named(&catalog, &relation(&catalog, name).truncates);
    assert_eq!(truncates("b").len(), 2);
    assert_eq!(truncates("b").iter().filter(|n| *n == "c").count(), 1);
    assert_eq!(truncates("a").len(), 3, "{:?}", truncates("a"));
    assert_eq!(truncates("c"), [""; 0]);
}

fn the_key_is_what_tells_rows_apart_on_every_node(pg: Pg) {
    let db = Database::new(
        pg,
        "keys",
        "create table pk (x text, b int, a int, primary key (a, b), unique (x));
         create table nullable (a int unique, b int not null);
         create table second (a int unique deferrable, b int not null unique, c int not null, d int not null, unique (c, d));
         create table partial (a int not null); create unique index on partial (a) where a > 0;
         create table expression (a text not null); create unique index on expression (lower(a));
         create table excluded (a int not null, exclude using btree (a with =));
         create table deferred (a int primary key deferrable);
         create table including (a int not null, b int); create unique index on including (a) include (b);
         create table gen (a int, g int generated always as (a + 1) stored not null unique);
         create table gone (x int, a int primary key); alter table gone drop column x;
         create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         create table collated (a text collate ci not null); create unique index on collated (a collate \"C\");
         create table collated2 (a text collate ci primary key);
         create table none (a int not null);",
    );
    let catalog = db.load(&["public.*"]);
    let key = |name: &str| {
        let r = relation(&catalog, name);
        r.key.as_ref().map(|key| key.iter().map(|at| format!("{:?}", r.columns[*at].name)).collect::<String>())
    };
    for (table, expected) in [
        ("pk", Some("\"a\"\"b\"")),
        ("nullable", None),
        ("second", Some("\"b\"")),
        ("partial", None),
        ("expression", None),
        ("excluded", None),
        ("deferred", None),
        ("including", Some("\"a\"")),
        ("gen", None),
        ("gone", Some("\"a\"")),
        ("collated", None),
        ("collated2", Some("\"a\"")),
        ("none", None),
    ] {
        assert_eq!(key(table).as_deref(), expected, "{table}");
    }
    let uniques = |name: &str| relation(&catalog, name).uniques.clone();
    assert_eq!(uniques("pk").len(), 2);
    assert!(uniques("second").iter().any(|u| u.deferrable && u.columns == [0]));
    assert_eq!(uniques("expression"), [Unique { columns: vec![], deferrable: false, special: true }]);
    assert_eq!(uniques("partial"), [Unique { columns: vec![0], deferrable: false, special: true }]);
    assert!(uniques("excluded")[0].special && uniques("collated")[0].special);
    assert_eq!(uniques("none"), []);
    assert!(relation(&catalog, "deferred").deferrable && !relation(&catalog, "pk").deferrable);
}

fn a_unique_index_of_a_partition_counts_for_its_root(pg: Pg) {
    let db = Database::new(
        pg,
        "partuniques",
        "create table log (x text, id int primary key) partition by range (id);
         create table log_1 (id int not null, x text unique); alter table log attach partition log_1 for values from (1) to (2);",
    );
    let catalog = db.load(&["public.log"]);
    assert_eq!(
        relation(&catalog, "log").uniques,
        [
            Unique { columns: vec![1], deferrable: false, special: false },
            Unique { columns: vec![0], deferrable: false, special: true }
        ]
    );
}

fn what_happens_after_the_statement_makes_a_table_late(pg: Pg) {
    let db = Database::new(
        pg,
        "late",
        "create function f() returns trigger language plpgsql as 'begin return new; end';
         create table alone (id int primary key); create table parent (id int primary key);
         create table child (id int references parent deferrable);
         create table before (id int); create trigger t before insert on before for each row execute function f();
         create table after (id int); create trigger t after insert on after execute function f();
         create table off (id int); create trigger t after insert on off execute function f();
         alter table off disable trigger t;
         create table con (id int); create constraint trigger t after insert on con deferrable for each row execute function f();
         create table log (id int) partition by range (id); create table log_1 partition of log for values from (1) to (2);
         create trigger t after insert on log_1 for each row execute function f();
         create table root (id int) partition by range (id); create table root_1 partition of root for values from (1) to (2);
         create trigger t before insert on root for each row execute function f();",
    );
    let catalog = db.load(&["public.*"]);
    let late: Vec<_> = names(&catalog).into_iter().filter(|n| relation(&catalog, n).late).collect();
    assert_eq!(late, ["after", "child", "con", "log", "log_1", "parent"]);
    let deferrable: Vec<_> = names(&catalog).into_iter().filter(|n| relation(&catalog, n).deferrable).collect();
    assert_eq!(deferrable, ["child", "con", "parent"]);
    let before: Vec<_> = names(&catalog).into_iter().filter(|n| relation(&catalog, n).before_row_trigger).collect();
    assert_eq!(before, ["before", "root", "root_1"]);
}

fn triggers_and_rules_and_policies(pg: Pg) {
    let db = Database::new(
        pg,
        "triggers",
        "create table t (id int); alter table t enable row level security;
         create table r (id int); create rule r as on delete to r do instead nothing;
         create table target (id int);
         create function audit() returns trigger language plpgsql as
            $$begin insert into target values (new.id); return new; end$$;
         create table source (id int); create trigger a after insert on source for each row execute function audit();
         create table quiet (id int);",
    );
    let catalog = db.load(&["public.t", "public.r", "public.target"]);
    assert_eq!(names(&catalog), ["r", "source", "t", "target"]);
    assert!(relation(&catalog, "t").row_security && !relation(&catalog, "r").row_security);
    assert!(relation(&catalog, "r").rewrite_rule && !relation(&catalog, "t").rewrite_rule);
    let source = relation(&catalog, "source");
    assert_eq!(source.trigger_writes.as_deref(), Some("its body has INSERT INTO target"));
    assert!(source.user_trigger && source.rule.is_none());
    let catalog = db.load(&["public.quiet"]);
    assert!(find(&catalog, "source").is_none());
}

fn the_shape_is_of_names_and_types(pg: Pg) {
    let db = Database::new(
        pg,
        "shapes",
        "create table a (id int primary key, x text); create table b (x text, id int primary key);
         create table c (id int, x text primary key); create table d (id int primary key, x varchar);
         create table e (id int primary key, y text); create table f (id int primary key, x text, g int generated always as (1) stored);",
    );
    let catalog = db.load(&["public.*"]);
    let shape = |name: &str| relation(&catalog, name).shape;
    assert_eq!(shape("a"), shape("b"));
    assert_eq!(shape("a"), shape("f"));
    for other in ["c", "d", "e"] {
        assert_ne!(shape("a"), shape(other), "{other}");
    }
}
