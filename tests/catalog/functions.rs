//! Functions and operators: which are known to be immutable, which hide others, and which write.

use pgcanon::catalog::load::Named;
use pgcanon::sql::Name;

use crate::common::Pg;
use crate::{Database, on_15_and_18};

on_15_and_18! {
    built_in_functions_that_look_at_nothing_else,
    functions_and_operators_of_users_are_known_by_name,
    functions_that_write_are_found_and_the_operator_knows_better,
    a_body_of_do_is_looked_into,
}

fn built_in_functions_that_look_at_nothing_else(pg: Pg) {
    let db = Database::new(pg, "immutable", "");
    let immutable = db.load(&["public.*"]).functions.immutable;
    let has = |name: &str| immutable.contains(&Name::from(name));
    for yes in [
        "lower",
        "upper",
        "abs",
        "round",
        "char_length",
        "length",
        "substr",
        "md5",
        "jsonb_set",
        "mod",
        "btrim",
        "array_append",
        "sha256",
    ] {
        assert!(has(yes), "{yes}");
    }
    for no in [
        "now",
        "random",
        "nextval",
        "to_char",
        "concat",
        "format",
        "age",
        "date_trunc",
        "quote_ident",
        "hashtext",
        "pg_walfile_name",
        "current_setting",
        "sum",
        "count",
        "max",
        "row_number",
        "unnest",
        "generate_series",
        "interval_out",
        "byteaout",
        "xmlcomment",
        "cash_words",
        "to_timestamp",
        "no_such_function",
        "pg_typeof",
        "array_to_string",
    ] {
        assert!(!has(no), "{no}");
    }
}

fn functions_and_operators_of_users_are_known_by_name(pg: Pg) {
    let db = Database::new(
        pg,
        "userfunctions",
        "create schema app; create function app.\"Lo wer\"(text) returns text language sql as 'select $1';
         create function lower(int) returns int language sql as 'select $1';
         create function add(int, text) returns int language sql as 'select 1';
         create operator + (leftarg = int, rightarg = text, function = add); create operator app.=== (leftarg = int, rightarg = text, function = add);",
    );
    let catalog = db.load(&["public.*"]);
    let mut user: Vec<_> = catalog.functions.user.iter().copied().collect();
    user.sort();
    assert_eq!(user, ["Lo wer", "add", "lower"].map(Name::from));
    let mut operators: Vec<_> = catalog.user_operators.iter().copied().collect();
    operators.sort();
    assert_eq!(operators, ["+", "==="].map(Name::from));
}

const FUNCTIONS: &str = "
    create table orders (id int); create table other (id int);
    create function add() returns int language sql as 'insert into orders values (1) returning 1';
    create function \"Loop\"() returns void language plpgsql as $$begin for i in 1..3 loop perform add(); end loop; end$$;
    create procedure proc() language plpgsql as $$begin execute 'delete from public.orders'; end$$;
    create function dyn(t text) returns void language plpgsql as $$begin execute format('delete from %I', t); end$$;
    create function atomic() returns int begin atomic update orders set id = 2 returning 1; end;
    create function reads() returns bigint begin atomic select count(*) from orders; end;
    create function reads2() returns bigint language sql as 'select count(*) from orders';
    create function elsewhere() returns int language sql as 'insert into other values (1) returning 1';
    create function trig() returns trigger language plpgsql as $$begin insert into orders values (1); return new; end$$;";

fn functions_that_write_are_found_and_the_operator_knows_better(pg: Pg) {
    let db = Database::new(pg, "writing", FUNCTIONS);
    let writing = |named: &Named| {
        let catalog = db.load_as("postgres", &["public.orders"], named);
        let mut found: Vec<String> =
            catalog.functions.writing.values().flatten().map(|f| format!("{:?} {}", f.schema, f.why)).collect();
        found.sort();
        found
    };
    assert_eq!(
        writing(&Named::default()),
        [
            "\"public\" it calls public.add, which writes replicated tables",
            "\"public\" its body has DELETE FROM orders",
            "\"public\" its body has INSERT INTO orders",
            "\"public\" its body has a write and names a replicated table",
        ]
    );
    let named =
        Named { writing: vec!["public.dyn".into()], harmless: vec!["add".into(), "proc".into(), "atomic".into()] };
    assert_eq!(writing(&named), ["\"public\" the configuration names it as writing"]);
}

fn a_body_of_do_is_looked_into(pg: Pg) {
    let db = Database::new(pg, "bodies", FUNCTIONS);
    let catalog = db.load(&["public.orders"]);
    let writes = |body: &str| catalog.write_in(body.as_bytes());
    assert_eq!(writes("begin insert into orders values (1); end").as_deref(), Some("INSERT INTO orders"));
    assert!(writes("begin perform add(); end").is_some_and(|why| why.contains("INSERT INTO orders")));
    assert_eq!(writes("begin insert into other select * from orders; perform reads(); end"), None);
}
