//! What a node's server says about its tables, roles and functions.

mod assemble;
mod control;
mod graph;
pub mod load;
pub mod relation;
mod routines;
mod rows;
mod types;

pub(crate) use control::server_words;
pub use control::{Control, ControlError, ControlSettings, Fate};

/// stub
#[derive(Clone)]
pub struct Catalogs {
    rx: tokio::sync::watch::Receiver<std::sync::Arc<relation::Catalog>>,
    ask: std::sync::Arc<tokio::sync::Notify>,
    n: std::sync::Arc<std::sync::atomic::AtomicU64>,
}
impl Catalogs {
    pub fn start(
        c: tokio::sync::watch::Receiver<std::sync::Arc<ControlSettings>>,
        rules: std::sync::Arc<[crate::config::TableRule]>,
        named: std::sync::Arc<load::Named>,
    ) -> Self {
        let (tx, rx) = tokio::sync::watch::channel(std::sync::Arc::new(relation::Catalog::default()));
        let ask = std::sync::Arc::new(tokio::sync::Notify::new());
        let n = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(1));
        let (a, m) = (ask.clone(), n.clone());
        tokio::spawn(async move {
            let mut v = 0;
            loop {
                let s = c.borrow().clone();
                if let Ok(client) = s.connect().await {
                    loop {
                        let want = m.load(std::sync::atomic::Ordering::SeqCst);
                        match load::load(&client, &rules, &named).await {
                            Ok(mut cat) => {
                                v += 1;
                                cat.version = want.max(v);
                                v = cat.version;
                                tx.send_replace(std::sync::Arc::new(cat));
                            }
                            Err(e) => {
                                tracing::warn!(%e, "catalog");
                                break;
                            }
                        }
                        tokio::select! { () = a.notified() => {}, () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {} }
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        });
        Self { rx, ask, n }
    }
    pub fn watch(&self) -> tokio::sync::watch::Receiver<std::sync::Arc<relation::Catalog>> {
        self.rx.clone()
    }
    pub fn invalidate(&self) -> u64 {
        let n = self.rx.borrow().version + 2;
        self.n.store(n, std::sync::atomic::Ordering::SeqCst);
        self.ask.notify_one();
        n
    }
    pub fn is_fresh(&self, v: u64) -> bool {
        self.rx.borrow().version >= v
    }
}
