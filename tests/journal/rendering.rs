//! Entries as SQL: under a peer's name, and where something about them is wrong.

use bytes::Bytes;
use pgcanon::config::TableName;
use pgcanon::journal::entry::{ColumnRole, Head, ImageColumn, Lane, Op, Param, Place, Text};
use pgcanon::journal::{Entry, RenderError, Rendered, Renderer};
use tokio_postgres::Client;

use crate::common::{Cluster, Pg};
use crate::store::{Store, head, run};

async fn client(store: &Store) -> Client {
    store.connect("owner").await
}

async fn rendered(renderer: &mut Renderer, entry: &Entry, table: Option<&TableName>) -> Vec<Rendered> {
    let mut all = Vec::new();
    let done: Result<(), RenderError> = renderer
        .render(entry, table, |one| {
            all.push(one);
            Ok(())
        })
        .await;
    done.expect("render");
    all
}

fn text(sql: &[u8], names: &[(u32, u32, &str)], params: Vec<Param>) -> Entry {
    let place = |(start, end, table): &(u32, u32, &str)| Place {
        start: *start,
        end: *end,
        schema: "public".into(),
        table: (*table).into(),
    };
    let names = names.iter().map(place).collect();
    let text = Text { sql: sql.to_vec(), params, names, settings: vec![] };
    let head = Head { lane: Lane::Statement, op: Op::Update, columns: vec![], text: Some(text), ..head() };
    Entry { head, body: Bytes::new() }
}

/// A value of an image: its type's OID and its bytes.
type Datum<'a> = (u32, Option<&'a [u8]>);

fn rows(columns: &[(&str, &str)], rows: &[&[Datum<'_>]]) -> Entry {
    let column = |(name, type_name): &(&str, &str)| ImageColumn {
        name: (*name).into(),
        type_name: (*type_name).into(),
        role: ColumnRole::KeyValue,
        text: false,
    };
    let columns = columns.iter().map(column).collect();
    let mut body = Vec::new();
    for row in rows {
        let all = [&[(26, Some(&[0, 0, 0x40, 1][..]))], *row].concat();
        body.extend(i32::try_from(all.len()).expect("few").to_be_bytes());
        for (oid, value) in all {
            body.extend(oid.to_be_bytes());
            body.extend(value.map_or(-1, |v| i32::try_from(v.len()).expect("short")).to_be_bytes());
            body.extend(value.unwrap_or_default());
        }
    }
    Entry { head: Head { op: Op::Insert, columns, ..head() }, body: body.into() }
}

fn param(type_oid: u32, value: &[u8]) -> Param {
    Param { type_oid, binary: true, value: Some(value.to_vec()) }
}

#[test]
fn a_peer_may_have_another_name_for_the_table() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V18, "", ""));
        let mut renderer = Renderer::new(client(&store).await, None);
        let peer = TableName { schema: "Peer's".into(), table: "order".into() };
        let one = rows(&[("id", "integer")], &[&[(23, Some(&[0, 0, 0, 7]))]]);
        let done = rendered(&mut renderer, &one, Some(&peer)).await;
        assert_eq!(done[0].sql, "INSERT INTO \"Peer's\".\"order\" (id) VALUES (7);");
        assert!(done[0].whole);
        let two = text(b"update t set a = (select max(a) from u)", &[(7, 8, "t"), (37, 38, "u")], vec![]);
        let done = rendered(&mut renderer, &two, Some(&peer)).await;
        assert_eq!(done[0].sql, "update \"Peer's\".\"order\" set a = (select max(a) from public.u);");
    });
}

#[test]
fn what_cannot_be_shown_hides_nothing_else_and_is_no_sql() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let mut renderer = Renderer::new(client(&store).await, None);
        // The second row's text is no UTF-8.
        let columns = [("id", "integer"), ("v", "text")];
        let id = |n: &'static [u8; 4]| (23, Some(&n[..]));
        let entry = rows(
            &columns,
            &[
                &[id(&[0, 0, 0, 1]), (25, Some(b"good"))],
                &[id(&[0, 0, 0, 2]), (25, Some(b"\xff*/"))],
                &[id(&[0, 0, 0, 3]), (25, None)],
            ],
        );
        let done = rendered(&mut renderer, &entry, None).await;
        assert_eq!(done.iter().map(|r| r.whole).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(done[0].sql, "INSERT INTO public.t (id, v) VALUES (1, 'good');");
        assert!(done[1].sql.starts_with("INSERT INTO public.t (id, v) VALUES (2, /* \\xff2a2f: "), "{:?}", done[1]);
        assert!(done[1].sql.ends_with(" */);"), "{:?}", done[1]);
        assert_eq!(done[2].sql, "INSERT INTO public.t (id, v) VALUES (3, NULL);");

        let short = rows(&columns, &[&[id(&[0, 0, 0, 1])]]);
        let done = rendered(&mut renderer, &short, None).await;
        assert_eq!(done[0].notes, ["rows of public.t that are not what their head says"]);

        let params = vec![param(999_999, b"\x01"), param(23, b"\x01"), param(0, b"\x02")];
        let entry = text(b"update t set a = $1, b = $2, c = $3, d = $4", &[(7, 8, "t")], params);
        let done = rendered(&mut renderer, &entry, None).await;
        let [one] = &done[..] else { panic!("{done:?}") };
        assert!(
            one.sql.contains("a = /* \\x01: the type with OID 999999 is unknown here */, b = /* \\x01: "),
            "{one:?}"
        );
        assert!(one.sql.contains("c = /* \\x02: relation \"public.t\" does not exist (42P01) */"), "{one:?}");
        assert!(one.sql.ends_with("d = /* $4 was not bound */;") && !one.whole, "{one:?}");

        let mut strange = text(b"update t set v = '\xe4'", &[(7, 8, "t")], vec![]);
        strange.head.encoding = "KLINGON".into();
        let done = rendered(&mut renderer, &strange, None).await;
        let [one] = &done[..] else { panic!("{done:?}") };
        assert!(one.notes[0].starts_with("a statement that cannot be shown: \\x757064617465207420"), "{one:?}");
        assert!(one.sql.is_empty() && !one.whole, "{one:?}");
        let mut strange = rows(&columns, &[&[id(&[0, 0, 0, 1]), (25, Some(b"x"))]]);
        strange.head.encoding = "KLINGON".into();
        let done = rendered(&mut renderer, &strange, None).await;
        assert!(done[0].sql.contains("VALUES (/* \\x00000001: invalid value for parameter"), "{done:?}");
    });
}

#[test]
fn a_lost_connection_is_no_unknown_value() {
    run(async {
        let store = Store::new(Cluster::start(Pg::V15, "", ""));
        let mut renderer = Renderer::new(client(&store).await, None);
        let entry = rows(&[("id", "integer")], &[&[(23, Some(&[0, 0, 0, 7]))]]);
        rendered(&mut renderer, &entry, None).await;
        store.cluster.psql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'owner'");
        let done: Result<(), RenderError> = renderer.render(&entry, None, |_| Ok(())).await;
        assert!(matches!(done, Err(RenderError::Server(_))), "{done:?}");
    });
}
