//! Whether a configuration will work with the server it names.

use tokio_postgres::Client;

use crate::catalog::load::{Named, load};
use crate::catalog::{ControlError, ControlSettings, server_words};
use crate::cluster::init::APPLY_ROLE;
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
    if let Some(conninfo) = &config.node.control {
        let control = ControlSettings::load(conninfo, config.node.connect_timeout, liveness(&config.node))?;
        findings.push(match control.server_version().await {
            Ok(version) => Fine(format!("control connection: PostgreSQL {version}")),
            Err(e) => Failed(e.to_string()),
        });
        if let Ok(client) = control.connect().await {
            here = identity(&client).await.ok();
            if !config.tables.is_empty() {
                findings.push(triggers(&client, config).await);
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
        findings.push(check_peer(peer, &settings, here.as_ref()).await);
    }
    Ok(findings)
}

/// Whether changes could be brought there: one that is away now need not be away later.
async fn check_peer(peer: &Peer, settings: &ControlSettings, here: Option<&Identity>) -> Finding {
    let (name, role) = (&peer.name, peer.connect.user.as_deref().unwrap_or_default());
    let client = match settings.connect().await {
        Ok(client) => client,
        Err(ControlError::Connect(e)) => return Warning(format!("peer {name}: {e}")),
        Err(ControlError::Query(e)) => return Failed(format!("peer {name}: {}", server_words(&e))),
        Err(e) => return Failed(format!("peer {name}: {e}")),
    };
    if here.is_some() && here == identity(&client).await.ok().as_ref() {
        return Failed(format!("peer {name}: `connect` leads to this node itself"));
    }
    let asked = client.query_one("SELECT pg_catalog.count(*) FROM pgcanon.progress WHERE false", &[]).await;
    match asked {
        Ok(_) => Fine(format!("peer {name}: takes changes from role {role}")),
        Err(e) => Failed(format!(
            "peer {name}: {}; there `pgcanon init` and, as a superuser, GRANT {APPLY_ROLE} TO {role} are missing",
            server_words(&e)
        )),
    }
}

async fn identity(client: &Client) -> Result<Identity, tokio_postgres::Error> {
    let row = client.query_one(IDENTITY, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Whether the rules say what becomes of triggers (§6).
async fn triggers(client: &Client, config: &Config) -> Finding {
    let decided = load(client, &config.tables, &Named::from(config)).await.map(|c| c.triggers_are_decided());
    match decided {
        Err(e) => Failed(format!("tables: {e}")),
        Ok(Err(e)) => Failed(format!("tables: {e} `run` will refuse to start")),
        Ok(Ok(())) => Fine("tables: their rules say what becomes of triggers on the peers".into()),
    }
}
