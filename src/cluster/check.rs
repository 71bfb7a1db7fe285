//! Whether a configuration will work with the server it names.

use tokio_postgres::Client;

use crate::catalog::load::{Named, load};
use crate::catalog::relation::Catalog;
use crate::catalog::times::keeps_times;
use crate::catalog::{ControlError, ControlSettings, server_words};
use crate::cluster::clocks::clock_ahead;
use crate::cluster::init::APPLY_ROLE;
use crate::cluster::keys::{self, Fed, Keys};
use crate::cluster::origins::too_little_room;
use crate::config::{Auth, Config, Peer};
use crate::session::{Settings, listens_beyond_this_machine, liveness};
use crate::wire::tls::TlsError;

/// Which database this is, whatever it is called.
const IDENTITY: &str = "\
SELECT c.system_identifier, pg_catalog.current_database()::pg_catalog.text FROM pg_catalog.pg_control_system() AS c";

type Identity = (i64, String);

/// What one check found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    Ok(String),
    Warning(String),
    Failed(String),
}

use Finding::{Failed, Ok as Fine, Warning};

/// Reads the files that the configuration names and asks the server.
///
/// # Errors
/// A TLS file cannot be used: the configuration has to be mended before anything else can be checked.
pub async fn check(config: &Config) -> Result<Vec<Finding>, TlsError> {
    let settings = Settings::load(config)?;
    let mut findings = vec![Fine("TLS files".into())];
    findings.push(match settings.server_is_open("postgres").await {
        Err(e) => Failed(format!("server: {e}")),
        Ok(false) => Fine("server: asks clients for proof of identity".into()),
        Ok(true) if listens_beyond_this_machine(config) && !config.allow.iter().any(|rule| rule.trust) => Failed(
            "server: lets in anybody who comes from where the proxy is, and the proxy listens beyond this machine; \
             `run` will refuse to start"
                .into(),
        ),
        Ok(true) => Warning("server: lets in anybody who comes from this machine (trust in pg_hba.conf)".into()),
    });
    let mut here = None;
    let mut keys = Vec::new();
    if let Some(conninfo) = &config.node.control {
        let control = ControlSettings::load(conninfo, config.node.connect_timeout, liveness(&config.node))?;
        findings.push(match control.server_version().await {
            Ok(version) => Fine(format!("control connection: PostgreSQL {version}")),
            Err(e) => Failed(e.to_string()),
        });
        if let Ok(client) = control.connect().await {
            here = identity(&client).await.ok();
            if !config.tables.is_empty() {
                keys = check_tables(&client, config, &mut findings).await;
            }
        }
        if config.node.auth == Auth::Scram {
            findings.push(match control.can_read_verifiers().await {
                Ok(true) => Fine("control connection: reads SCRAM verifiers".into()),
                Ok(false) => Failed(
                    "control connection: cannot read SCRAM verifiers; as a superuser: GRANT SELECT ON \
                     pg_catalog.pg_authid TO its role"
                        .into(),
                ),
                Err(e) => Failed(e.to_string()),
            });
        }
    }
    for peer in &config.peers {
        let settings = ControlSettings::load(&peer.connect, config.node.connect_timeout, liveness(&config.node))?;
        check_peer(peer, &settings, here.as_ref(), config, &keys, &mut findings).await;
    }
    Ok(findings)
}

/// Whether changes could be brought there, and which would then be in each other's way.
async fn check_peer(
    peer: &Peer,
    settings: &ControlSettings,
    here: Option<&Identity>,
    config: &Config,
    keys: &[Fed],
    findings: &mut Vec<Finding>,
) {
    match reach_peer(peer, settings, here).await {
        Ok(client) => {
            let role = peer.connect.user.as_deref().unwrap_or_default();
            findings.push(Fine(format!("peer {}: takes changes from role {role}", peer.name)));
            check_keys(peer, &client, keys, findings).await;
            if config.tables.iter().any(|rule| rule.settles().is_some()) {
                findings.extend(versions(&format!("peer {}", peer.name), &client, config).await);
            }
        }
        Err(finding) => findings.push(finding),
    }
}

/// A connection to a peer that takes changes: one that is away now need not be away later.
async fn reach_peer(peer: &Peer, settings: &ControlSettings, here: Option<&Identity>) -> Result<Client, Finding> {
    let (name, role) = (&peer.name, peer.connect.user.as_deref().unwrap_or_default());
    let client = settings.connect().await.map_err(|e| match e {
        ControlError::Connect(e) => Warning(format!("peer {name}: {e}")),
        ControlError::Query(e) => Failed(format!("peer {name}: {}", server_words(&e))),
        e => Failed(format!("peer {name}: {e}")),
    })?;
    if here.is_some() && here == identity(&client).await.ok().as_ref() {
        return Err(Failed(format!("peer {name}: `connect` leads to this node itself")));
    }
    match client.query_one("SELECT pg_catalog.count(*) FROM pgcanon.progress WHERE false", &[]).await {
        Ok(_) => Ok(client),
        Err(e) => Err(Failed(format!(
            "peer {name}: {}; there `pgcanon init` and, as a superuser, GRANT {APPLY_ROLE} TO {role} are missing",
            server_words(&e)
        ))),
    }
}

/// Whether both nodes hand out the same keys. Nobody knows whether applications write on both, so that it is no failure.
async fn check_keys(peer: &Peer, client: &Client, keys: &[Fed], findings: &mut Vec<Finding>) {
    let name = &peer.name;
    match keys::compare(keys, peer, client).await {
        Err(e) => findings.push(Failed(format!("peer {name}: sequences: {}", server_words(&e)))),
        Ok(Keys::None) => {}
        Ok(Keys::Apart) => findings.push(Fine(format!("peer {name}: hands out other keys than this node"))),
        Ok(Keys::Same(columns)) => findings.extend(columns.into_iter().map(|column| {
            Warning(format!(
                "peer {name}: both nodes will hand out the same keys for {column}; unless applications write on one of them \
                 only: `pgcanon init --sequences` on both"
            ))
        })),
    }
}

async fn identity(client: &Client) -> Result<Identity, tokio_postgres::Error> {
    let row = client.query_one(IDENTITY, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// What the catalog says about the rules; gives the keys that this node hands out.
async fn check_tables(client: &Client, config: &Config, findings: &mut Vec<Finding>) -> Vec<Fed> {
    let catalog = match load(client, &config.tables, &Named::from(config)).await {
        Ok(catalog) => catalog,
        Err(e) => {
            findings.push(Failed(format!("tables: {e}")));
            return Vec::new();
        }
    };
    findings.push(triggers(&catalog));
    if config.tables.iter().any(|rule| rule.settles().is_some()) {
        findings.extend(versions("this node", client, config).await);
    }
    keys::here(client, &catalog).await.unwrap_or_else(|e| {
        findings.push(Failed(format!("sequences: {}", server_words(&e))));
        Vec::new()
    })
}

/// Whether a node's server can tell versions of rows apart, as the rules ask (§8).
async fn versions(node: &str, client: &Client, config: &Config) -> Vec<Finding> {
    let version = match (keeps_times(client, &config.tables).await, clock_ahead(client).await) {
        (Err(e), _) | (_, Err(e)) => Failed(format!("{node}: {}", server_words(&e))),
        (Ok(Err(e)), _) => Failed(format!("{node}: {e}")),
        (_, Ok(Some(ahead))) => Warning(format!(
            "{node}: its clock is {ahead:.1} s from this machine's: conflicts that are settled by time end as the clocks say"
        )),
        (Ok(Ok(())), Ok(None)) => Fine(format!("{node}: tells versions of rows apart, where conflicts are settled")),
    };
    let room = match too_little_room(client, config).await {
        Err(e) => Some(Failed(format!("{node}: {}", server_words(&e)))),
        Ok(room) => room.map(|room| Warning(format!("{node}: {room}"))),
    };
    [version].into_iter().chain(room).collect()
}

/// Whether the rules say what becomes of triggers (§6).
fn triggers(catalog: &Catalog) -> Finding {
    match catalog.triggers_are_decided() {
        Err(e) => Failed(format!("tables: {e} `run` will refuse to start")),
        Ok(()) => Fine("tables: their rules say what becomes of triggers on the peers".into()),
    }
}
