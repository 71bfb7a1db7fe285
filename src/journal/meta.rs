//! The `meta` of a journal row: who wrote it, and the proof that a proxy with the cluster's key did (§5, Forgery).
//!
//! Version, flags, author, counter, backend; then, where the server makes `data`, one head; then 16 bytes of keyed hash over
//! all that, and over `data` where the proxy made it. The fixed parts stay where they are in every version, so that a row
//! of a newer proxy is told from a forged one.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut};
use ring::rand::{SecureRandom, SystemRandom};

use super::entry::Head;
use super::key::Key;

const VERSION: u8 = 1;
/// `data` consists of the images that the server made, and is not under the hash.
const SELFMADE: u8 = 1;
const FIXED: usize = 1 + 1 + 8 + 8 + 4;
const MAC: usize = 16;

/// One process that writes journal rows, told from all others by eight random bytes.
#[derive(Debug)]
pub struct Author {
    id: AuthorId,
    next: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorId(pub [u8; 8]);

/// What no two journal rows have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce {
    pub author: AuthorId,
    pub counter: u64,
}

/// A meta whose hash is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub nonce: Nonce,
    /// The backend that it was written for.
    pub pid: u32,
    /// The head of a row whose `data` the server made.
    pub head: Option<Head>,
}

/// Why no meta could be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// Nobody with the key wrote this.
    #[error(transparent)]
    Forged(#[from] Forgery),
    /// Somebody with the key wrote it, and it must not be skipped (I1).
    #[error(
        "a journal row of version {0}, which this pgcanon does not know; read it with the version that wrote it, or a newer one"
    )]
    Newer(u8),
    #[error("a journal row with a good signature holds no readable head")]
    Head(#[source] postcard::Error),
}

/// What gives a forged row away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Forgery {
    #[error("it is no journal row of pgcanon")]
    Malformed,
    #[error("its signature is wrong")]
    Signature,
    #[error("it was written by another backend than the one that its signature names")]
    Backend,
    #[error("it repeats another row")]
    Repeated,
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

/// Signs what one session writes into the journal.
#[derive(Clone, Debug)]
pub struct Appender {
    key: Key,
    author: std::sync::Arc<Author>,
    pid: u32,
}

// === impl Author ===

impl Author {
    pub fn new() -> Result<Self, NoRandom> {
        let mut id = [0; 8];
        SystemRandom::new().fill(&mut id).map_err(|_| NoRandom)?;
        Ok(Self { id: AuthorId(id), next: AtomicU64::new(0) })
    }

    /// A nonce that was never given before.
    pub fn next(&self) -> Nonce {
        Nonce { author: self.id, counter: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

// === impl Appender ===

impl Appender {
    /// For the session whose backend is `pid`.
    pub fn new(key: Key, author: std::sync::Arc<Author>, pid: u32) -> Self {
        Self { key, author, pid }
    }

    /// The meta for `data` that the proxy made: entries, one behind the other.
    pub fn own(&self, data: &[u8]) -> Vec<u8> {
        let mut meta = self.begin(0, 0);
        self.sign(&mut meta, data);
        meta
    }

    /// The meta of a row whose `data` the server makes: the images of this one entry, whose head is encoded.
    pub fn selfmade(&self, head: &[u8]) -> Vec<u8> {
        let mut meta = self.begin(SELFMADE, head.len());
        meta.put_slice(head);
        self.sign(&mut meta, &[]);
        meta
    }

    fn begin(&self, flags: u8, room: usize) -> Vec<u8> {
        let nonce = self.author.next();
        let mut meta = Vec::with_capacity(FIXED + MAC + room);
        meta.put_u8(VERSION);
        meta.put_u8(flags);
        meta.put_slice(&nonce.author.0);
        meta.put_u64(nonce.counter);
        meta.put_u32(self.pid);
        meta
    }

    fn sign(&self, meta: &mut Vec<u8>, data: &[u8]) {
        let mac = mac(&self.key, meta, data);
        meta.extend(mac);
    }
}

// === impl Meta ===

impl Meta {
    /// Reads the meta of a row of backend `pid`, if somebody with the key wrote it for that backend and, unless the server
    /// made it, for this `data`.
    pub fn open(key: &Key, pid: u32, meta: &[u8], data: &[u8]) -> Result<Self, MetaError> {
        let (signed, tag) = meta.split_last_chunk::<MAC>().ok_or(Forgery::Malformed)?;
        let (mut fixed, head) = signed.split_at_checked(FIXED).ok_or(Forgery::Malformed)?;
        let version = fixed.get_u8();
        let selfmade = fixed.get_u8() & SELFMADE != 0;
        // Hashes of blake3 compare in constant time.
        let expected = blake3::Hash::from_bytes(pad(mac(key, signed, if selfmade { &[] } else { data })));
        if expected != blake3::Hash::from_bytes(pad(*tag)) {
            return Err(Forgery::Signature.into());
        }
        if version != VERSION {
            return Err(MetaError::Newer(version));
        }
        let nonce = Nonce { author: AuthorId(fixed.get_u64().to_be_bytes()), counter: fixed.get_u64() };
        let meta = Self { nonce, pid: fixed.get_u32(), head: None };
        if meta.pid != pid {
            return Err(Forgery::Backend.into());
        }
        let head = selfmade.then(|| postcard::from_bytes(head)).transpose().map_err(MetaError::Head)?;
        Ok(Self { head, ..meta })
    }
}

/// The hash knows where meta ends and data begins.
fn mac(key: &Key, meta: &[u8], data: &[u8]) -> [u8; MAC] {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    hasher.update(&(meta.len() as u64).to_be_bytes()).update(meta).update(data);
    let mut out = [0; MAC];
    hasher.finalize_xof().fill(&mut out);
    out
}

fn pad(mac: [u8; MAC]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has done its work
mod tests {
    use std::sync::Arc;

    use super::super::codec::encode_head;
    use super::super::entry::sample;
    use super::*;

    fn appender() -> Appender {
        Appender::new(Key::new([7; 32]), Arc::new(Author::new().unwrap()), 4711)
    }

    fn forgery(meta: &[u8], data: &[u8], pid: u32) -> Forgery {
        match Meta::open(&Key::new([7; 32]), pid, meta, data) {
            Err(MetaError::Forged(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_signed_is_read_back() {
        let (appender, key) = (appender(), Key::new([7; 32]));
        let own = Meta::open(&key, 4711, &appender.own(b"data"), b"data").unwrap();
        assert_eq!((own.pid, own.head, own.nonce.counter), (4711, None, 0));
        let head = sample();
        let made =
            Meta::open(&key, 4711, &appender.selfmade(&encode_head(&head).unwrap()), b"whatever the server made")
                .unwrap();
        assert_eq!((made.head, made.nonce), (Some(head), Nonce { counter: 1, ..own.nonce }));
    }

    #[test]
    fn no_bit_can_be_changed() {
        let appender = appender();
        let (own, made) = (appender.own(b"data"), appender.selfmade(&encode_head(&sample()).unwrap()));
        for meta in [own, made] {
            for bit in 0..meta.len() * 8 {
                let mut forged = meta.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(forgery(&forged, b"data", 4711), Forgery::Signature, "bit {bit}");
            }
            for len in 0..meta.len() {
                let short = forgery(&meta[..len], b"data", 4711);
                assert_eq!(short, if len < FIXED + MAC { Forgery::Malformed } else { Forgery::Signature });
            }
            assert_eq!(forgery(&meta, b"data", 4712), Forgery::Backend);
        }
        assert_eq!(forgery(&appender.own(b"data"), b"date", 4711), Forgery::Signature);
        let stranger = Appender { key: Key::new([8; 32]), ..appender };
        assert_eq!(forgery(&stranger.own(b"data"), b"data", 4711), Forgery::Signature);
    }

    #[test]
    fn a_newer_version_is_no_forgery() {
        let appender = appender();
        let mut meta = appender.begin(0, 0);
        meta[0] = VERSION + 1;
        meta.extend(b"something new");
        appender.sign(&mut meta, b"data");
        let read = Meta::open(&appender.key, 4711, &meta, b"data");
        assert!(matches!(read, Err(MetaError::Newer(2))), "{read:?}");
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(…)");
    }
}
