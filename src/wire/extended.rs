//! Bodies of the extended protocol's messages: read from clients, and made for statements of our own.

use crate::wire::message::{front, put_frame, split_cstr};

/// A Parse message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse<'a> {
    pub statement: &'a [u8],
    pub sql: &'a [u8],
    /// Parameter types as far as they are told; 0 leaves one to the server.
    pub types: Vec<u32>,
}

/// A Bind message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// None for all text, one for all, or one for each.
    pub formats: Vec<u16>,
    pub params: Vec<Option<&'a [u8]>>,
    pub results: Vec<u16>,
}

impl<'a> Parse<'a> {
    /// `None` for what the server will refuse as malformed.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (statement, rest) = split_cstr(body)?;
        let (sql, rest) = split_cstr(rest)?;
        let mut reader = Reader(rest);
        let types = (0..reader.u16()?).map(|_| reader.u32()).collect::<Option<_>>()?;
        reader.0.is_empty().then_some(Self { statement, sql, types })
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        framed(out, front::PARSE, |out| {
            put_cstr(out, self.statement);
            put_cstr(out, self.sql);
            put_count(out, self.types.len());
            self.types.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
        });
    }
}

impl<'a> Bind<'a> {
    /// `None` for what the server will refuse as malformed.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (portal, rest) = split_cstr(body)?;
        let (statement, rest) = split_cstr(rest)?;
        let mut reader = Reader(rest);
        let formats = reader.formats()?;
        let params = (0..reader.u16()?).map(|_| reader.value()).collect::<Option<_>>()?;
        let results = reader.formats()?;
        reader.0.is_empty().then_some(Self { portal, statement, formats, params, results })
    }

    /// Whether a parameter (from 0) is bound in binary.
    pub fn is_binary(&self, param: usize) -> bool {
        let format = if self.formats.len() == 1 { self.formats.first() } else { self.formats.get(param) };
        format == Some(&BINARY)
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        framed(out, front::BIND, |out| {
            put_cstr(out, self.portal);
            put_cstr(out, self.statement);
            put_formats(out, &self.formats);
            put_count(out, self.params.len());
            for param in &self.params {
                match param {
                    None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                    Some(value) => {
                        // A value came in a frame, or was made by us: its length fits.
                        let len = i32::try_from(value.len()).unwrap_or(i32::MAX);
                        out.extend_from_slice(&len.to_be_bytes());
                        out.extend_from_slice(value);
                    }
                }
            }
            put_formats(out, &self.results);
        });
    }
}

/// The format code of binary values.
pub const BINARY: u16 = 1;

/// Execute; `limit` 0 asks for all rows.
pub fn put_execute(out: &mut Vec<u8>, portal: &[u8], limit: i32) {
    framed(out, front::EXECUTE, |out| {
        put_cstr(out, portal);
        out.extend_from_slice(&limit.to_be_bytes());
    });
}

/// Describe of a portal.
pub fn put_describe_portal(out: &mut Vec<u8>, portal: &[u8]) {
    put_named(out, front::DESCRIBE, b'P', portal);
}

/// Close of a statement (`b'S'`) or a portal (`b'P'`).
pub fn put_close(out: &mut Vec<u8>, what: u8, name: &[u8]) {
    put_named(out, front::CLOSE, what, name);
}

/// A simple query.
pub fn put_query(out: &mut Vec<u8>, sql: &[u8]) {
    framed(out, front::QUERY, |out| put_cstr(out, sql));
}

pub fn put_sync(out: &mut Vec<u8>) {
    put_frame(out, front::SYNC, &[]);
}

pub fn put_flush(out: &mut Vec<u8>) {
    put_frame(out, front::FLUSH, &[]);
}

/// Appends a frame whose body `body` writes.
pub fn framed(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len().saturating_sub(at)).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = len.to_be_bytes();
    }
}

fn put_named(out: &mut Vec<u8>, tag: u8, what: u8, name: &[u8]) {
    framed(out, tag, |out| {
        out.push(what);
        put_cstr(out, name);
    });
}

fn put_cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

fn put_formats(out: &mut Vec<u8>, formats: &[u16]) {
    put_count(out, formats.len());
    formats.iter().for_each(|format| out.extend_from_slice(&format.to_be_bytes()));
}

/// Reads numbers and values off the front of a body.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    pub fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// A value with its length in front; -1 is NULL.
    pub fn value(&mut self) -> Option<Option<&'a [u8]>> {
        let len = self.u32()?.cast_signed();
        if len == -1 {
            return Some(None);
        }
        let (value, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(Some(value))
    }

    fn formats(&mut self) -> Option<Vec<u16>> {
        (0..self.u16()?).map(|_| self.u16()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_again() {
        let parse = Parse { statement: b"s", sql: b"select $1", types: vec![23, 0] };
        let mut out = Vec::new();
        parse.put(&mut out);
        assert_eq!(out[0], front::PARSE);
        assert_eq!(u32::from_be_bytes(*out[1..].first_chunk().unwrap()) as usize, out.len() - 1);
        assert_eq!(Parse::read(&out[5..]), Some(parse));
        let bind = Bind {
            portal: b"p",
            statement: b"s",
            formats: vec![0, 1],
            params: vec![None, Some(b"x"), Some(b"")],
            results: vec![1],
        };
        out.clear();
        bind.put(&mut out);
        assert_eq!(Bind::read(&out[5..]), Some(bind.clone()));
        assert!(!bind.is_binary(0) && bind.is_binary(1) && !bind.is_binary(2));
    }

    #[test]
    fn malformed_bodies_are_none() {
        let bind = Bind { portal: b"", statement: b"s", formats: vec![], params: vec![Some(b"abc")], results: vec![] };
        let mut out = Vec::new();
        bind.put(&mut out);
        for cut in 5..out.len() {
            assert_eq!(Bind::read(&out[5..cut]), None);
        }
        out.push(0);
        assert_eq!(Bind::read(&out[5..]), None);
        assert_eq!(Parse::read(b"s\0select\0\0\x01"), None);
    }
}
