//! Scanning in any chunks finds what scanning at once finds, and what a plain reading of the bytes finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgcanon::wire::frame::{BadFrame, Scanner};

type Seen = Vec<(u8, u32, Vec<u8>)>;

/// Some types are of no interest, some for a few bytes, some for all.
fn interest(tag: u8) -> usize {
    [0, 1, 7, 100, usize::MAX][usize::from(tag) % 5]
}

fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Seen, Option<BadFrame>, bool) {
    let mut scanner = Scanner::default();
    let mut seen = Seen::new();
    for chunk in chunks {
        let fed = scanner.feed(chunk, interest, |frame| {
            assert_eq!(frame.is_whole(), frame.head.len() as u64 == u64::from(frame.body_len));
            seen.push((frame.tag, frame.body_len, frame.head.to_vec()));
        });
        if let Err(bad) = fed {
            return (seen, Some(bad), false);
        }
    }
    (seen, None, scanner.at_boundary())
}

/// The same without a scanner.
fn read(mut bytes: &[u8]) -> (Seen, Option<BadFrame>, bool) {
    let mut seen = Seen::new();
    while let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk() {
        let len = i32::from_be_bytes([a, b, c, d]);
        if len < 4 {
            return (seen, Some(BadFrame { tag, len }), false);
        }
        let Some((body, rest)) = rest.split_at_checked(len as usize - 4) else { return (seen, None, false) };
        seen.push((tag, len as u32 - 4, body[..interest(tag).min(body.len())].to_vec()));
        bytes = rest;
    }
    (seen, None, bytes.is_empty())
}

fuzz_target!(|data: &[u8]| {
    // The first byte says how many of the next are lengths of chunks.
    let Some((&cuts, rest)) = data.split_first() else { return };
    let (cuts, stream) = rest.split_at(usize::from(cuts % 32).min(rest.len()));
    let mut chunks = Vec::new();
    let mut left = stream;
    for cut in cuts {
        let (chunk, rest) = left.split_at(usize::from(*cut).min(left.len()));
        chunks.push(chunk);
        left = rest;
    }
    chunks.push(left);
    let expected = read(stream);
    assert_eq!(scan([stream]), expected);
    assert_eq!(scan(chunks), expected);
    assert_eq!(scan(stream.chunks(1)), expected);
});
