//! Reads the small grammar of expressions that can be proved, with the server's precedences; all else is opaque.

use super::cursor::Cursor;
use super::types;
use super::word::Word;
use super::{Expr, Type};
use crate::sql::name::Name;
use crate::sql::token::TokenKind;

/// How deep expressions may nest, and how high the tree of one may be: those who walk it do so by recursion.
const DEEPEST: u16 = 64;

/// How tightly things bind, loosest first, as in the server's grammar.
mod binding {
    pub(super) const LOWEST: u8 = 0;
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const IS: u8 = 4;
    pub(super) const COMPARISON: u8 = 5;
    pub(super) const RANGE: u8 = 6;
    pub(super) const OPERATOR: u8 = 7;
    pub(super) const SUM: u8 = 8;
    pub(super) const PRODUCT: u8 = 9;
    pub(super) const POWER: u8 = 10;
    pub(super) const SIGN: u8 = 13;
}

/// The whole range as one expression.
pub(super) fn whole(c: Cursor<'_>) -> Expr {
    parse(c).unwrap_or(Expr::Opaque)
}

fn parse(c: Cursor<'_>) -> Option<Expr> {
    let mut parser = Parser { c, depth: 0, height: 0 };
    let expr = parser.expr(binding::LOWEST)?;
    parser.c.is_over().then_some(expr)
}

/// The expression that a range begins with; the cursor goes behind it.
pub(super) fn leading(c: &mut Cursor<'_>) -> Option<Expr> {
    let mut parser = Parser { c: *c, depth: 0, height: 0 };
    let expr = parser.expr(binding::LOWEST)?;
    *c = parser.c;
    Some(expr)
}

/// Every function gives None for what is not in the grammar, and leaves in `height` the height of the tree it gives.
struct Parser<'a> {
    c: Cursor<'a>,
    depth: u16,
    height: u16,
}

/// What stands between an operand and the next.
enum Infix {
    Or,
    And,
    Is,
    Operator(Name),
    /// `LIKE`, `ILIKE`
    Like(Name),
    In,
    Between,
}

impl<'a> Parser<'a> {
    fn expr(&mut self, least: u8) -> Option<Expr> {
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        let mut left = self.prefix()?;
        while let Some((infix, negated, binds, width)) = self.infix()? {
            if binds < least {
                break;
            }
            self.c.at += width;
            let below = self.height;
            // Chains of `AND` and of `OR` are one node each, however long.
            let chain = matches!((&left, &infix), (Expr::And(_), Infix::And) | (Expr::Or(_), Infix::Or));
            left = self.rest(left, infix, negated, binds)?;
            if chain && self.height < below {
                self.height = below;
            } else {
                self.grow(if chain { 0 } else { below })?;
            }
        }
        self.depth -= 1;
        Some(left)
    }

    /// One node above the tree at hand and one of this height.
    fn grow(&mut self, other: u16) -> Option<()> {
        self.height = self.height.max(other).saturating_add(1);
        (self.height <= DEEPEST).then_some(())
    }

    // === operands ===

    fn prefix(&mut self) -> Option<Expr> {
        let token = self.c.peek()?;
        let operand_binds = match token.kind {
            TokenKind::Ident if token.word == Word::Not => {
                self.c.at += 1;
                let of = self.expr(binding::NOT)?;
                self.grow(0)?;
                return Some(Expr::Not(Box::new(of)));
            }
            TokenKind::Char(b'+' | b'-') => binding::SIGN,
            TokenKind::Operator => binding::OPERATOR + 1,
            _ => return self.operand(),
        };
        let name = Name::from_bytes(self.c.text.bytes(token));
        self.c.at += 1;
        let operand = self.expr(operand_binds)?;
        if operand == Expr::Number && token.kind == TokenKind::Char(b'-') {
            return Some(operand); // the grammar itself negates a constant
        }
        self.grow(0)?;
        Some(Expr::Operator { name, operands: vec![operand] })
    }

    /// An operand and the casts behind it.
    fn operand(&mut self) -> Option<Expr> {
        let mut expr = self.primary()?;
        loop {
            match self.c.kind() {
                Some(TokenKind::TypeCast) => {
                    self.c.at += 1;
                    let to = types::typename(&mut self.c)?;
                    expr = self.cast(to, expr)?;
                }
                // Subscripts and fields of anything but a name.
                Some(TokenKind::Char(b'[' | b'.')) => return None,
                _ => return Some(expr),
            }
        }
    }

    fn cast(&mut self, to: Type, of: Expr) -> Option<Expr> {
        self.grow(0)?;
        Some(Expr::Cast { to, of: Box::new(of) })
    }

    fn primary(&mut self) -> Option<Expr> {
        self.height = 0;
        let token = self.c.peek()?;
        let leaf = match token.kind {
            TokenKind::Number => Expr::Number,
            TokenKind::BitString => Expr::BitString,
            TokenKind::Param => Expr::Param(param(self.c.text.bytes(token))?),
            TokenKind::UnicodeString if self.c.word_at(1) == Word::Uescape => {
                self.c.at += 2;
                self.c.kind()?.is_string().then_some(Expr::String)?
            }
            kind if kind.is_string() => Expr::String,
            TokenKind::NationalString => {
                self.c.at += 1;
                let to = Type { schema: Some("pg_catalog".into()), name: "bpchar".into(), array: false };
                return self.cast(to, Expr::String);
            }
            TokenKind::Char(b'(') => return self.parentheses(false),
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::UnicodeIdent => return self.named(token.word),
            _ => return None,
        };
        self.c.at += 1;
        Some(leaf)
    }

    /// `(x)`, or a row.
    fn parentheses(&mut self, row: bool) -> Option<Expr> {
        let inside = self.c.group()?;
        let named = inside.is(Word::Values) && !inside.is_char_at(1, b'(');
        if inside.word().begins_query() && !named {
            return None;
        }
        let mut list = self.list(inside)?;
        if row || list.len() > 1 {
            self.grow(0)?;
            return Some(Expr::Row(list));
        }
        list.pop()
    }

    /// Expressions with commas between them, to the range's end; the height is that of the highest.
    fn list(&mut self, inside: Cursor<'a>) -> Option<Vec<Expr>> {
        let behind = std::mem::replace(&mut self.c, inside);
        let mut list = Vec::new();
        let mut height = 0;
        while !self.c.is_over() {
            list.push(self.expr(binding::LOWEST)?);
            height = height.max(self.height);
            if self.c.is_over() {
                break;
            }
            if !self.c.take_char(b',') || self.c.is_over() {
                return None;
            }
        }
        self.height = height;
        self.c = behind;
        Some(list)
    }

    /// What begins with an identifier or keyword.
    fn named(&mut self, word: Word) -> Option<Expr> {
        let called = self.c.is_char_at(1, b'(');
        let leaf = match word {
            Word::Null => Expr::Null,
            Word::True => Expr::Bool(true),
            Word::False => Expr::Bool(false),
            Word::Case => return self.case(),
            Word::Cast if called => return self.cast_call(),
            Word::Array => return self.array(),
            Word::Row if called => {
                self.c.at += 1;
                return self.parentheses(true);
            }
            Word::Coalesce | Word::Greatest | Word::Least | Word::NullIf if called => {
                self.c.at += 1;
                let inside = self.c.group()?;
                let list = self.list(inside)?;
                self.grow(0)?;
                return Some(Expr::Pure(list));
            }
            _ => return self.typed_or_name(word, called),
        };
        self.c.at += 1;
        Some(leaf)
    }

    /// `type 'constant'`, a column, or a call.
    fn typed_or_name(&mut self, word: Word, called: bool) -> Option<Expr> {
        if let Some(expr) = self.typed_constant(word, called) {
            return expr;
        }
        if called {
            if !word.is_function_name() {
                return None;
            }
            let (name, _) = self.c.label()?;
            return self.call(None, name);
        }
        let mut ahead = self.c;
        if !word.is_column_name() {
            // `left.f(…)` is no name of a schema.
            return None;
        }
        let (first, _) = ahead.label()?;
        if !ahead.take_char(b'.') {
            self.c = ahead;
            return Some(Expr::Column { qualifier: None, name: first });
        }
        let (second, _) = ahead.label()?;
        self.c = ahead;
        match self.c.kind() {
            Some(TokenKind::Char(b'(')) => self.call(Some(first), second),
            Some(TokenKind::Char(b'.')) => None,
            _ => Some(Expr::Column { qualifier: Some(first), name: second }),
        }
    }

    /// The outer None where it is no constant with its type before it.
    fn typed_constant(&mut self, word: Word, called: bool) -> Option<Option<Expr>> {
        // Most names are followed by neither: see before a type is read.
        let next = self.c.peek_at(1)?;
        let plausible = called
            || next.kind.is_string()
            || next.kind == TokenKind::Char(b'.')
            || next.word == Word::Precision
            || next.word == Word::Varying
            || matches!(word, Word::Time | Word::Timestamp | Word::National);
        if !plausible {
            return None;
        }
        let mut ahead = self.c;
        let to = types::simple(&mut ahead)?;
        let string = ahead.peek()?;
        if !string.kind.is_string() || string.kind == TokenKind::UnicodeString {
            return None;
        }
        ahead.at += 1;
        self.c = ahead;
        if word == Word::Interval && (types::is_interval_field(self.c.word()) || self.c.is_char(b'(')) {
            return Some(None);
        }
        Some(self.cast(to, Expr::String))
    }

    /// A call's arguments, from its parenthesis; what only some functions can have is not in the grammar.
    fn call(&mut self, schema: Option<Name>, name: Name) -> Option<Expr> {
        let inside = self.c.group()?;
        if matches!(inside.word(), Word::Distinct | Word::All | Word::Variadic) || inside.word().begins_query() {
            return None;
        }
        let args = self.list(inside)?;
        if matches!(self.c.word(), Word::Over | Word::Filter | Word::Within) {
            return None;
        }
        self.grow(0)?;
        Some(Expr::Call { schema, name, args })
    }

    /// `CAST (x AS type)`
    fn cast_call(&mut self) -> Option<Expr> {
        self.c.at += 1;
        let inside = self.c.group()?;
        let behind = std::mem::replace(&mut self.c, inside);
        let of = self.expr(binding::LOWEST)?;
        if !self.c.take(Word::As) {
            return None;
        }
        let to = types::typename(&mut self.c)?;
        if !self.c.is_over() {
            return None;
        }
        self.c = behind;
        self.cast(to, of)
    }

    /// `ARRAY[…]`
    fn array(&mut self) -> Option<Expr> {
        self.c.at += 1;
        if !self.c.is_char(b'[') {
            return None;
        }
        self.brackets()
    }

    fn brackets(&mut self) -> Option<Expr> {
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        let inside = self.c.group()?;
        let list = if inside.is_char(b'[') {
            let behind = std::mem::replace(&mut self.c, inside);
            let mut list = Vec::new();
            let mut height = 0;
            loop {
                if !self.c.is_char(b'[') {
                    return None;
                }
                list.push(self.brackets()?);
                height = height.max(self.height);
                if self.c.is_over() {
                    break;
                }
                if !self.c.take_char(b',') {
                    return None;
                }
            }
            self.c = behind;
            self.height = height;
            list
        } else {
            self.list(inside)?
        };
        self.depth -= 1;
        self.grow(0)?;
        Some(Expr::Array(list))
    }

    /// `CASE [x] WHEN … THEN … [ELSE …] END`
    fn case(&mut self) -> Option<Expr> {
        self.c.at += 1;
        let mut parts = Vec::new();
        let mut height = 0;
        let mut part = |parser: &mut Self| {
            parts.push(parser.expr(binding::LOWEST)?);
            height = height.max(parser.height);
            Some(())
        };
        if !self.c.is(Word::When) {
            part(self)?;
        }
        while self.c.take(Word::When) {
            part(self)?;
            if !self.c.take(Word::Then) {
                return None;
            }
            part(self)?;
        }
        if self.c.take(Word::Else) {
            part(self)?;
        }
        if !self.c.take(Word::End) {
            return None;
        }
        self.height = height;
        self.grow(0)?;
        Some(Expr::Pure(parts))
    }

    // === operators ===

    /// What stands behind an operand: what it is, whether a `NOT` belongs to it, how it binds and how many tokens it is.
    /// The outer None for what is not in the grammar.
    #[allow(clippy::type_complexity, reason = "taken apart at once by the one caller")]
    fn infix(&self) -> Option<Option<(Infix, bool, u8, usize)>> {
        let Some(token) = self.c.peek() else { return Some(None) };
        let name = || Name::from_bytes(self.c.text.bytes(token));
        let found = match token.kind {
            TokenKind::Char(b'+' | b'-') => (Infix::Operator(name()), binding::SUM),
            TokenKind::Char(b'*' | b'/' | b'%') => (Infix::Operator(name()), binding::PRODUCT),
            TokenKind::Char(b'^') => (Infix::Operator(name()), binding::POWER),
            TokenKind::Char(b'=' | b'<' | b'>') | TokenKind::LessEquals | TokenKind::GreaterEquals => {
                (Infix::Operator(name()), binding::COMPARISON)
            }
            TokenKind::NotEquals => (Infix::Operator("<>".into()), binding::COMPARISON),
            TokenKind::Operator => (Infix::Operator(name()), binding::OPERATOR),
            TokenKind::Ident => return self.infix_word(token.word),
            _ => return Some(None),
        };
        Some(Some((found.0, false, found.1, 1)))
    }

    #[allow(clippy::type_complexity, reason = "as above")]
    fn infix_word(&self, word: Word) -> Option<Option<(Infix, bool, u8, usize)>> {
        let negated = word == Word::Not;
        let word = if negated { self.c.word_at(1) } else { word };
        let (infix, binds) = match word {
            Word::And if !negated => (Infix::And, binding::AND),
            Word::Or if !negated => (Infix::Or, binding::OR),
            Word::Is | Word::IsNull | Word::NotNull if !negated => (Infix::Is, binding::IS),
            Word::In => (Infix::In, binding::RANGE),
            Word::Between => (Infix::Between, binding::RANGE),
            Word::Like => (Infix::Like(if negated { "!~~" } else { "~~" }.into()), binding::RANGE),
            Word::Ilike => (Infix::Like(if negated { "!~~*" } else { "~~*" }.into()), binding::RANGE),
            Word::Similar | Word::Collate | Word::Overlaps | Word::Operator => return None,
            Word::At if matches!(self.c.word_at(1), Word::Time | Word::Local) => return None,
            _ if negated => return None,
            _ => return Some(None),
        };
        // `ISNULL` and `NOTNULL` are looked at again by `is`.
        let width = match word {
            Word::IsNull | Word::NotNull => 0,
            _ if negated => 2,
            _ => 1,
        };
        Some(Some((infix, negated, binds, width)))
    }

    /// The right side of what `infix` found.
    fn rest(&mut self, left: Expr, infix: Infix, negated: bool, binds: u8) -> Option<Expr> {
        Some(match infix {
            Infix::And => {
                let right = self.expr(binds + 1)?;
                Expr::And(match left {
                    Expr::And(chain) => joined(chain, right),
                    left => vec![left, right],
                })
            }
            Infix::Or => {
                let right = self.expr(binds + 1)?;
                Expr::Or(match left {
                    Expr::Or(chain) => joined(chain, right),
                    left => vec![left, right],
                })
            }
            Infix::Is => self.is(left)?,
            Infix::Operator(name) => {
                if matches!(self.c.word(), Word::Any | Word::Some | Word::All) && self.c.is_char_at(1, b'(') {
                    let all = self.c.is(Word::All);
                    self.c.at += 1;
                    let array = self.parentheses(false)?;
                    if all {
                        return None;
                    }
                    return Some(Expr::Any { of: Box::new(left), operator: name, array: Box::new(array) });
                }
                let right = self.expr(binds + 1)?;
                Expr::Operator { name, operands: vec![left, right] }
            }
            Infix::Like(name) => {
                let right = self.expr(binds + 1)?;
                if self.is_escape() {
                    return None;
                }
                Expr::Operator { name, operands: vec![left, right] }
            }
            Infix::In => {
                let inside = self.c.group()?;
                if inside.word().begins_query() || inside.is_over() {
                    return None;
                }
                let list = self.list(inside)?;
                Expr::In { of: Box::new(left), list, negated }
            }
            Infix::Between => {
                let symmetric = self.c.take(Word::Symmetric);
                let _ = symmetric || self.c.take(Word::Asymmetric);
                let low = self.expr(binding::OPERATOR)?;
                let height = self.height;
                if !self.c.take(Word::And) {
                    return None;
                }
                let high = self.expr(binding::OPERATOR)?;
                self.height = self.height.max(height);
                Expr::Between(vec![left, low, high])
            }
        })
    }

    fn is_escape(&self) -> bool {
        self.c
            .peek()
            .is_some_and(|t| t.kind == TokenKind::Ident && self.c.text.bytes(t).eq_ignore_ascii_case(b"escape"))
    }

    /// `IS [NOT] NULL | TRUE | FALSE | UNKNOWN | DISTINCT FROM x`, `ISNULL`, `NOTNULL`; the `IS` itself is taken.
    fn is(&mut self, left: Expr) -> Option<Expr> {
        if self.c.take_any(&[Word::IsNull, Word::NotNull]) {
            self.height = 0;
            return Some(Expr::Is(Box::new(left)));
        }
        self.c.take(Word::Not);
        if self.c.take(Word::Distinct) {
            if !self.c.take(Word::From) {
                return None;
            }
            let right = self.expr(binding::IS + 1)?;
            return Some(Expr::Distinct(Box::new(left), Box::new(right)));
        }
        self.height = 0;
        self.c.take_any(&[Word::Null, Word::True, Word::False, Word::Unknown]).then(|| Expr::Is(Box::new(left)))
    }
}

fn joined(mut chain: Vec<Expr>, last: Expr) -> Vec<Expr> {
    chain.push(last);
    chain
}

/// The number of `$n`.
pub(super) fn param(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text.get(1..)?).ok()?.parse().ok()
}
