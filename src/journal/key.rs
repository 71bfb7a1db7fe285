//! The key that vouches for journal rows: shared by the cluster, or made by `pgcanon init`, and never shown.

use std::fmt;
use std::path::{Path, PathBuf};

/// A secret of fewer bytes could be guessed.
const SHORTEST: usize = 16;

/// Keeps this use of the secret apart from any other (blake3's key derivation).
const CONTEXT: &str = "pgcanon 2026-01 journal authentication";

/// The key of the MACs in `pgcanon.journal`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cluster_key_file: {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(
        "cluster_key_file: {} holds {len} bytes, which could be guessed; make a key with \
         `head -c 32 /dev/urandom > {}` and copy it to every node",
        path.display(), path.display()
    )]
    Short { path: PathBuf, len: usize },
}

impl Key {
    /// The key as it is.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From a secret of any form: the content of `cluster_key_file`, or the value that `init` left in `pgcanon.meta`.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(blake3::derive_key(CONTEXT, secret))
    }

    /// From `cluster_key_file`; white space at its end is not part of the secret.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let content = std::fs::read(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
        let secret = content.trim_ascii_end();
        if secret.len() < SHORTEST {
            return Err(KeyError::Short { path: path.to_owned(), len: secret.len() });
        }
        Ok(Self::from_secret(secret))
    }

    /// The bytes, for the MAC.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(…)");
    }

    #[test]
    fn a_file_and_the_same_secret_elsewhere_give_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.key");
        std::fs::write(&path, b"0123456789abcdef\n").unwrap();
        assert_eq!(Key::load(&path).unwrap(), Key::from_secret(b"0123456789abcdef"));
        assert_ne!(Key::load(&path).unwrap(), Key::from_secret(b"0123456789abcdeg"));
    }

    #[test]
    fn what_could_be_guessed_is_refused_with_the_command_that_makes_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.key");
        std::fs::write(&path, b"secret\n").unwrap();
        let message = Key::load(&path).unwrap_err().to_string();
        assert!(message.contains("holds 6 bytes") && message.contains("/dev/urandom"), "{message}");
        let message = Key::load(&dir.path().join("none")).unwrap_err().to_string();
        assert!(message.contains("cannot be read"), "{message}");
    }
}
