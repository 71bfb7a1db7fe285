//! Finds words for a moment (`now`, `today`, `tomorrow`, `yesterday`) in the fields of COPY data that are dates or times:
//! on its way, in chunks of any size, and none is missed (I5). Of a field nothing is kept but how far a word has come (I7).
//!
//! Where the server would refuse the data the answer may be anything; what it takes for data is read as it reads it.

mod word;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
// a test that panics has done its work
mod tests;

use std::sync::Arc;

use memchr::{memchr2, memchr3};

use word::Matcher;

/// How a stream of text or csv is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub delimiter: u8,
    /// Quote and escape of csv; none in text.
    pub csv: Option<(u8, u8)>,
    /// The first line holds names.
    pub header: bool,
    /// What to look for in each column.
    pub columns: Vec<Watch>,
}

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// No dates or times.
    No,
    /// A date or time.
    Plain,
    /// Dates or times within an array or a range, which has quotes and backslashes of its own.
    Quoted,
}

/// Reads one stream.
#[derive(Debug)]
pub struct Scanner {
    layout: Arc<Layout>,
    place: Place,
    column: usize,
    /// Behind the last column that is watched.
    last: usize,
    /// Within the line of names.
    header: bool,
    /// What ends a line, once the first line has shown it.
    line_end: Option<u8>,
    /// The first line has ended with a carriage return: a newline may still belong to it.
    after_return: bool,
    matcher: Matcher,
    hit: bool,
}

/// Where in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Outside quotes.
    Plain,
    // === text ===
    Backslash,
    Octal {
        value: u8,
        left: u8,
    },
    /// Behind `\x`.
    HexBegin,
    Hex {
        value: u8,
        left: u8,
    },
    // === csv ===
    Quoted,
    /// Behind the escape, which is another character than the quote.
    Escape,
    /// Behind a quote within quotes: the end of them, or one half of two.
    Quote,
}

impl Layout {
    /// Whether a field of these very bytes has a word for a moment: such a word may mean NULL.
    pub fn finds(&self, field: &[u8]) -> bool {
        let one = |watch| Scanner::new(Arc::new(Self { header: false, columns: vec![watch], ..self.clone() }));
        let found = |mut scanner: Scanner| scanner.feed(field) || scanner.finish();
        found(one(Watch::Plain)) || found(one(Watch::Quoted))
    }
}

impl Scanner {
    pub fn new(layout: Arc<Layout>) -> Self {
        let last = layout.columns.iter().rposition(|watch| *watch != Watch::No).map_or(0, |at| at + 1);
        let header = layout.header;
        Self {
            layout,
            place: Place::Plain,
            column: 0,
            last,
            header,
            line_end: None,
            after_return: false,
            matcher: Matcher::default(),
            hit: false,
        }
    }

    /// Takes the next bytes; whether a word was found so far.
    pub fn feed(&mut self, data: &[u8]) -> bool {
        let mut rest = data;
        while !rest.is_empty() && !self.hit {
            rest = self.step(rest);
        }
        self.hit
    }

    /// The data is over: whether a word was found.
    pub fn finish(&mut self) -> bool {
        match self.place {
            Place::Octal { value, .. } | Place::Hex { value, .. } => self.value(value),
            Place::HexBegin => self.value(b'x'),
            _ => {}
        }
        self.end_field();
        self.hit
    }

    fn step<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let Some((&byte, behind)) = rest.split_first() else { return &[] };
        if std::mem::take(&mut self.after_return) && byte == b'\n' {
            self.line_end = Some(b'\n');
            return behind;
        }
        match self.place {
            Place::Plain => self.plain(rest),
            Place::Quoted => self.quoted(rest),
            Place::Backslash => {
                self.backslash(byte);
                behind
            }
            Place::Octal { value, left } => match byte {
                b'0'..=b'7' if left > 0 => {
                    // The server cuts it to a byte too.
                    self.place = Place::Octal { value: (value << 3) | (byte - b'0'), left: left - 1 };
                    behind
                }
                _ => self.end_escape(value, rest),
            },
            Place::HexBegin => match hex(byte) {
                Some(value) => {
                    self.place = Place::Hex { value, left: 1 };
                    behind
                }
                None => self.end_escape(b'x', rest),
            },
            Place::Hex { value, left } => match hex(byte) {
                Some(digit) if left > 0 => {
                    self.place = Place::Hex { value: (value << 4) | digit, left: left - 1 };
                    behind
                }
                _ => self.end_escape(value, rest),
            },
            Place::Escape => {
                self.place = Place::Quoted;
                let (quote, escape) = self.layout.csv.unwrap_or_default();
                if byte == quote || byte == escape {
                    self.value(byte);
                    return behind;
                }
                // By itself it is a character like any other.
                self.value(escape);
                rest
            }
            Place::Quote => {
                let (quote, _) = self.layout.csv.unwrap_or_default();
                if byte == quote {
                    self.place = Place::Quoted;
                    self.value(byte);
                    return behind;
                }
                self.place = Place::Plain;
                rest
            }
        }
    }

    /// Outside quotes, up to what means something.
    fn plain<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let special = self.next_special(rest);
        self.look(special.and_then(|at| rest.get(..at)).unwrap_or(rest));
        let Some((&byte, behind)) = special.and_then(|at| rest.get(at..)).and_then(<[u8]>::split_first) else {
            return &[];
        };
        let (end, other) = self.line_ends();
        if byte == end || byte == other {
            self.end_line(byte);
        } else if byte == self.layout.delimiter {
            self.end_field();
            self.column = self.column.saturating_add(1);
        } else if self.layout.csv.is_some() {
            self.place = Place::Quoted;
        } else {
            self.place = Place::Backslash;
        }
        behind
    }

    /// Where the next byte stands that means something.
    fn next_special(&self, rest: &[u8]) -> Option<usize> {
        let (opens, delimiter) = (self.opens(), self.layout.delimiter);
        let (end, other) = self.line_ends();
        match (self.line_end, self.header || self.column >= self.last) {
            (Some(_), true) => memchr2(end, opens, rest),
            (Some(_), false) => memchr3(end, opens, delimiter, rest),
            (None, _) => rest.iter().position(|&b| b == end || b == other || b == opens || b == delimiter),
        }
    }

    /// Within quotes, up to what may end them.
    fn quoted<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let (quote, escape) = self.layout.csv.unwrap_or_default();
        let special = memchr2(quote, escape, rest);
        self.look(special.and_then(|at| rest.get(..at)).unwrap_or(rest));
        let Some((&byte, behind)) = special.and_then(|at| rest.get(at..)).and_then(<[u8]>::split_first) else {
            return &[];
        };
        self.place = match (byte == quote, byte == escape) {
            (true, true) => Place::Quote,
            (true, false) => Place::Plain,
            (false, _) => Place::Escape,
        };
        behind
    }

    /// Bytes of a field's value.
    fn look(&mut self, bytes: &[u8]) {
        self.hit |= match self.watch() {
            Watch::No => false,
            Watch::Plain => self.matcher.plain(bytes),
            Watch::Quoted => self.matcher.quoted(bytes),
        };
    }

    fn backslash(&mut self, byte: u8) {
        self.place = match byte {
            b'0'..=b'7' => Place::Octal { value: byte - b'0', left: 2 },
            b'x' => Place::HexBegin,
            _ => Place::Plain,
        };
        match byte {
            b'0'..=b'7' | b'x' => {}
            b'b' | b'f' | b'n' | b'r' | b't' | b'v' => self.value(b' '),
            _ => self.value(byte),
        }
    }

    /// An escape with digits is over; what follows it is read anew.
    fn end_escape<'a>(&mut self, value: u8, rest: &'a [u8]) -> &'a [u8] {
        self.place = Place::Plain;
        self.value(value);
        rest
    }

    /// A character of the field's value.
    fn value(&mut self, byte: u8) {
        self.look(&[byte]);
    }

    fn end_field(&mut self) {
        self.hit |= self.matcher.end();
    }

    fn end_line(&mut self, byte: u8) {
        self.end_field();
        self.column = 0;
        self.header = false;
        if self.line_end.is_none() {
            self.line_end = Some(byte);
            self.after_return = byte == b'\r';
        }
    }

    fn watch(&self) -> Watch {
        if self.header {
            return Watch::No;
        }
        self.layout.columns.get(self.column).copied().unwrap_or(Watch::No)
    }

    /// What opens something within a field.
    fn opens(&self) -> u8 {
        self.layout.csv.map_or(b'\\', |(quote, _)| quote)
    }

    /// What ends a line; while that is not known, two bytes do. Once it is, the server refuses the other one.
    fn line_ends(&self) -> (u8, u8) {
        self.line_end.map_or((b'\n', b'\r'), |end| (end, end))
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
