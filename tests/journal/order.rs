//! The order of the journal (§5): replayed in it, what every transaction saw is what is there.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

use crate::common::{Cluster, Pg};
use crate::store::{Store, Writer, run};

const CLIENTS: u64 = 16;
const TRANSACTIONS: usize = 80;
const ROWS: i32 = 40;

/// A small generator: the same seed, the same work.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

#[test]
fn sixteen_clients_that_fight_for_forty_rows_are_replayed_without_a_break() {
    for pg in [Pg::V15, Pg::V18] {
        fight(pg);
    }
}

/// Every change of a row notes the version before and after: whoever replays them in another order notices at once.
fn fight(pg: Pg) {
    run(async {
        let store = Arc::new(Store::new(Cluster::start(pg, "deadlock_timeout = 20ms", "")));
        let setup = store.writer().await;
        setup.batch("create table t (id int primary key, v int8 not null)").await;
        let _ticker = store.ticker();
        let mut clients = Vec::new();
        for n in 0..CLIENTS {
            let store = Arc::clone(&store);
            clients.push(tokio::spawn(async move {
                let (writer, mut dice) = (store.writer().await, Dice(0x9e37_79b9_7f4a_7c15 ^ (n + 1)));
                let mut committed = 0;
                while committed < TRANSACTIONS {
                    committed += usize::from(transaction(&writer, &mut dice).await);
                }
            }));
        }
        for client in clients {
            client.await.expect("a client");
        }
        store.ticked().await;

        let mut rows: HashMap<i32, i64> = HashMap::new();
        let all = store.all().await;
        for transaction in &all {
            for change in transaction.bodies().iter().flat_map(|body| body.lines()) {
                let parts: Vec<i64> = change.split(' ').map(|n| n.parse().expect("a number")).collect();
                let [id, before, after] = parts[..] else { panic!("{change}") };
                let id = i32::try_from(id).expect("an id");
                let there = rows.remove(&id).unwrap_or(-1);
                assert_eq!(there, before, "row {id} in transaction {} of tick {}", transaction.xid, transaction.tick);
                if after >= 0 {
                    rows.insert(id, after);
                }
            }
        }
        assert_eq!(all.len(), TRANSACTIONS * CLIENTS as usize);
        let found = setup.client.query("select id, v from t", &[]).await.expect("read the table");
        let found: HashMap<i32, i64> = found.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(rows, found);
        let ticks = all.last().map_or(0, |t| t.tick);
        assert!(ticks > 50, "the work was cut into {ticks} ticks only");
    });
}

/// A few changes and their entries in one transaction; false if it came to nothing.
async fn transaction(writer: &Writer, dice: &mut Dice) -> bool {
    match attempt(writer, dice).await {
        Ok(committed) => committed,
        Err(e) => {
            assert_eq!(e.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{e:?}");
            writer.batch("rollback").await;
            false
        }
    }
}

async fn attempt(writer: &Writer, dice: &mut Dice) -> Result<bool, tokio_postgres::Error> {
    let client = &writer.client;
    client.batch_execute("begin").await?;
    let mut noted = Vec::new();
    for _ in 0..=dice.roll(4) {
        let id = i32::try_from(dice.roll(ROWS as u64)).expect("small");
        // The row is locked, so what stands there before and after is known.
        let changed = match dice.roll(4) {
            0 => {
                let sql = format!("delete from t where id = {id} returning id, v, -1::int8");
                client.query(&sql, &[]).await?
            }
            1 => {
                let sql = format!("update t set v = v + 1 where id between {id} and {} returning id, v - 1, v", id + 3);
                client.query(&sql, &[]).await?
            }
            _ => {
                let sql = format!(
                    "insert into t values ({id}, 1000) on conflict (id) do update set v = t.v + 1 \
                     returning id, case when xmax = 0 then -1 else v - 1 end, v"
                );
                client.query(&sql, &[]).await?
            }
        };
        for row in changed {
            let (id, before, after): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
            noted.push(format!("{id} {before} {after}"));
        }
        if dice.roll(6) == 0 && !noted.is_empty() {
            writer.try_append(0, noted.join("\n").as_bytes()).await?;
            noted.clear();
        }
    }
    if dice.roll(8) == 0 {
        client.batch_execute("rollback").await?;
        return Ok(false);
    }
    writer.try_append(0, noted.join("\n").as_bytes()).await?;
    client.batch_execute("commit").await?;
    Ok(true)
}
