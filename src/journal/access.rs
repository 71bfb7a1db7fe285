//! Whether there is a journal that this pgcanon knows, and the key of its rows.

use tokio_postgres::Client;

use super::key::Key;
use super::migrate;
use crate::catalog::server_words;

/// Why a node's journal can be neither written nor read.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("the journal is not there: run `pgcanon init` with this configuration first")]
    NotInitialised,
    #[error("the journal is of version {found}, this pgcanon needs {needed}: run `pgcanon init` again")]
    Version { found: i32, needed: i32 },
    #[error(
        "the journal has no key: remove it with `pgcanon init --drop` and make it again, or name a `cluster_key_file`"
    )]
    NoKey,
    #[error("control connection: {}", server_words(.0))]
    Server(#[from] tokio_postgres::Error),
}

impl AccessError {
    /// Whether it stays so until somebody runs `pgcanon init`.
    pub fn needs_init(&self) -> bool {
        !matches!(self, Self::Server(_))
    }
}

/// The journal's key, once it is known that there is a journal: that of `cluster_key_file`, or what `pgcanon init` made.
pub async fn key(client: &Client, of_file: Option<&Key>) -> Result<Key, AccessError> {
    let there = "SELECT pg_catalog.to_regclass('pgcanon.migration') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get(0)? {
        return Err(AccessError::NotInitialised);
    }
    let version = "SELECT coalesce(pg_catalog.max(version), 0) FROM pgcanon.migration";
    let (found, needed): (i32, i32) = (client.query_one(version, &[]).await?.try_get(0)?, migrate::latest());
    if found != needed {
        return Err(AccessError::Version { found, needed });
    }
    if let Some(key) = of_file {
        return Ok(key.clone());
    }
    let secret = client.query_opt("SELECT value FROM pgcanon.meta WHERE key = 'cluster_key'", &[]).await?;
    let secret: Option<String> = secret.map(|row| row.try_get(0)).transpose()?.flatten();
    Ok(Key::from_secret(secret.ok_or(AccessError::NoKey)?.as_bytes()))
}
