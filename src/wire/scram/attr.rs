//! Reads the `a=value,` attributes of a SCRAM message with PostgreSQL's rules and its wording of what is wrong.

/// A cursor over one message; an end of message reads as byte 0, as it does in the server.
pub(super) struct Attrs<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Self {
        Self { whole, rest: whole }
    }

    /// The next byte, or 0 at the end.
    pub(super) fn peek(&self) -> u8 {
        self.rest.first().copied().unwrap_or(0)
    }

    /// Steps over one byte; at the end it stays.
    pub(super) fn bump(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was read so far without the comma that ended it.
    pub(super) fn before_last_comma(&self) -> &'a [u8] {
        let read = self.whole.len().saturating_sub(self.rest.len());
        self.whole.get(..read.saturating_sub(1)).unwrap_or_default()
    }

    /// The value of the attribute that must stand here.
    pub(super) fn read(&mut self, attr: u8) -> Result<&'a [u8], String> {
        if self.peek() != attr {
            return Err(format!("Expected attribute \"{}\" but found \"{}\".", char::from(attr), shown(self.peek())));
        }
        self.bump();
        self.value(attr)
    }

    /// The next attribute whatever its letter.
    pub(super) fn read_any(&mut self) -> Result<(u8, &'a [u8]), String> {
        let attr = self.peek();
        if attr == 0 {
            return Err("Attribute expected, but found end of string.".into());
        }
        if !attr.is_ascii_alphabetic() {
            return Err(format!("Attribute expected, but found invalid character \"{}\".", shown(attr)));
        }
        self.bump();
        Ok((attr, self.value(attr)?))
    }

    fn value(&mut self, attr: u8) -> Result<&'a [u8], String> {
        if self.peek() != b'=' {
            return Err(format!("Expected character \"=\" for attribute \"{}\".", char::from(attr)));
        }
        self.bump();
        let end = memchr::memchr(b',', self.rest).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        self.bump();
        Ok(value)
    }
}

/// One byte as the server shows it in a message.
pub(super) fn shown(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("'{}'", char::from(byte)) } else { format!("0x{byte:02x}") }
}

/// A value as the server shows it in a message: 30 characters at most, nothing unprintable.
pub(super) fn shown_text(bytes: &[u8]) -> String {
    let plain = |b: &u8| {
        if b.is_ascii_graphic() { char::from(*b) } else { '?' }
    };
    bytes.iter().take(30).map(plain).collect()
}

/// Whether a nonce keeps to the characters that the specification allows.
pub(super) fn is_printable(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| b.is_ascii_graphic() && *b != b',')
}
