//! Names of the catalog and of the client's statement, on their way into a text.

use crate::sql::Name;

pub(super) use crate::sql::quote::{ident, same_bytes, table};

/// A name of the catalog as text.
pub(super) fn text(name: &Name) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

/// A name of the client's statement, in its own encoding, quoted.
pub(super) fn as_written(name: &Name) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &b in name.as_bytes() {
        out.extend(std::iter::repeat_n(b, if b == b'"' { 2 } else { 1 }));
    }
    out.push(b'"');
    out
}
