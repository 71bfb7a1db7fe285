//! What the client must not see: the capture column, our tags, and our words in an error's position.

use crate::capture::write::Rewritten;
use crate::sql::ClientEncoding;
use crate::wire::extended::{Reader, framed};
use crate::wire::message::{back, split_cstr};

/// A text of ours in place of the client's.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) rewritten: Rewritten,
    pub(super) original: Vec<u8>,
}

/// How characters are told apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Characters {
    pub(super) encoding: ClientEncoding,
    pub(super) utf8: bool,
}

/// Bytes of a field description behind its name.
const FIELD: usize = 18;

/// RowDescription without its last column.
pub(super) fn cut_description(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let kept = reader.u16()?.checked_sub(1)?;
    let start = reader.0;
    let mut rest = start;
    for _ in 0..kept {
        rest = split_cstr(rest)?.1.get(FIELD..)?;
    }
    let fields = start.get(..start.len().checked_sub(rest.len())?)?;
    let mut out = Vec::with_capacity(body.len());
    framed(&mut out, back::ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&kept.to_be_bytes());
        out.extend_from_slice(fields);
    });
    Some(out)
}

/// DataRow as the client's columns and our last one.
pub(super) fn cut_row(body: &[u8]) -> Option<(CutRow<'_>, Option<&[u8]>)> {
    let mut reader = Reader(body);
    let kept = reader.u16()?.checked_sub(1)?;
    let start = reader.0;
    for _ in 0..kept {
        reader.value()?;
    }
    let values = start.get(..start.len().checked_sub(reader.0.len())?)?;
    let last = reader.value()?;
    reader.0.is_empty().then_some((CutRow { kept, values }, last))
}

/// The columns of a DataRow that are the client's.
#[derive(Debug)]
pub(super) struct CutRow<'a> {
    kept: u16,
    values: &'a [u8],
}

impl CutRow<'_> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        framed(out, back::DATA_ROW, |out| {
            out.extend_from_slice(&self.kept.to_be_bytes());
            out.extend_from_slice(self.values);
        });
    }
}

/// The number at the end of a command tag.
pub(super) fn tag_count(tag: &[u8]) -> Option<u64> {
    let digits = tag.rsplit(|&b| b == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// CommandComplete with a tag of words and a count.
pub(super) fn put_tag(out: &mut Vec<u8>, words: &str, count: u64) {
    framed(out, back::COMMAND_COMPLETE, |out| {
        out.extend_from_slice(words.as_bytes());
        out.extend_from_slice(format!(" {count}\0").as_bytes());
    });
}

/// An ErrorResponse or a NoticeResponse that speaks of the client's own text again.
pub(super) fn map_report(tag: u8, body: &[u8], template: &Template, characters: Characters) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    framed(&mut out, tag, |out| {
        let mut rest = body;
        while let Some((field, behind)) = split_cstr(rest).filter(|(field, _)| !field.is_empty()) {
            let position = field.strip_prefix(b"P").and_then(|p| std::str::from_utf8(p).ok()?.parse().ok());
            match position {
                Some(position) => {
                    let own = template.own_position(position, characters);
                    out.extend_from_slice(format!("P{own}\0").as_bytes());
                }
                None => {
                    out.extend_from_slice(field);
                    out.push(0);
                }
            }
            rest = behind;
        }
        out.push(0);
    });
    out
}

impl Template {
    /// Both positions count characters from 1.
    fn own_position(&self, position: usize, characters: Characters) -> usize {
        let at = characters.offset(&self.rewritten.sql, position.saturating_sub(1));
        characters.count(&self.original, self.rewritten.original(at)).saturating_add(1)
    }
}

impl Template {
    /// Whether what stands at this position is none of the client's.
    pub(super) fn is_put_in(&self, position: usize, characters: Characters) -> bool {
        let at = characters.offset(&self.rewritten.sql, position.saturating_sub(1));
        self.rewritten.inserted.iter().any(|put| (put.at..put.at.saturating_add(put.len)).contains(&at))
    }
}

impl Characters {
    /// Where the `n`th character (from 0) begins.
    fn offset(self, text: &[u8], n: usize) -> usize {
        let mut at = 0;
        for _ in 0..n {
            let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) else { break };
            at = at.saturating_add(self.len(rest));
        }
        at
    }

    /// How many characters begin before `end`.
    fn count(self, text: &[u8], end: usize) -> usize {
        let (mut at, mut count) = (0, 0_usize);
        while at < end
            && let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty())
        {
            at = at.saturating_add(self.len(rest));
            count = count.saturating_add(1);
        }
        count
    }

    fn len(self, rest: &[u8]) -> usize {
        match rest.first() {
            Some(0xc0..) if self.utf8 => {
                1_usize.saturating_add(rest.iter().skip(1).take_while(|&&b| b & 0xc0 == 0x80).count())
            }
            _ => self.encoding.char_len(rest).max(1),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]
mod tests {
    use super::*;
    use crate::capture::write::Inserted;

    #[test]
    fn the_last_column_goes() {
        let mut fields = 2_u16.to_be_bytes().to_vec();
        for name in [&b"a"[..], b"pgcanon_image"] {
            fields.extend_from_slice(name);
            fields.push(0);
            fields.extend_from_slice(&[1; FIELD]);
        }
        let cut = cut_description(&fields).unwrap();
        assert_eq!(&cut[5..9], [0, 1, b'a', 0]);
        assert_eq!(cut.len(), 5 + 2 + 2 + FIELD);

        let row = [&[0, 2, 0, 0, 0, 1, b'x'][..], &[0, 0, 0, 2, b'y', b'z']].concat();
        let (own, image) = cut_row(&row).unwrap();
        assert_eq!(image, Some(&b"yz"[..]));
        let mut out = Vec::new();
        own.put(&mut out);
        assert_eq!(&out[5..], [0, 1, 0, 0, 0, 1, b'x']);
        assert!(cut_row(&row[..9]).is_none() && cut_row(&[0, 0]).is_none());
    }

    #[test]
    fn positions_are_the_clients() {
        let original = "insert into é values (oops)";
        let template = Template {
            rewritten: Rewritten {
                sql: format!("with x as ({original} returning 1) select").into_bytes(),
                inserted: vec![
                    Inserted { at: 0, len: 11, instead: 0 },
                    Inserted { at: 11 + original.len(), len: 20, instead: 0 },
                ],
            },
            original: original.as_bytes().to_vec(),
        };
        let characters = Characters { encoding: ClientEncoding::AsciiSafe, utf8: true };
        let own = original.chars().position(|c| c == 'p').unwrap() + 1;
        let mapped = map_report(back::ERROR, format!("SERROR\0P{}\0\0", own + 11).as_bytes(), &template, characters);
        assert_eq!(&mapped[5..], format!("SERROR\0P{own}\0\0").as_bytes());
    }

    #[test]
    fn tags_count() {
        assert_eq!(tag_count(b"INSERT 0 12"), Some(12));
        assert_eq!(tag_count(b"BEGIN"), None);
        let mut out = Vec::new();
        put_tag(&mut out, "INSERT 0", 3);
        assert_eq!(&out[5..], b"INSERT 0 3\0");
    }
}
