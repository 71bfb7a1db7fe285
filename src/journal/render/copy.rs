//! COPY with its data: all of it, or its first lines in comments, which nobody runs by mistake.

use super::literal::{hex, one_line};
use super::{RenderError, Rendered, Renderer};
use crate::config::TableName;
use crate::journal::codec::Entry;
use crate::journal::entry::{Head, Text};
use crate::sql::statement::{self, CopyFormat, Kind};
use crate::sql::{ClientEncoding, LexOptions, Lexer, Token, TokenKind, ident};

/// Lines that are shown of data that is cut.
const LINES: usize = 5;

/// A COPY whose entries are being rendered.
pub(super) struct Copying {
    table: (String, String),
    sql: Vec<u8>,
    format: CopyFormat,
    /// Of its data.
    encoding: String,
    bytes: u64,
    /// The beginning of a line whose end is in the next entry.
    tail: Vec<u8>,
    /// Its `\.` has come: what stands behind that is no data.
    ended: bool,
}

// === impl Renderer ===

impl Renderer {
    pub(super) async fn copy(
        &mut self,
        entry: &Entry,
        text: &Text,
        table: &TableName,
    ) -> Result<Vec<Rendered>, RenderError> {
        let Entry { head, body } = entry;
        let going_on = self.copying.take().filter(|copying| copying.is_of(head, text));
        let first = going_on.is_none();
        let (statement, encoding) = in_utf8(head, text);
        let mut copying = going_on.unwrap_or_else(|| Copying::new(head, text, encoding));
        copying.bytes = copying.bytes.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let mut begin = match first {
            true => self.text(head, &statement, table).await?,
            false => Rendered { whole: true, ..Rendered::default() },
        };
        let rendered = if copying.format == CopyFormat::Binary {
            begin.whole = false;
            outlined(begin, first, "in binary, not shown", &copying, head.rows)
        } else if self.values.limit.is_some_and(|limit| !(first && is_short(head, body, limit))) {
            begin.whole = false;
            let lines = if first { self.first_lines(&copying, body).await? } else { Vec::new() };
            let mut rendered = outlined(begin, first, "of which the first lines are", &copying, head.rows);
            if let Some(rendered) = rendered.first_mut() {
                rendered.notes.extend(lines);
            }
            rendered
        } else {
            self.data(begin, &mut copying, head.rows.is_some(), body).await?
        };
        self.copying = head.rows.is_none().then_some(copying);
        Ok(rendered)
    }

    /// Whole lines, and the end behind the last of them.
    async fn data(
        &mut self,
        mut begin: Rendered,
        copying: &mut Copying,
        last: bool,
        body: &[u8],
    ) -> Result<Vec<Rendered>, RenderError> {
        let mut data = std::mem::take(&mut copying.tail);
        data.extend_from_slice(body);
        let whole_lines =
            if last { data.len() } else { memchr::memrchr(b'\n', &data).map_or(0, |at| at.saturating_add(1)) };
        copying.tail = data.split_off(whole_lines);
        copying.end(&mut data);
        match self.values.converted(&copying.encoding, &[data.as_slice()]).await? {
            Ok(texts) => {
                let text = texts.concat();
                let mut pieces: Vec<&str> = Vec::new();
                pieces.extend((!begin.sql.is_empty()).then_some(begin.sql.as_str()));
                pieces.extend((!text.is_empty()).then(|| text.strip_suffix('\n').unwrap_or(&text)));
                pieces.extend(last.then_some("\\."));
                begin.sql = pieces.join("\n");
            }
            Err(why) => {
                let data = hex(&data, self.values.limit);
                begin.notes.push(one_line(&format!("COPY data that cannot be shown: {data}: {why}")));
                begin.whole = false;
            }
        }
        Ok(if begin == (Rendered { whole: true, ..Rendered::default() }) { Vec::new() } else { vec![begin] })
    }

    async fn first_lines(&mut self, copying: &Copying, body: &[u8]) -> Result<Vec<String>, RenderError> {
        let mut ends = memchr::memchr_iter(b'\n', body);
        let end = ends.nth(LINES.saturating_sub(1)).map_or(body.len(), |at| at.saturating_add(1));
        let data = body.get(..end).unwrap_or_default();
        let limit = self.values.limit.unwrap_or(usize::MAX);
        let lines = match self.values.converted(&copying.encoding, &[data]).await? {
            Ok(texts) => texts.concat().lines().map(|line| shortened(line, limit)).collect(),
            Err(why) => vec![one_line(&format!("{}: {why}", hex(data, Some(limit))))],
        };
        let more = (end < body.len()).then(|| "…".to_owned());
        Ok(lines.into_iter().chain(more).collect())
    }
}

// === impl Copying ===

impl Copying {
    fn new(head: &Head, text: &Text, encoding: String) -> Self {
        let read = statement::read(&text.sql, lex(&head.encoding));
        let format = match read.kind {
            Kind::Copy(copy) => copy.format,
            _ => CopyFormat::Other,
        };
        let table = (head.schema.clone(), head.table.clone());
        Self { table, sql: text.sql.clone(), format, encoding, bytes: 0, tail: Vec::new(), ended: false }
    }

    fn is_of(&self, head: &Head, text: &Text) -> bool {
        self.table.0 == head.schema && self.table.1 == head.table && self.sql == text.sql
    }

    /// Leaves out the client's own end of the data, and what it sent behind it.
    fn end(&mut self, data: &mut Vec<u8>) {
        if self.ended {
            data.clear();
        }
        if self.format != CopyFormat::Text {
            return;
        }
        let mut at = 0;
        for line in data.split_inclusive(|b| *b == b'\n') {
            if matches!(line, b"\\." | b"\\.\n" | b"\\.\r\n") {
                self.ended = true;
                break;
            }
            at = line.len().saturating_add(at);
        }
        data.truncate(at);
    }
}

/// Notes on a COPY whose data is not shown as such.
fn outlined(begin: Rendered, first: bool, how: &str, copying: &Copying, rows: Option<u64>) -> Vec<Rendered> {
    let Rendered { mut notes, sql, whole } = begin;
    let bytes = copying.bytes;
    match (first, rows) {
        (true, Some(rows)) => notes.push(one_line(&format!("{sql} {rows} rows, {bytes} bytes, {how}"))),
        (true, None) => notes.push(one_line(&format!("{sql} data {how}"))),
        (false, Some(rows)) => notes.push(format!("the COPY had {rows} rows, {bytes} bytes")),
        (false, None) => return Vec::new(),
    }
    vec![Rendered { notes, sql: String::new(), whole }]
}

/// Whether all the data is shown even where long data is cut.
fn is_short(head: &Head, body: &[u8], limit: usize) -> bool {
    let mut lines = body.split_inclusive(|b| *b == b'\n');
    head.rows.is_some() && lines.by_ref().take(LINES).all(|line| line.len() <= limit) && lines.next().is_none()
}

fn shortened(line: &str, limit: usize) -> String {
    let end = line.char_indices().nth(limit).map(|(end, _)| end);
    match end.and_then(|end| line.get(..end)) {
        Some(beginning) => one_line(beginning) + "…",
        None => one_line(line),
    }
}

fn lex(encoding: &str) -> LexOptions {
    LexOptions { standard_conforming_strings: true, encoding: ClientEncoding::from_name(encoding) }
}

/// The statement with which the data can be loaded in UTF-8, and the encoding that it is in: what the option `ENCODING` says,
/// or else the client's.
fn in_utf8(head: &Head, text: &Text) -> (Text, String) {
    let mut text = text.clone();
    let options = lex(&head.encoding);
    let behind = text.names.iter().filter_map(|place| usize::try_from(place.end).ok()).max().unwrap_or(0);
    let tokens: Vec<Token> = Lexer::new(&text.sql, options).filter(|t| !t.kind.is_blank()).collect();
    let is_option = |token: &Token| {
        token.start >= behind
            && token.kind == TokenKind::Ident
            && token.text(&text.sql).eq_ignore_ascii_case(b"encoding")
    };
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let Some(value) = pairs.filter(|(option, _)| is_option(option)).find_map(|(_, value)| {
        let written = value.text(&text.sql);
        let name = match value.kind {
            TokenKind::String => written.get(1..written.len().checked_sub(1)?)?.to_vec(),
            kind => ident::fold(kind, written, b'\\', options.encoding)?.as_bytes().to_vec(),
        };
        Some((value.start..value.end, String::from_utf8_lossy(&name).into_owned()))
    }) else {
        return (text, head.encoding.clone());
    };
    text.sql.splice(value.0, *b"'UTF8'");
    (text, value.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::sample;

    fn text(sql: &str) -> Text {
        Text { sql: sql.into(), params: vec![], names: vec![], settings: vec![] }
    }

    #[test]
    fn the_option_tells_of_what_encoding_the_data_is() {
        for (sql, as_utf8, encoding) in [
            ("copy t from stdin", "copy t from stdin", "UTF8"),
            ("copy t from stdin (encoding 'LATIN1', header)", "copy t from stdin (encoding 'UTF8', header)", "LATIN1"),
            ("copy t from stdin csv ENCODING 'sjis'", "copy t from stdin csv ENCODING 'UTF8'", "sjis"),
            ("copy t (encoding) from stdin", "copy t (encoding) from stdin", "UTF8"),
        ] {
            let (text, of) = in_utf8(&sample(), &text(sql));
            assert_eq!((String::from_utf8_lossy(&text.sql).as_ref(), of.as_str()), (as_utf8, encoding));
        }
    }

    #[test]
    fn data_ends_where_the_client_said_so() {
        let mut copying = Copying::new(&sample(), &text("copy t from stdin"), "UTF8".into());
        let mut data = b"1\n\\.\n2\n".to_vec();
        copying.end(&mut data);
        assert_eq!(data, b"1\n");
        let mut more = b"3\n".to_vec();
        copying.end(&mut more);
        assert!(more.is_empty());
        let mut csv = Copying::new(&sample(), &text("copy t from stdin csv"), "UTF8".into());
        let mut data = b"1\n\\.\n2\n".to_vec();
        csv.end(&mut data);
        assert_eq!(data, b"1\n\\.\n2\n");
    }
}
