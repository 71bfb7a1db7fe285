//! tokio-postgres: requests of many tasks pipelined on one connection, COPY both ways, portals, cancel, notifications.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, TryStreamExt, future, pin_mut, stream};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage, error::SqlState};

use crate::common::Pg;
use crate::{SUITE, Site};

/// A connection and what it hears unasked.
async fn connect(site: &Site) -> (Client, mpsc::UnboundedReceiver<AsyncMessage>) {
    let addr = site.way.tcp();
    let mut config = Config::new();
    config.host(addr.host()).port(addr.port()).user("postgres").dbname(&site.database);
    let (client, mut connection) = config.connect(NoTls).await.expect("connect");
    let (heard, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut all = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = all.next().await {
            let _ = heard.send(message);
        }
    });
    (client, messages)
}

fn on_both(database: &str, test: impl AsyncFn(&Site)) {
    for pg in [Pg::V15, Pg::V18] {
        let site = Site::new(pg, database);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { tokio::time::timeout(SUITE, test(&site)).await.expect("the test ends in time") });
    }
}

#[test]
fn pipelines_by_itself() {
    on_both("tokio_pipeline", async |site| {
        let (client, _messages) = connect(site).await;
        let double = client.prepare("select $1::int * 2").await.expect("prepare");
        let all = (0..1000).map(async |n: i32| client.query_one(&double, &[&n]).await);
        let rows = future::try_join_all(all).await.expect("a thousand queries in flight");
        for (n, row) in rows.iter().enumerate() {
            assert_eq!(row.get::<_, i32>(0), 2 * i32::try_from(n).expect("small"));
        }
        let (bad, good, simple) = tokio::join!(
            client.query("select 1 / $1::int", &[&0]),
            client.query_one("select 5", &[]),
            client.simple_query("select 6; select 7")
        );
        assert_eq!(bad.expect_err("division by zero").code(), Some(&SqlState::DIVISION_BY_ZERO));
        assert_eq!(good.expect("a row").get::<_, i32>(0), 5);
        let rows = simple.expect("two results").into_iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_)));
        assert_eq!(rows.count(), 2);
    });
}

#[test]
fn copies_both_ways() {
    on_both("tokio_copy", async |site| {
        let (client, _messages) = connect(site).await;
        client.batch_execute("create table t (a int, b text)").await.expect("create");
        let sink = client.copy_in("copy t from stdin").await.expect("begin the copy");
        pin_mut!(sink);
        for n in 0..20_000 {
            sink.feed(bytes::Bytes::from(format!("{n}\trow {n}\n"))).await.expect("feed a row");
        }
        assert_eq!(sink.finish().await.expect("end the copy"), 20_000);
        let out = client.copy_out("copy t to stdout").await.expect("begin the copy");
        let bytes = out.try_fold(0, |sum, chunk| future::ok(sum + chunk.len())).await.expect("the rows");
        assert_eq!(bytes, (0..20_000).map(|n| format!("{n}\trow {n}\n").len()).sum::<usize>());
        // dropped in the middle: the client sends CopyFail by itself
        let sink = client.copy_in::<_, bytes::Bytes>("copy t from stdin").await.expect("begin the copy");
        drop(sink);
        let count = client.query_one("select count(*) from t", &[]).await.expect("count");
        assert_eq!(count.get::<_, i64>(0), 20_000);
        // an answer nobody reads to its end does not hold up the next request
        let out = client.copy_out("copy (select generate_series(1, 300000)) to stdout").await.expect("begin the copy");
        drop(out);
        client.query_one("select 1", &[]).await.expect("the connection goes on");
    });
}

#[test]
fn transactions_portals_and_cancel() {
    on_both("tokio_portals", async |site| {
        let (mut client, _messages) = connect(site).await;
        let token = client.cancel_token();
        let transaction = client.transaction().await.expect("begin");
        let portal = transaction.bind("select generate_series(1, 10)", &[]).await.expect("bind");
        for expected in [4, 4, 2, 0] {
            assert_eq!(transaction.query_portal(&portal, 4).await.expect("rows").len(), expected);
        }
        transaction.rollback().await.expect("rollback");
        let sleeping = client.batch_execute("select pg_sleep(60)");
        let cancelling = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            token.cancel_query(NoTls).await.expect("cancel");
        };
        let (slept, ()) = tokio::join!(sleeping, cancelling);
        assert_eq!(slept.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
        client.query_one("select 1", &[]).await.expect("the connection goes on");
    });
}

#[test]
fn hears_notifications_and_notices() {
    on_both("tokio_notify", async |site| {
        let ((client, mut messages), (other, _)) = (connect(site).await, connect(site).await);
        client.batch_execute("listen suite").await.expect("listen");
        for n in 0..3 {
            other.batch_execute(&format!("notify suite, '{n}'")).await.expect("notify");
        }
        for n in 0..3 {
            match messages.recv().await {
                Some(AsyncMessage::Notification(heard)) => assert_eq!(heard.payload(), n.to_string()),
                other => panic!("no notification but {other:?}"),
            }
        }
        client.batch_execute("do $$ begin raise notice 'just so'; end $$").await.expect("raise");
        match messages.recv().await {
            Some(AsyncMessage::Notice(heard)) => assert_eq!(heard.message(), "just so"),
            other => panic!("no notice but {other:?}"),
        }
    });
}
