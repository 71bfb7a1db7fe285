//! The files a configuration names: they must be there, and what is private must be private.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What a file is for, which decides who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Certificates and revocation lists: anybody may read them.
    Public,
    /// A private key or the cluster key: PostgreSQL's rule for its own.
    Private,
    /// A password file: its owner alone.
    Passfile,
}

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// There is none.
    #[error("the file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// It is a directory or a device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// It could not be opened.
    #[error("the file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can get at it.
    #[error("others can get at {} (mode {mode:04o}); run `chmod 0600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Whether the file at `path` is there, can be read, and is as private as its kind asks.
pub(super) fn check(path: &Path, kind: Kind) -> Result<(), FileError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => FileError::Unreadable { path: path.to_owned(), source },
    };
    let metadata = std::fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & others(kind, &metadata) != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    File::open(path).map(drop).map_err(fail)
}

/// The permission bits that must not be set. As in PostgreSQL a key of root's may be read by its group, which is how a
/// system hands certificates to services; a password file may not.
fn others(kind: Kind, metadata: &Metadata) -> u32 {
    match kind {
        Kind::Public => 0,
        Kind::Private if metadata.uid() == 0 => 0o037,
        Kind::Private | Kind::Passfile => 0o077,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_that_others_can_read_is_refused_with_the_command_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.key");
        std::fs::write(&path, "").unwrap();
        let of_root = std::fs::metadata(&path).unwrap().uid() == 0;
        for (mode, public, private, passfile) in [
            (0o600, true, true, true),
            (0o400, true, true, true),
            (0o640, true, of_root, false),
            (0o660, true, false, false),
            (0o650, true, false, false),
            (0o644, true, false, false),
            (0o604, true, false, false),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&path, Kind::Public).is_ok(), public, "public {mode:o}");
            assert_eq!(check(&path, Kind::Private).is_ok(), private, "private {mode:o}");
            assert_eq!(check(&path, Kind::Passfile).is_ok(), passfile, "passfile {mode:o}");
        }
        let message = check(&path, Kind::Private).unwrap_err().to_string();
        assert_eq!(message, format!("others can get at {0} (mode 0604); run `chmod 0600 {0}`", path.display()));
    }

    #[test]
    fn what_is_missing_or_no_file_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(check(&dir.path().join("none"), Kind::Public), Err(FileError::Missing(_))));
        assert!(matches!(check(dir.path(), Kind::Private), Err(FileError::NotAFile(_))));
    }
}
