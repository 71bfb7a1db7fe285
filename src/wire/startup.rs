//! The first packet of a connection: what the client wants, read without changing a byte of it.

use crate::wire::message::split_cstr;

/// PostgreSQL's own limit for a startup packet, whose 10 000 bytes do not count the length word.
pub const MAX_STARTUP: usize = 10_004;

const CANCEL: u32 = 1234 << 16 | 5678;
const SSL: u32 = 1234 << 16 | 5679;
const GSS: u32 = 1234 << 16 | 5680;

/// A complete first packet. `len` is the number of bytes that it takes, length word included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Startup {
    Ssl { len: usize },
    Gss { len: usize },
    Cancel { len: usize },
    Session { len: usize, params: Params },
}

/// The first packet cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid length {0} of startup packet")]
pub struct BadStartup(u32);

/// What the proxy itself has to know of the startup parameters; the server gets the packet as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// As in `major << 16 | minor`.
    pub version: u32,
    pub user: String,
    /// Empty when not given: the server then takes the user's name.
    pub database: String,
    pub application_name: String,
    /// `replication` was given with a value that means yes: the session is an opaque pipe.
    pub replication: bool,
}

impl Params {
    /// The database the server will choose.
    pub fn database(&self) -> &str {
        if self.database.is_empty() { &self.user } else { &self.database }
    }
}

/// Reads the first packet from the bytes that have arrived; `None` when more are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<Startup>, BadStartup> {
    let Some((word, _)) = bytes.split_first_chunk() else { return Ok(None) };
    let word = u32::from_be_bytes(*word);
    let len = usize::try_from(word).unwrap_or(usize::MAX);
    if !(8..=MAX_STARTUP).contains(&len) {
        return Err(BadStartup(word));
    }
    let Some(packet) = bytes.get(4..len) else { return Ok(None) };
    let Some((code, body)) = packet.split_first_chunk() else { return Err(BadStartup(word)) };
    Ok(Some(match u32::from_be_bytes(*code) {
        SSL => Startup::Ssl { len },
        GSS => Startup::Gss { len },
        CANCEL => Startup::Cancel { len },
        version => Startup::Session { len, params: params(version, body) },
    }))
}

/// A startup packet of our own, in protocol 3.0.
pub fn packet(params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in params {
        for text in [name, value] {
            body.extend(text.bytes().filter(|&b| b != 0));
            body.push(0);
        }
    }
    body.push(0);
    packed(3 << 16, &body)
}

/// The CancelRequest for a session whose BackendKeyData had this body.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    packed(CANCEL, key)
}

fn packed(code: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).saturating_add(8);
    [&len.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// A body that is not a list of pairs is not our error: it is forwarded, and the server says what is wrong with it.
fn params(version: u32, mut body: &[u8]) -> Params {
    let mut params = Params { version, ..Params::default() };
    while let Some((name, rest)) = split_cstr(body)
        && !name.is_empty()
        && let Some((value, rest)) = split_cstr(rest)
    {
        body = rest;
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"user" => params.user = text(),
            b"database" => params.database = text(),
            b"application_name" => params.application_name = text(),
            b"replication" => params.replication = !is_no(value),
            _ => {}
        }
    }
    params
}

/// Whether PostgreSQL reads a boolean parameter's value as false: a prefix of `false` or `no`, `off`, `of` or `0`.
///
/// What is no boolean at all is the server's error to raise, and counts as yes.
fn is_no(value: &[u8]) -> bool {
    let value = value.to_ascii_lowercase();
    let prefix_of = |word: &[u8], at_least: usize| value.len() >= at_least && word.starts_with(&value);
    value == b"0" || prefix_of(b"false", 1) || prefix_of(b"no", 1) || prefix_of(b"off", 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = (8 + body.len() as u32).to_be_bytes().to_vec();
        packet.extend(code.to_be_bytes());
        packet.extend(body);
        packet
    }

    fn session(body: &[u8]) -> Params {
        match parse(&packet(3 << 16, body)).unwrap().unwrap() {
            Startup::Session { params, .. } => params,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_are_read() {
        let params = session(b"user\0joe\0database\0shop\0options\0-c x=1\0application_name\0psql\0\0");
        assert_eq!((params.user.as_str(), params.database()), ("joe", "shop"));
        assert_eq!(params.application_name, "psql");
        assert!(!params.replication);
    }

    #[test]
    fn the_database_is_the_users_name_unless_given() {
        assert_eq!(session(b"user\0joe\0\0").database(), "joe");
    }

    #[test]
    fn replication_is_read_as_the_server_reads_it() {
        for (value, expected) in [
            ("true", true),
            ("database", true),
            ("on", true),
            ("1", true),
            ("FALSE", false),
            ("of", false),
            ("n", false),
        ] {
            let body = format!("user\0joe\0replication\0{value}\0\0");
            assert_eq!(session(body.as_bytes()).replication, expected, "{value}");
        }
    }

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(parse(&packet(SSL, b"")), Ok(Some(Startup::Ssl { len: 8 })));
        assert_eq!(parse(&packet(GSS, b"")), Ok(Some(Startup::Gss { len: 8 })));
        assert_eq!(parse(&packet(CANCEL, &[7; 260])), Ok(Some(Startup::Cancel { len: 268 })));
    }

    #[test]
    fn a_broken_list_is_left_to_the_server() {
        assert_eq!(session(b"user\0joe\0database").user, "joe");
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_held() {
        for len in [0, 7, 10_005, u32::MAX] {
            assert_eq!(parse(&len.to_be_bytes()), Err(BadStartup(len)));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0u32..220, code in prop::sample::select(vec![CANCEL, SSL, GSS, 3 << 16, 0])) {
            let _ = parse(&bytes);
            let mut framed = len.to_be_bytes().to_vec();
            framed.extend(code.to_be_bytes());
            framed.extend(&bytes);
            if let Ok(Some(Startup::Session { len, .. } | Startup::Cancel { len } | Startup::Ssl { len } | Startup::Gss { len })) = parse(&framed) {
                prop_assert!(len <= framed.len());
            }
        }
    }
}
