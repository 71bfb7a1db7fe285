//! Tells the words for a moment among the words of a value, byte by byte.
//!
//! All words are followed at once: each letter of each word is a bit, which is set when the letters up to it were met.

/// `now`, `today`, `tomorrow`, `yesterday`: one bit for each letter, lowest first.
const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// In a mask: the byte is a letter.
const LETTER: u32 = 1 << 31;

const STARTS: u32 = bits().1;
const ENDS: u32 = bits().2;

/// For each byte the letters that it may be.
static MASKS: [u32; 256] = bits().0;

#[allow(clippy::indexing_slicing)]
// evaluated when this is compiled
const fn bits() -> ([u32; 256], u32, u32) {
    let (mut masks, mut starts, mut ends) = ([0; 256], 0, 0);
    let mut letter = b'a';
    while letter <= b'z' {
        masks[letter as usize] = LETTER;
        masks[letter.to_ascii_uppercase() as usize] = LETTER;
        letter += 1;
    }
    let (mut word, mut bit) = (0, 0);
    while word < WORDS.len() {
        let letters = WORDS[word];
        starts |= 1 << bit;
        let mut at = 0;
        while at < letters.len() {
            masks[letters[at] as usize] |= 1 << bit;
            masks[letters[at].to_ascii_uppercase() as usize] |= 1 << bit;
            bit += 1;
            at += 1;
        }
        ends |= 1 << (bit - 1);
        word += 1;
    }
    (masks, starts, ends)
}

/// How far each word has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matcher {
    met: u32,
    /// A word may begin here.
    fresh: bool,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { met: 0, fresh: true }
    }
}

impl Matcher {
    /// Takes bytes of a value; whether one of the words has come to its end.
    pub(super) fn plain(&mut self, bytes: &[u8]) -> bool {
        if !has_letters(bytes) {
            return !bytes.is_empty() && self.end();
        }
        let Self { mut met, mut fresh } = *self;
        let mut hit = false;
        for &byte in bytes {
            let mask = mask(byte);
            if mask == 0 {
                hit |= met & ENDS != 0;
                met = 0;
                fresh = true;
            } else {
                // A word's end does not lead to the next word's beginning.
                met = (((met & !ENDS) << 1) | if fresh { STARTS } else { 0 }) & mask & !LETTER;
                fresh = false;
            }
        }
        *self = Self { met, fresh };
        hit
    }

    /// [`Matcher::plain`] where quotes and backslashes may be the value's, or only say how it is to be read: both count.
    pub(super) fn quoted(&mut self, bytes: &[u8]) -> bool {
        if !has_letters(bytes) && self.met == 0 {
            self.fresh |= !bytes.is_empty();
            return false;
        }
        let mut hit = false;
        for &byte in bytes {
            if matches!(byte, b'"' | b'\\') {
                hit |= self.met & ENDS != 0;
                self.fresh = true;
            } else {
                hit |= self.plain(&[byte]);
            }
        }
        hit
    }

    /// The value, or the word, is over.
    pub(super) fn end(&mut self) -> bool {
        let hit = self.met & ENDS != 0;
        *self = Self::default();
        hit
    }
}

/// Most dates have none; told without a branch for each byte.
fn has_letters(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, b| found | ((b | 0x20).wrapping_sub(b'a') < 26))
}

fn mask(byte: u8) -> u32 {
    MASKS.get(usize::from(byte)).copied().unwrap_or(0)
}
