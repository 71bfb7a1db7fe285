//! Whether a configuration will work with the server it names.

use crate::catalog::ControlSettings;
use crate::catalog::load::{Named, load};
use crate::config::{Auth, Config};
use crate::session::{Settings, listens_beyond_this_machine, liveness};
use crate::wire::tls::TlsError;

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
    if let Some(conninfo) = &config.node.control {
        let control = ControlSettings::load(conninfo, config.node.connect_timeout, liveness(&config.node))?;
        findings.push(match control.server_version().await {
            Ok(version) => Fine(format!("control connection: PostgreSQL {version}")),
            Err(e) => Failed(e.to_string()),
        });
        if !config.tables.is_empty()
            && let Ok(client) = control.connect().await
        {
            let decided = load(&client, &config.tables, &Named::from(config)).await.map(|c| c.triggers_are_decided());
            findings.push(match decided {
                Err(e) => Failed(format!("tables: {e}")),
                Ok(Err(e)) => Failed(format!("tables: {e} `run` will refuse to start")),
                Ok(Ok(())) => Fine("tables: their rules say what becomes of triggers on the peers".into()),
            });
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
    Ok(findings)
}
