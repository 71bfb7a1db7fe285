//! Every type that PostgreSQL has built in (scenario A7), its arrays, and types of the user's own.

use crate::common::Pg;
use crate::common::session::Session;
use crate::mesh::{Member, Mesh, server};

/// A type and values of it.
const KINDS: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("float4", &["1.1", "-0", "NaN", "Infinity", "1e-45", "3.4028235e+38"]),
    ("float8", &["0.1", "-0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e+308"]),
    ("numeric", &["0.00000", "-12345678901234567890.000100", "NaN", "Infinity", "1e-100"]),
    ("money", &["12.34", "-0.01"]),
    ("text", &["täxt", ""]),
    ("varchar(9)", &["vc ", ""]),
    ("bpchar(5)", &["ab", "     "]),
    ("\"char\"", &["x", ""]),
    ("name", &["a name"]),
    ("bytea", &["\\x00ff27", "\\x"]),
    ("date", &["2024-02-29", "infinity", "-infinity", "0044-03-15 BC"]),
    ("time", &["12:34:56.789", "24:00:00"]),
    ("timetz", &["01:02:03+04", "23:59:59.999999-15:59"]),
    ("timestamp", &["2024-02-29 01:02:03.000004", "infinity", "4713-01-01 00:00:00 BC"]),
    ("timestamp(0)", &["2024-02-29 01:02:03.7"]),
    ("timestamptz", &["2024-10-27 02:30:00+02", "2024-10-27 02:30:00+01", "-infinity"]),
    ("interval", &["1 mon 2 days 03:04:05", "-1 mon +1 day -00:00:00.000001", "178000000 years"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", &["{\"a\" :  1, \"a\": null}", "\"\\u00e4\""]),
    ("jsonb", &["{\"b\": [1, null, 1.10]}", "null"]),
    ("jsonpath", &["$.a[*] ? (@ > 1)"]),
    ("xml", &["<a>x &lt; y</a>", "<?pi?><b/>"]),
    ("inet", &["10.0.0.1/8", "2001:db8::1"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("bit(3)", &["101", "000"]),
    ("varbit", &["10101", ""]),
    ("point", &["(1,2.5)", "(NaN,-0)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(1,2),(3,4)]"]),
    ("box", &["(3,4),(1,2)"]),
    ("path", &["[(1,2),(3,4)]", "((1,2),(3,4))"]),
    ("polygon", &["((1,2),(3,4),(5,0))"]),
    ("circle", &["<(1,2),3>"]),
    ("int4range", &["[1,5)", "empty", "(,)"]),
    ("int8range", &["[1,9000000000)"]),
    ("numrange", &["(1.10,2.2]"]),
    ("tsrange", &["[\"2024-01-01 00:00:00\",infinity)"]),
    ("tstzrange", &["[\"2024-01-01 00:00:00+03\",)"]),
    ("daterange", &["[2024-01-01,2024-02-01)"]),
    ("int4multirange", &["{[1,3),[7,9)}", "{}"]),
    ("int8multirange", &["{[1,3),[7,9000000000)}"]),
    ("nummultirange", &["{[1.5,3.0)}"]),
    ("tsmultirange", &["{[\"2024-01-01 00:00:00\",)}"]),
    ("tstzmultirange", &["{[\"2024-01-01 00:00:00+00\",)}"]),
    ("datemultirange", &["{[2024-01-01,2024-02-01)}"]),
    ("tsvector", &["'a':1A 'cat':3 'it''s':2B"]),
    ("tsquery", &["'fat' & ( 'rat' | !'cat':AB )"]),
    ("gtsvector", &[]),
    ("pg_lsn", &["16/B374D848", "0/0"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("oid", &["42", "4294967295"]),
    ("xid", &["42", "4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("cid", &["7"]),
    ("tid", &["(1,2)"]),
    // None that is empty: the server itself cannot read the binary form that it sends of those.
    ("oidvector", &["1 2 3", ""]),
    ("int2vector", &["1 2 3", ""]),
    ("refcursor", &["a cursor"]),
    ("aclitem", &["postgres=r/postgres"]),
    ("regclass", &["pg_class", "0"]),
    ("regtype", &["integer", "text[]"]),
    ("regproc", &["now"]),
    ("regprocedure", &["abs(integer)"]),
    ("regoper", &["|/"]),
    ("regoperator", &["+(integer,integer)"]),
    ("regrole", &["postgres"]),
    ("regnamespace", &["pg_catalog"]),
    ("regconfig", &["simple"]),
    ("regdictionary", &["simple"]),
    ("regcollation", &["\"C\""]),
    ("mood", &["sad", "it's \"ok\""]),
    ("spot", &["(1,\"a,b\")", "(,)"]),
    ("short", &["short", ""]),
    ("class", &["0", "pg_type"]),
    ("odd", &["(7)"]),
    ("span", &["[1.5,2.5)"]),
    ("spans", &["{[1.5,2.5),[3,)}"]),
];

/// Types that no column of a table has, or of which nobody can write a value.
const NO_VALUES: &[&str] = &[
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "gtsvector",
];

/// Of the user's own, made in another order on the other node, so that their numbers differ.
const OWN: &[&str] = &[
    "create type mood as enum ('sad', 'it''s \"ok\"')",
    "create type spot as (x int, y text)",
    "create domain short as text check (length(value) < 20)",
    "create domain class as regclass",
    "create type odd as (x int)",
    "create type span as range (subtype = float8, multirange_type_name = spans)",
];

fn kinds() -> impl Iterator<Item = (usize, &'static str, &'static [&'static str])> {
    KINDS
        .iter()
        .enumerate()
        .filter(|(_, (_, values))| !values.is_empty())
        .map(|(n, (kind, values))| (n, *kind, *values))
}

fn tables(own: impl Iterator<Item = &'static &'static str>) -> String {
    let mut sql: Vec<String> = own.map(|sql| (*sql).to_owned()).collect();
    // What a user may make of a text; reading a value is something else.
    sql.push("create function odd(text) returns odd language sql immutable as 'select row(0)::public.odd'".to_owned());
    sql.push("create cast (text as odd) with function odd(text)".to_owned());
    sql.extend(kinds().map(|(n, kind, _)| format!("create table k_{n} (id int primary key, v {kind}, vs {kind}[])")));
    sql.join(";")
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Writes every value as a literal, as a parameter, from a query and through COPY; makes more of them, and takes some away.
fn write(s: &mut Session, (n, kind, values): (usize, &str, &[&str])) {
    let t = format!("k_{n}");
    for (i, value) in values.iter().enumerate() {
        let (id, v) = (10 * i, quoted(value));
        let more = id + 1;
        s.ok(&format!("insert into {t} values ({id}, {v}, array[{v}, null]::{kind}[])"));
        s.ok(&format!(
            "insert into {t} (id, v, vs) select {more}, {v}::{kind}, array[{v}]::{kind}[] where random() >= 0"
        ));
        let id = (id + 2).to_string();
        s.bound(&format!("insert into {t} (id, v) values ($1, $2)"), &[Some(&id), Some(value)]);
        s.bound(&format!("update {t} set v = $2, vs = array[$2::{kind}, $2] where id = $1"), &[Some(&id), Some(value)]);
        s.bound(&format!("update {t} set vs = vs || $2::{kind} where id >= $1"), &[Some(&id), Some(value)]);
    }
    s.ok(&format!("insert into {t} select id + 100, v, vs from {t}"));
    s.ok(&format!("insert into {t} values (1000, null, null), (1001, null, '{{}}')"));
    s.ok(&format!("update {t} set vs = null where id = 0"));
    s.ok(&format!("update {t} set v = null where id = 1001"));
    s.ok(&format!("delete from {t} where id = 101 and random() >= 0"));
    let line = format!("2000\t{}\t\\N\n", values[0].replace('\\', "\\\\"));
    assert_eq!(s.copy(format!("copy {t} from stdin"), &[line.as_bytes()]).failure(), None, "{kind}");
}

/// All rows of all tables, as text and as far as there is such a thing in binary.
fn everything(mesh: &Mesh, node: &str) -> String {
    let sends = mesh.node(node).sql(
        "select coalesce(string_agg(a.attrelid::regclass::text, ' '), '') from pg_attribute a join pg_type t on t.oid = a.atttypid \
         where a.attname = 'v' and t.typsend <> 0 and t.oid < 16384",
    );
    let sends: Vec<&str> = sends.split(' ').collect();
    let one = |(n, kind, _): (usize, &str, &[&str])| {
        let t = format!("k_{n}");
        // The binary form of a user's type may have its number, which is each database's own.
        let binary = sends.contains(&t.as_str());
        let binary = if binary { "encode(record_send(row(v)), 'hex')" } else { "''" };
        format!("select '{}' as kind, id, v::text, vs::text, {binary} as sent from {t}", kind.replace('\'', "''"))
    };
    kinds().map(one).collect::<Vec<_>>().join(" union all ")
}

#[test]
fn a7_every_type_arrives() {
    let rules = "[[table]]\nname = \"public.k_*\"\n";
    let mesh = Mesh::start(vec![
        Member::new("a", server(Pg::V15, 'a'), &tables(OWN.iter()), rules),
        Member::new("b", server(Pg::V18, 'b'), &tables(OWN.iter().rev()), rules),
    ]);
    // None is forgotten: base types and ranges that are nobody's arrays.
    let built_in = mesh.node("a").sql(
        "select string_agg(typname, ' ') from pg_type where typtype in ('b', 'r', 'm') and typcategory <> 'A' and oid < 16384 \
         and typnamespace = 'pg_catalog'::regnamespace",
    );
    let known = |name: &&str| {
        let bare = |kind: &str| kind.split('(').next().unwrap_or(kind).trim_matches('"') == *name;
        NO_VALUES.contains(name) || KINDS.iter().any(|(kind, _)| bare(kind))
    };
    let forgotten: Vec<&str> = built_in.split(' ').filter(|name| !known(name)).collect();
    assert_eq!(forgotten, Vec::<&str>::new(), "types without a test");

    for from in ["a", "b"] {
        let mut s = mesh.client(from);
        for kind in kinds() {
            write(&mut s, kind);
        }
        let same = || ["a", "b"].map(|node| (node, everything(&mesh, node)));
        mesh.assert_same(&same());
        // A session that shows its values in its own way.
        s.ok("set datestyle = 'German'; set timezone = 'Asia/Kolkata'; set intervalstyle = 'sql_standard'; \
              set extra_float_digits = -10; set bytea_output = 'escape'; set xmloption = 'document'");
        for (n, kind, _) in kinds() {
            s.ok(&format!("insert into k_{n} select id + 5000, v, vs from k_{n} where id < 5000"));
            s.ok(&format!("update k_{n} set vs = array_append(vs, v) where id > 5000"));
            s.ok(&format!("update k_{n} set v = v, vs = vs where id = 5000 -- {kind}"));
        }
        mesh.assert_same(&same());
        for (n, ..) in kinds() {
            s.ok(&format!("delete from k_{n}"));
        }
        mesh.assert_same(&same());
    }
}
