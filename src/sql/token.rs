//! The tokens of SQL, as PostgreSQL's scanner tells them apart.

/// One token: its kind and the bytes `start..end` it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    /// The token's bytes in the text it was read from.
    #[must_use]
    pub fn text<'a>(&self, sql: &'a [u8]) -> &'a [u8] {
        sql.get(self.start..self.end).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An identifier or keyword without quotes.
    Ident,
    /// `"…"`
    QuotedIdent,
    /// `U&"…"`; a `UESCAPE '…'` behind it is two tokens of its own.
    UnicodeIdent,
    /// `'…'` where a backslash is a character, with all its continuations.
    String,
    /// `E'…'`, or `'…'` where `standard_conforming_strings` is off, with all its continuations.
    EscapeString,
    /// `U&'…'` with all its continuations; `UESCAPE` is apart.
    UnicodeString,
    /// `N'…'` with all its continuations (two tokens in the server, `NCHAR` and the string).
    NationalString,
    /// `B'…'` or `X'…'` with all its continuations.
    BitString,
    /// `$tag$…$tag$`
    DollarString,
    /// A whole or broken number. PostgreSQL 15 refuses `0x1F`, `0o7`, `0b1` and `1_000`, 16 takes them.
    Number,
    /// `$1`
    Param,
    /// An operator that is no [`TokenKind::Char`] and none of the five below.
    Operator,
    /// `=>`
    EqualsGreater,
    /// `<=`
    LessEquals,
    /// `>=`
    GreaterEquals,
    /// `<>` or `!=`
    NotEquals,
    /// `::`
    TypeCast,
    /// `:=`
    ColonEquals,
    /// `..`
    DotDot,
    /// One of `, ( ) [ ] . : + - * / % ^ < > =` by itself.
    Char(u8),
    /// `;`
    Semicolon,
    /// `-- …` up to the line's end, or `/* … */` with those nested in it.
    Comment,
    /// Blanks, tabs, line ends, form feeds and vertical tabs (the last of them only since PostgreSQL 16).
    Whitespace,
    /// A byte no token begins with; no statement that holds one is valid.
    Other(u8),
    /// Still open where the text ends. The server refuses the whole query.
    Unterminated(Open),
    /// Complete, but such that the server refuses the whole query.
    Invalid(Fault),
}

impl TokenKind {
    /// Whether the grammar never sees it.
    #[must_use]
    pub const fn is_blank(self) -> bool {
        matches!(self, Self::Comment | Self::Whitespace)
    }

    /// Whether the scanner refuses the text for it, and with it the whole query.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Unterminated(_) | Self::Invalid(_))
    }

    /// Whether the grammar takes it as a string constant.
    #[must_use]
    pub const fn is_string(self) -> bool {
        matches!(self, Self::String | Self::EscapeString | Self::UnicodeString | Self::DollarString)
    }
}

/// What was open when the text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Open {
    Comment,
    /// Any string in single quotes but the bit strings.
    String,
    BitString,
    DollarString,
    QuotedIdent,
}

/// What the scanner refuses in a complete token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// `123abc`, `0x`, `1e+`
    NumberJunk,
    /// `$1abc`
    ParamJunk,
    /// `""`
    EmptyIdent,
    /// 64 bytes or more.
    LongOperator,
    /// `E'\u12'`, half a surrogate pair, or no character at all.
    UnicodeEscape,
    /// `U&'…'` where `standard_conforming_strings` is off.
    UnsafeUnicodeString,
}
