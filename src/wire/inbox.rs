//! Whole frames from a stream, one at a time: for the login, where frames are small and looked into.

use tokio::io::AsyncReadExt;

use crate::wire::error::WireError;
use crate::wire::message::back;
use crate::wire::stream::Stream;

/// No frame of a login is longer: PostgreSQL's own bound for an authentication token, and room for an error.
const MAX_LOGIN_FRAME: usize = 1 << 17;

/// Lengths that an ErrorResponse can have; libpq draws the same line to tell an error in the old format.
const ERROR_LENGTHS: std::ops::RangeInclusive<usize> = 8..=30_000;

/// Bytes that arrived and were not consumed.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

/// A frame as it came; `raw` includes the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    raw: Vec<u8>,
    header: usize,
}

impl RawFrame {
    pub fn tag(&self) -> u8 {
        self.raw.first().copied().unwrap_or_default()
    }

    pub fn body(&self) -> &[u8] {
        self.raw.get(self.header..).unwrap_or_default()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.raw
    }
}

impl Inbox {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The next frame.
    ///
    /// # Cancellation safety
    /// Safe: bytes that were read stay in the inbox.
    pub async fn next(&mut self, stream: &mut Stream) -> Result<RawFrame, WireError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(WireError::Closed);
            }
        }
    }

    /// What has arrived, whether it makes frames or not; empty at the end of the stream.
    ///
    /// # Cancellation safety
    /// Safe, as [`Inbox::next`] is.
    pub async fn chunk(&mut self, stream: &mut Stream) -> Result<Vec<u8>, WireError> {
        if self.bytes.is_empty() {
            stream.read_buf(&mut self.bytes).await?;
        }
        Ok(std::mem::take(&mut self.bytes))
    }

    /// What is left when the login is over.
    pub fn into_rest(self) -> Vec<u8> {
        self.bytes
    }

    fn take(&mut self) -> Result<Option<RawFrame>, WireError> {
        let Some(([_, len @ ..], _)) = self.bytes.split_first_chunk::<5>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if self.bytes.first() == Some(&back::ERROR) && !ERROR_LENGTHS.contains(&len) {
            return self.take_old_error();
        }
        if len < 4 {
            return Err(WireError::Malformed("login"));
        }
        if len > MAX_LOGIN_FRAME {
            return Err(WireError::TooLong { what: "login message", len, limit: MAX_LOGIN_FRAME });
        }
        let whole = len.saturating_add(1);
        if self.bytes.len() < whole {
            return Ok(None);
        }
        Ok(Some(self.split(whole, 5)))
    }

    /// An error in the format of protocol 2, a text without a length: what the server sends when it cannot fork, or to
    /// a client of that protocol.
    fn take_old_error(&mut self) -> Result<Option<RawFrame>, WireError> {
        match memchr::memchr(0, &self.bytes) {
            Some(end) => Ok(Some(self.split(end.saturating_add(1), 1))),
            None if self.bytes.len() > *ERROR_LENGTHS.end() => Err(WireError::Malformed("ErrorResponse")),
            None => Ok(None),
        }
    }

    fn split(&mut self, whole: usize, header: usize) -> RawFrame {
        let rest = self.bytes.split_off(whole);
        RawFrame { raw: std::mem::replace(&mut self.bytes, rest), header }
    }
}
