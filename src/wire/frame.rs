//! Finds frames in a byte stream, chunk by chunk, without holding a frame that need not be held (I7).

/// A frame whose last byte has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub tag: u8,
    /// Length of the body, without type and length word.
    pub body_len: u32,
    /// The body's first bytes: all of them, or as many as the reader asked for.
    pub head: &'a [u8],
}

impl Frame<'_> {
    /// Whether `head` is the whole body.
    pub fn is_whole(&self) -> bool {
        u32::try_from(self.head.len()) == Ok(self.body_len)
    }
}

/// The length word of a frame is below its own size or above what 31 bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of type 0x{tag:02x} with invalid length {len}")]
pub struct BadFrame {
    pub tag: u8,
    pub len: i32,
}

/// Where a scanner stands between two chunks.
#[derive(Debug)]
enum Place {
    /// Before or inside a frame's five bytes of header, of which `have` are in `header`.
    Header { header: [u8; 5], have: usize },
    /// Inside a body: `left` bytes are still to come.
    Body { tag: u8, body_len: u32, left: u32, keep: usize },
}

const START: Place = Place::Header { header: [0; 5], have: 0 };

/// Scans one direction of a connection.
#[derive(Debug)]
pub struct Scanner {
    place: Place,
    /// The kept head of a frame that spans chunks; empty, and without memory, otherwise.
    kept: Vec<u8>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { place: START, kept: Vec::new() }
    }
}

impl Scanner {
    /// Whether the next byte starts a frame: the only place where a message may be put into the stream.
    pub fn at_boundary(&self) -> bool {
        matches!(self.place, Place::Header { have: 0, .. })
    }

    /// Reads on; calls `on_frame` for every frame that ends in `chunk`.
    ///
    /// `interest` says for a frame type how many bytes of the body are wanted. A head that lies whole in `chunk`
    /// is borrowed from it; only one that spans chunks is copied.
    pub fn feed(
        &mut self,
        mut chunk: &[u8],
        interest: impl Fn(u8) -> usize,
        mut on_frame: impl FnMut(Frame<'_>),
    ) -> Result<(), BadFrame> {
        loop {
            match &mut self.place {
                Place::Header { header, have } => {
                    let (tag, body_len) = if *have == 0
                        && let Some((whole, rest)) = chunk.split_first_chunk::<5>()
                    {
                        chunk = rest;
                        decode(whole)?
                    } else {
                        let Some((&byte, rest)) = chunk.split_first() else { return Ok(()) };
                        if let Some(slot) = header.get_mut(*have) {
                            *slot = byte;
                        }
                        *have = have.saturating_add(1);
                        chunk = rest;
                        if *have < header.len() {
                            continue;
                        }
                        decode(header)?
                    };
                    let keep = interest(tag).min(usize::try_from(body_len).unwrap_or(usize::MAX));
                    if let Some((body, rest)) = split_at_u32(chunk, body_len) {
                        self.place = START;
                        chunk = rest;
                        on_frame(Frame { tag, body_len, head: body.get(..keep).unwrap_or(body) });
                    } else {
                        self.place = Place::Body { tag, body_len, left: body_len, keep };
                    }
                }
                Place::Body { tag, body_len, left, keep } => {
                    let (body, rest) = split_at_u32(chunk, *left).unwrap_or((chunk, &[]));
                    let missing = keep.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(body.get(..missing).unwrap_or(body));
                    // `body` is at most `left` bytes long, so it fits and the difference is exact.
                    *left = left.saturating_sub(u32::try_from(body.len()).unwrap_or(u32::MAX));
                    if *left > 0 {
                        return Ok(());
                    }
                    let (tag, body_len) = (*tag, *body_len);
                    self.place = START;
                    chunk = rest;
                    let head = std::mem::take(&mut self.kept);
                    on_frame(Frame { tag, body_len, head: &head });
                }
            }
        }
    }
}

fn split_at_u32(bytes: &[u8], at: u32) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(usize::try_from(at).ok()?)
}

fn decode(header: &[u8; 5]) -> Result<(u8, u32), BadFrame> {
    let [tag, len @ ..] = *header;
    let len = i32::from_be_bytes(len);
    match u32::try_from(len).ok().and_then(|len| len.checked_sub(4)) {
        Some(body_len) => Ok((tag, body_len)),
        None => Err(BadFrame { tag, len }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::wire::message::put_frame;
    use proptest::prelude::*;

    fn scan(scanner: &mut Scanner, chunk: &[u8], keep: usize) -> Result<Vec<(u8, u32, Vec<u8>)>, BadFrame> {
        let mut seen = Vec::new();
        scanner.feed(chunk, |_| keep, |f| seen.push((f.tag, f.body_len, f.head.to_vec())))?;
        Ok(seen)
    }

    #[test]
    fn a_head_is_cut_at_the_interest() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, b'Q', b"select 1\0");
        let seen = scan(&mut Scanner::default(), &bytes, 6).unwrap();
        assert_eq!(seen, [(b'Q', 9, b"select".to_vec())]);
    }

    #[test]
    fn a_frame_is_reported_with_its_last_byte_only() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, b'Z', b"I");
        let mut scanner = Scanner::default();
        assert_eq!(scan(&mut scanner, &bytes[..5], 9).unwrap(), []);
        assert!(!scanner.at_boundary());
        assert_eq!(scan(&mut scanner, &bytes[5..], 9).unwrap(), [(b'Z', 1, b"I".to_vec())]);
        assert!(scanner.at_boundary());
    }

    #[test]
    fn lengths_no_frame_can_have_are_errors() {
        for len in [-1, 0, 3, i32::MIN] {
            let mut bytes = vec![b'Q'];
            bytes.extend(len.to_be_bytes());
            let err = scan(&mut Scanner::default(), &bytes, 9).unwrap_err();
            assert_eq!(err, BadFrame { tag: b'Q', len });
        }
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            cuts in prop::collection::vec(1usize..17, 1..60),
            keep in 0usize..50,
        ) {
            let mut bytes = Vec::new();
            for (tag, body) in &frames {
                put_frame(&mut bytes, *tag, body);
            }
            let expected: Vec<_> =
                frames.iter().map(|(t, b)| (*t, b.len() as u32, b[..keep.min(b.len())].to_vec())).collect();
            let mut scanner = Scanner::default();
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                seen.extend(scan(&mut scanner, chunk, keep).unwrap());
                rest = tail;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(seen, expected);
            prop_assert!(scanner.at_boundary());
            prop_assert_eq!(scanner.kept.capacity(), 0);
        }

        #[test]
        fn no_bytes_make_it_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let mut scanner = Scanner::default();
            for chunk in chunks {
                if scan(&mut scanner, &chunk, 16).is_err() { break; }
            }
        }
    }
}
