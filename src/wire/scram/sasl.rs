//! The bodies of the SASL messages, without their five-byte frame headers; anything malformed is an error, never a panic.

use super::{SCRAM_SHA_256_PLUS, attr::shown_text};

/// AuthenticationSASL: the list of mechanisms.
const CODE_SASL: u32 = 10;
/// AuthenticationSASLContinue: a challenge.
const CODE_CONTINUE: u32 = 11;
/// AuthenticationSASLFinal: the server's own proof.
const CODE_FINAL: u32 = 12;

/// A body that is not what its message type asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The body ends before its fields do.
    #[error("insufficient data left in message")]
    Short,
    /// A string has no end.
    #[error("invalid string in message")]
    Unterminated,
    /// Bytes follow the last field.
    #[error("invalid message format")]
    Trailing,
    /// The authentication request is of another kind than the exchange is at.
    #[error("authentication request {0} where a SASL message was expected")]
    Kind(u32),
}

/// What a client says about channel binding in the first byte of its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CbindFlag {
    /// `n`: the client does not do channel binding.
    Unsupported,
    /// `y`: the client does, and believes that the server does not.
    NotOffered,
    /// `p`: the client binds.
    Bound,
    /// Any other byte; the server refuses it.
    Other(u8),
}

/// The body of a SASLInitialResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitialResponse<'a> {
    /// The name of the chosen mechanism.
    pub mechanism: &'a [u8],
    /// The first message of the mechanism, if it came along.
    pub data: Option<&'a [u8]>,
}

impl<'a> InitialResponse<'a> {
    /// Takes a body apart.
    pub fn parse(body: &'a [u8]) -> Result<Self, SaslError> {
        let (mechanism, rest) = c_string(body)?;
        let (length, rest) = rest.split_first_chunk().ok_or(SaslError::Short)?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            return if rest.is_empty() { Ok(Self { mechanism, data: None }) } else { Err(SaslError::Trailing) };
        }
        let length = usize::try_from(length).map_err(|_| SaslError::Short)?;
        let (data, rest) = rest.split_at_checked(length).ok_or(SaslError::Short)?;
        if rest.is_empty() { Ok(Self { mechanism, data: Some(data) }) } else { Err(SaslError::Trailing) }
    }

    /// Puts a body together.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = self.mechanism.to_vec();
        body.push(0);
        match self.data.map(|data| (data, i32::try_from(data.len()))) {
            Some((data, Ok(length))) => {
                body.extend(length.to_be_bytes());
                body.extend(data);
            }
            _ => body.extend((-1i32).to_be_bytes()),
        }
        body
    }
}

/// The channel-binding flag of a SASLInitialResponse body; `None` if its first message has yet to come.
pub fn cbind_flag(body: &[u8]) -> Result<Option<CbindFlag>, SaslError> {
    let first = InitialResponse::parse(body)?.data.and_then(<[u8]>::first);
    Ok(first.map(|byte| match byte {
        b'n' => CbindFlag::Unsupported,
        b'y' => CbindFlag::NotOffered,
        b'p' => CbindFlag::Bound,
        other => CbindFlag::Other(*other),
    }))
}

/// The mechanisms of an AuthenticationSASL body (the code 10 included), in the server's order.
pub fn parse_mechanisms(body: &[u8]) -> Result<Vec<&[u8]>, SaslError> {
    let mut rest = sasl_list(body)?;
    let mut names = Vec::new();
    loop {
        let (name, after) = c_string(rest)?;
        rest = after;
        if name.is_empty() {
            return if rest.is_empty() { Ok(names) } else { Err(SaslError::Trailing) };
        }
        names.push(name);
    }
}

/// An AuthenticationSASL body as it must read on a leg that has no TLS of the server's: the `-PLUS` mechanism left out.
pub fn without_plus(body: &[u8]) -> Result<Vec<u8>, SaslError> {
    let names = parse_mechanisms(body)?;
    Ok(authentication_sasl(names.into_iter().filter(|name| *name != SCRAM_SHA_256_PLUS.as_bytes())))
}

/// An AuthenticationSASL body that offers these mechanisms.
pub fn authentication_sasl<'a>(mechanisms: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = CODE_SASL.to_be_bytes().to_vec();
    for name in mechanisms {
        body.extend(name);
        body.push(0);
    }
    body.push(0);
    body
}

/// An AuthenticationSASLContinue body.
pub fn sasl_continue(data: &[u8]) -> Vec<u8> {
    [&CODE_CONTINUE.to_be_bytes(), data].concat()
}

/// An AuthenticationSASLFinal body.
pub fn sasl_final(data: &[u8]) -> Vec<u8> {
    [&CODE_FINAL.to_be_bytes(), data].concat()
}

/// The SCRAM message inside an AuthenticationSASLContinue or AuthenticationSASLFinal body.
pub fn sasl_payload(body: &[u8], last: bool) -> Result<&[u8], SaslError> {
    let (code, data) = split_code(body)?;
    if code == if last { CODE_FINAL } else { CODE_CONTINUE } { Ok(data) } else { Err(SaslError::Kind(code)) }
}

fn sasl_list(body: &[u8]) -> Result<&[u8], SaslError> {
    let (code, list) = split_code(body)?;
    if code == CODE_SASL { Ok(list) } else { Err(SaslError::Kind(code)) }
}

fn split_code(body: &[u8]) -> Result<(u32, &[u8]), SaslError> {
    let (code, rest) = body.split_first_chunk().ok_or(SaslError::Short)?;
    Ok((u32::from_be_bytes(*code), rest))
}

fn c_string(bytes: &[u8]) -> Result<(&[u8], &[u8]), SaslError> {
    let end = memchr::memchr(0, bytes).ok_or(SaslError::Unterminated)?;
    let (text, rest) = bytes.split_at_checked(end).ok_or(SaslError::Unterminated)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// Mechanism names for a message that a person reads.
pub(super) fn listed(names: &[&[u8]]) -> String {
    names.iter().map(|name| shown_text(name)).collect::<Vec<_>>().join(", ")
}
