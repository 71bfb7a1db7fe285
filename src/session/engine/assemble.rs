//! Cuts a byte stream into frames that can be replaced: whole where they are small or somebody waits for them, streamed
//! where they are large and concern nobody (I7).

use crate::wire::frame::BadFrame;

/// Bytes of type and length word.
pub(super) const HEADER: usize = 5;

/// What comes next out of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole frame with its header, borrowed from the chunk.
    Whole(&'a [u8]),
    /// A whole frame with its header, put together from several chunks.
    Joined(Vec<u8>),
    /// The beginning of a frame, header included, the rest of which follows as [`Piece::More`].
    Begin { bytes: Vec<u8> },
    /// More of a frame that has begun.
    More(&'a [u8]),
}

/// Where a stream stands between two chunks.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The frame that is being put together: its bytes so far.
    held: Vec<u8>,
    /// Bytes still to come of a frame that has begun.
    left: usize,
}

impl Assembler {
    /// Whether the next byte starts a frame.
    pub(super) fn at_boundary(&self) -> bool {
        self.left == 0 && self.held.is_empty()
    }

    /// Whether a part of a frame was handed out and the rest is still to come.
    pub(super) fn within_frame(&self) -> bool {
        self.left > 0
    }

    /// Takes the next piece off `chunk`; `None` when it is used up.
    ///
    /// `wait` says how many bytes of a body of this type and length are waited for before any is handed out.
    pub(super) fn next<'a>(
        &mut self,
        chunk: &mut &'a [u8],
        wait: impl Fn(u8, usize) -> usize,
    ) -> Result<Option<Piece<'a>>, BadFrame> {
        if chunk.is_empty() {
            return Ok(None);
        }
        if self.left > 0 {
            let (more, rest) = chunk.split_at_checked(self.left).unwrap_or((chunk, &[]));
            self.left = self.left.saturating_sub(more.len());
            *chunk = rest;
            return Ok(Some(Piece::More(more)));
        }
        if self.held.is_empty()
            && let Some(header) = chunk.first_chunk()
        {
            let (_, len) = decode(header)?;
            if let Some((frame, rest)) = chunk.split_at_checked(len.saturating_add(HEADER)) {
                *chunk = rest;
                return Ok(Some(Piece::Whole(frame)));
            }
            // Else it goes on in the next chunk.
        }
        self.join(chunk, wait)
    }

    fn join<'a>(
        &mut self,
        chunk: &mut &'a [u8],
        wait: impl Fn(u8, usize) -> usize,
    ) -> Result<Option<Piece<'a>>, BadFrame> {
        let mut take = |held: &mut Vec<u8>, upto: usize| {
            let missing = upto.saturating_sub(held.len());
            let (bytes, rest) = chunk.split_at_checked(missing).unwrap_or((chunk, &[]));
            held.extend_from_slice(bytes);
            *chunk = rest;
            held.len() >= upto
        };
        if !take(&mut self.held, HEADER) {
            return Ok(None);
        }
        let Some(header) = self.held.first_chunk() else { return Ok(None) };
        let (tag, len) = decode(header)?;
        let wanted = wait(tag, len).min(len).saturating_add(HEADER);
        if !take(&mut self.held, wanted) {
            return Ok(None);
        }
        let whole = len.saturating_add(HEADER);
        let bytes = std::mem::take(&mut self.held);
        self.left = whole.saturating_sub(bytes.len());
        Ok(Some(if self.left == 0 { Piece::Joined(bytes) } else { Piece::Begin { bytes } }))
    }

    /// What is held of a frame that cannot be.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Puts a frame that has begun back, to wait for all of it after all.
    pub(super) fn hold(&mut self, begun: Vec<u8>) {
        self.left = 0;
        self.held = begun;
    }
}

fn decode(header: &[u8; HEADER]) -> Result<(u8, usize), BadFrame> {
    let [tag, len @ ..] = *header;
    let len = i32::from_be_bytes(len);
    match usize::try_from(len).ok().and_then(|len| len.checked_sub(4)) {
        Some(body) => Ok((tag, body)),
        None => Err(BadFrame { tag, len }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::wire::message::put_frame;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_lost_or_moved(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..12),
            cuts in prop::collection::vec(1usize..23, 1..40),
            wait in 0usize..70,
        ) {
            let mut bytes = Vec::new();
            bodies.iter().for_each(|body| put_frame(&mut bytes, b'Q', body));
            let mut assembler = Assembler::default();
            let mut out = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (mut chunk, tail) = rest.split_at((*cut).min(rest.len()));
                while let Some(piece) = assembler.next(&mut chunk, |_, _| wait).unwrap() {
                    match piece {
                        Piece::Whole(frame) | Piece::More(frame) => out.extend_from_slice(frame),
                        Piece::Joined(frame) => out.extend_from_slice(&frame),
                        Piece::Begin { bytes } => {
                            prop_assert!(bytes.len() >= HEADER + wait);
                            out.extend_from_slice(&bytes);
                        }
                    }
                }
                rest = tail;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(out, bytes);
            prop_assert!(assembler.at_boundary());
        }
    }

    #[test]
    fn a_frame_that_has_begun_can_be_waited_for() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, b'Q', b"0123456789");
        let mut assembler = Assembler::default();
        let mut chunk = &bytes[..9];
        let Some(Piece::Begin { bytes: begun }) = assembler.next(&mut chunk, |_, _| 2).unwrap() else { panic!() };
        assert_eq!(chunk, &bytes[7..9]);
        assembler.hold(begun);
        let mut rest = &bytes[7..];
        assert_eq!(assembler.next(&mut rest, |_, _| usize::MAX).unwrap(), Some(Piece::Joined(bytes.clone())));
    }

    #[test]
    fn impossible_lengths_are_errors() {
        assert!(Assembler::default().next(&mut &b"Q\0\0\0\x03"[..], |_, _| 0).is_err());
    }
}
