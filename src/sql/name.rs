//! A statement, portal or savepoint name as the server keeps it: at most 63 bytes, by value, without a heap.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The server's `NAMEDATALEN` less its closing NUL.
pub const NAME_MAX: usize = 63;

/// A name of at most 63 bytes, in the client's encoding.
#[derive(Clone, Copy)]
pub struct Name {
    len: u8,
    /// Zero behind `len`.
    bytes: [u8; NAME_MAX],
}

impl Name {
    /// The empty name: the unnamed statement or portal of the wire protocol.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; NAME_MAX] };

    /// The name up to its first NUL or its 63rd byte: what the server's tables of statements and portals compare.
    #[must_use]
    pub fn from_bytes(raw: &[u8]) -> Self {
        let kept = raw.get(..NAME_MAX).unwrap_or(raw);
        let end = memchr::memchr(0, kept).unwrap_or(kept.len());
        let mut name = Self::EMPTY;
        for (to, from) in name.bytes.iter_mut().zip(kept.iter().take(end)) {
            *to = *from;
        }
        name.len = u8::try_from(end).unwrap_or(0);
        name
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

// === impl Name ===

impl Default for Name {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl From<&[u8]> for Name {
    fn from(raw: &[u8]) -> Self {
        Self::from_bytes(raw)
    }
}

impl From<&str> for Name {
    fn from(raw: &str) -> Self {
        Self::from_bytes(raw.as_bytes())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_a_nul_and_at_63_bytes() {
        assert_eq!(Name::from_bytes(b"ab\0cd").as_bytes(), b"ab");
        assert_eq!(Name::from_bytes(&[b'x'; 63]).as_bytes().len(), 63);
        assert_eq!(Name::from_bytes(&[b'x'; 64]), Name::from_bytes(&[b'x'; 63]));
        assert_eq!(Name::from_bytes(b""), Name::EMPTY);
        assert!(Name::EMPTY.is_empty());
    }

    #[test]
    fn orders_and_shows_as_its_bytes() {
        assert!(Name::from("a") < Name::from("aa"));
        assert!(Name::from("aa") < Name::from("b"));
        assert_eq!(format!("{:?}", Name::from_bytes(b"a\"\xe9")), r#""a\"\xe9""#);
    }
}
