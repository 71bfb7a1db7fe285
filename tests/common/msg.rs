//! Builders for every message a client can send, plus hand-made broken ones: plain bytes, no checks.

/// A protocol number: major and minor in one word.
pub(crate) const fn version(major: u32, minor: u32) -> u32 {
    major << 16 | minor
}

pub(crate) const SSL_REQUEST: u32 = version(1234, 5679);
pub(crate) const GSSENC_REQUEST: u32 = version(1234, 5680);
pub(crate) const CANCEL_REQUEST: u32 = version(1234, 5678);

/// A frame: type byte, length, body.
pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(len32(body.len() + 4));
    out.extend(body);
    out
}

/// A startup-phase packet: length, code, body.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = len32(body.len() + 8).to_vec();
    out.extend(code.to_be_bytes());
    out.extend(body);
    out
}

pub(crate) fn startup(version: u32, params: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in params {
        cstr(&mut body, name.as_bytes());
        cstr(&mut body, value.as_bytes());
    }
    body.push(0);
    packet(version, &body)
}

pub(crate) fn cancel(pid: i32, key: &[u8]) -> Vec<u8> {
    let mut body = pid.to_be_bytes().to_vec();
    body.extend(key);
    packet(CANCEL_REQUEST, &body)
}

pub(crate) fn query(sql: impl AsRef<[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, sql.as_ref());
    frame(b'Q', &body)
}

pub(crate) fn parse(name: &str, sql: impl AsRef<[u8]>, types: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, name.as_bytes());
    cstr(&mut body, sql.as_ref());
    body.extend(len16(types.len()));
    types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    frame(b'P', &body)
}

/// Bind with text parameters and text results.
pub(crate) fn bind(portal: &str, statement: &str, params: &[Option<&[u8]>]) -> Vec<u8> {
    bind_formats(portal, statement, &[], params, &[])
}

pub(crate) fn bind_formats(
    portal: &str,
    statement: &str,
    formats: &[i16],
    params: &[Option<&[u8]>],
    results: &[i16],
) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, portal.as_bytes());
    cstr(&mut body, statement.as_bytes());
    body.extend(len16(formats.len()));
    formats.iter().for_each(|format| body.extend(format.to_be_bytes()));
    body.extend(len16(params.len()));
    for param in params {
        value(&mut body, *param);
    }
    body.extend(len16(results.len()));
    results.iter().for_each(|format| body.extend(format.to_be_bytes()));
    frame(b'B', &body)
}

/// Describes a statement (`b'S'`) or a portal (`b'P'`).
pub(crate) fn describe(what: u8, name: &str) -> Vec<u8> {
    named(b'D', what, name)
}

/// Closes a statement (`b'S'`) or a portal (`b'P'`).
pub(crate) fn close(what: u8, name: &str) -> Vec<u8> {
    named(b'C', what, name)
}

/// Execute; `limit` 0 asks for all rows.
pub(crate) fn execute(portal: &str, limit: i32) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, portal.as_bytes());
    body.extend(limit.to_be_bytes());
    frame(b'E', &body)
}

pub(crate) fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

pub(crate) fn terminate() -> Vec<u8> {
    frame(b'X', b"")
}

pub(crate) fn copy_data(data: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'd', data.as_ref())
}

pub(crate) fn copy_done() -> Vec<u8> {
    frame(b'c', b"")
}

pub(crate) fn copy_fail(reason: &str) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, reason.as_bytes());
    frame(b'f', &body)
}

/// FunctionCall with binary arguments and a binary result.
pub(crate) fn function_call(oid: u32, args: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend([0, 1, 0, 1]);
    body.extend(len16(args.len()));
    for arg in args {
        value(&mut body, *arg);
    }
    body.extend([0, 1]);
    frame(b'F', &body)
}

pub(crate) fn password(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, text.as_ref());
    frame(b'p', &body)
}

pub(crate) fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    cstr(&mut body, mechanism.as_bytes());
    value(&mut body, Some(data));
    frame(b'p', &body)
}

/// Several messages in one write.
pub(crate) fn together(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.concat()
}

fn named(tag: u8, what: u8, name: &str) -> Vec<u8> {
    let mut body = vec![what];
    cstr(&mut body, name.as_bytes());
    frame(tag, &body)
}

fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text);
    out.push(0);
}

fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.extend((-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend(len32(bytes.len()));
            out.extend(bytes);
        }
    }
}

fn len32(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a test's message is shorter than 4 GiB").to_be_bytes()
}

fn len16(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("counts are unsigned 16 bits").to_be_bytes()
}
