//! Where one character ends in what a client sends, for the encodings whose later bytes may look like ASCII.

/// What the lexer must know of `client_encoding`.
///
/// The server converts a query to its own encoding before it scans it, and in a server encoding every byte of a
/// multibyte character has its high bit set. A client's encoding need not: the second byte may be a backslash, a letter
/// or `|`. It is never a quote, `$`, `;`, `*`, `/`, `-` or a line's end (they lie below 0x30; `;` is no second byte), so
/// only identifiers and escape strings need character steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientEncoding {
    /// No byte of a multibyte character is ASCII: UTF8, LATIN1, EUC_JP and every other encoding a server may have.
    #[default]
    AsciiSafe,
    Sjis,
    Big5,
    Gbk,
    Uhc,
    Gb18030,
    Johab,
    ShiftJis2004,
}

impl ClientEncoding {
    /// From a value of the parameter `client_encoding`, in the server's spelling or any that it would accept.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        // The server compares the letters and digits alone, in lower case.
        let letters = || name.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase());
        let is = |known: &str| letters().eq(known.bytes());
        let any = |known: &[&str]| known.iter().any(|k| is(k));
        if any(&["sjis", "shiftjis", "mskanji", "win932", "windows932"]) {
            Self::Sjis
        } else if any(&["big5", "win950", "windows950"]) {
            Self::Big5
        } else if any(&["gbk", "win936", "windows936"]) {
            Self::Gbk
        } else if any(&["uhc", "win949", "windows949"]) {
            Self::Uhc
        } else if is("gb18030") {
            Self::Gb18030
        } else if is("johab") {
            Self::Johab
        } else if is("shiftjis2004") {
            Self::ShiftJis2004
        } else {
            Self::AsciiSafe
        }
    }

    /// How many bytes the character at the start of `text` has; never more than there are.
    ///
    /// Only where characters end matters here, so an ASCII-safe encoding counts bytes.
    #[must_use]
    pub fn char_len(self, text: &[u8]) -> usize {
        let Some(&first) = text.first() else { return 0 };
        if first < 0x80 {
            return 1;
        }
        let len = match self {
            Self::AsciiSafe => 1,
            Self::Sjis | Self::ShiftJis2004 => match first {
                0xa1..=0xdf => 1, // half-width kana
                _ => 2,
            },
            Self::Big5 | Self::Gbk | Self::Uhc => 2,
            Self::Gb18030 => match text.get(1) {
                Some(b'0'..=b'9') => 4,
                _ => 2,
            },
            Self::Johab => match first {
                0x8f => 3,
                _ => 2,
            },
        };
        len.min(text.len())
    }

    /// The ASCII character that the server scans in place of the character at the start of `text`.
    ///
    /// Measured on PostgreSQL 15, over all two-byte characters of these encodings: converted to UTF8 these two of
    /// SHIFT_JIS_2004, and no others, become ASCII. (A server in EUC_JIS_2004 keeps them; there the lexer errs.)
    #[must_use]
    pub fn seen_as(self, text: &[u8]) -> Option<u8> {
        match (self, text) {
            (Self::ShiftJis2004, [0x81, 0x5f, ..]) => Some(b'\\'),
            (Self::ShiftJis2004, [0x81, 0xb0, ..]) => Some(b'~'),
            (_, [first, ..]) if first.is_ascii() => Some(*first),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ClientEncoding as E;

    #[test]
    fn knows_the_servers_spelling_and_its_aliases() {
        for (name, encoding) in [
            ("SJIS", E::Sjis),
            ("Shift_JIS", E::Sjis),
            ("BIG5", E::Big5),
            ("windows-936", E::Gbk),
            ("UHC", E::Uhc),
            ("gb18030", E::Gb18030),
            ("JOHAB", E::Johab),
            ("SHIFT_JIS_2004", E::ShiftJis2004),
            ("UTF8", E::AsciiSafe),
            ("LATIN1", E::AsciiSafe),
            ("EUC_JP", E::AsciiSafe),
            ("", E::AsciiSafe),
        ] {
            assert_eq!(E::from_name(name), encoding, "{name}");
        }
    }

    #[test]
    fn steps_over_whole_characters() {
        for (encoding, text, len) in [
            (E::AsciiSafe, &b"\xe3\x81\x82"[..], 1),
            (E::Sjis, b"a\x5c", 1),
            (E::Sjis, b"\x95\x5c", 2),
            (E::Sjis, b"\xb1\x5c", 1),
            (E::Sjis, b"\x95", 1),
            (E::Big5, b"\xa5\x5c", 2),
            (E::Gbk, b"\x81\x5c", 2),
            (E::Gb18030, b"\x81\x30\x81\x30", 4),
            (E::Gb18030, b"\x81\x40", 2),
            (E::Gb18030, b"\x81\x30", 2),
            (E::Johab, b"\x8f\xa1\xa1", 3),
            (E::Johab, b"", 0),
        ] {
            assert_eq!(encoding.char_len(text), len, "{encoding:?} {text:x?}");
        }
    }
}
