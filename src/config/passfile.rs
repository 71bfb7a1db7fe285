//! Password files in the format of `.pgpass`: the first line that fits a connection has its password.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::files::{self, FileError};
use super::secret::Secret;

/// Why a password file could not be used.
#[derive(Debug, Error)]
pub enum PassfileError {
    /// It is not there, or others can read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// It could not be read.
    #[error("the password file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The connection a password is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) hosts: &'a [String],
    pub(super) port: u16,
    pub(super) dbname: &'a str,
    pub(super) user: &'a str,
}

/// The password that the file at `path` has for a connection, if any.
///
/// libpq ignores a file that others can read; here it is an error, so that nobody wonders why a login fails.
pub(super) fn lookup(path: &Path, wanted: &Wanted<'_>) -> Result<Option<Secret>, PassfileError> {
    files::check(path, files::Kind::Passfile)?;
    let text = std::fs::read(path).map_err(|source| PassfileError::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&text).lines().find_map(|line| password(line, wanted)))
}

fn password(line: &str, wanted: &Wanted<'_>) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let (host, rest) = field(line)?;
    let (port, rest) = field(rest)?;
    let (dbname, rest) = field(rest)?;
    let (user, rest) = field(rest)?;
    let fits = |field: &str, value: &str| field == "*" || unescape(field) == value;
    let found = wanted.hosts.iter().any(|h| fits(host, h))
        && fits(port, &wanted.port.to_string())
        && fits(dbname, wanted.dbname)
        && fits(user, wanted.user);
    found.then(|| Secret::new(unescape(field(rest).map_or(rest, |(password, _)| password))))
}

/// What stands before the next `:` that no backslash precedes, and what follows it.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|b| {
        let found = b == b':' && !escaped;
        escaped = b == b'\\' && !escaped;
        found
    })?;
    let (field, rest) = text.split_at_checked(end)?;
    Some((field, rest.strip_prefix(':')?))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has done its work
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "\
# host:port:database:user:password
nonsense
db1:5432:app:alice:first
db1:5432:app:alice:second
db1:*:*:bob:b\\:o\\\\b
::1:5432:app:alice:not an address
\\:\\:1:5432:app:alice:six
/srv/pg\\:data:5432:*:carol:sock
*:5433:*:*:any:ignored
localhost:5432:app:dave:dos\r
";

    fn look(host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
        let wanted = Wanted { hosts: &[host.to_owned()], port, dbname, user };
        FILE.lines().find_map(|line| password(line, &wanted)).map(|s| s.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        assert_eq!(look("db1", 5432, "app", "alice").as_deref(), Some("first"));
        assert_eq!(look("db1", 9999, "other", "bob").as_deref(), Some("b:o\\b"));
        assert_eq!(look("::1", 5432, "app", "alice").as_deref(), Some("six"));
        assert_eq!(look("/srv/pg:data", 5432, "x", "carol").as_deref(), Some("sock"));
        assert_eq!(look("h", 5433, "x", "y").as_deref(), Some("any"));
        assert_eq!(look("localhost", 5432, "app", "dave").as_deref(), Some("dos"));
        assert_eq!(look("db1", 5432, "app", "mallory"), None);
        assert_eq!(look("db2", 5432, "app", "alice"), None);
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        std::fs::write(&path, FILE).unwrap();
        let wanted = Wanted { hosts: &["db1".to_owned()], port: 5432, dbname: "app", user: "alice" };
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = lookup(&path, &wanted).unwrap_err().to_string();
        assert!(error.contains("chmod 0600") && !error.contains("first"), "{error}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(lookup(&path, &wanted).unwrap(), Some(Secret::new("first")));
        assert!(lookup(&dir.path().join("none"), &wanted).unwrap_err().to_string().contains("does not exist"));
    }
}
