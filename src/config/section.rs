//! Reading one table of the file key by key: what is not read is unknown, and nothing wrong stops the reading.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::choice::{Choice, nearest, words};
use super::conninfo::{self, ConnInfo, RootCert};
use super::env::{self, Env};
use super::files::{self, Kind};
use super::problem::{Complaint, Problem};

/// The file that is being read, and what was found wrong with it so far.
pub(super) struct Reading<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    pub(super) env: &'a Env<'a>,
    pub(super) problems: RefCell<Vec<Problem>>,
}

/// One value, with its place.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) key: String,
    pub(super) line: usize,
    value: &'a DeValue<'a>,
}

/// One table of the file.
pub(super) struct Section<'a> {
    reading: &'a Reading<'a>,
    name: String,
    line: usize,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

// === impl Reading ===

impl<'a> Reading<'a> {
    /// The line of a byte of the file.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        memchr::memchr_iter(b'\n', before).count().saturating_add(1)
    }

    pub(super) fn report(&self, line: Option<usize>, key: Option<&str>, complaint: Complaint) {
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line,
            key: key.map(ToOwned::to_owned),
            message: complaint.message,
            suggestion: complaint.suggestion,
        });
    }

    /// A complaint about one value.
    pub(super) fn object(&self, item: &Item<'_>, complaint: Complaint) {
        self.report(Some(item.line), Some(&item.key), complaint);
    }

    fn wrong_type(&self, item: &Item<'_>, wanted: &str) {
        let found = item.value.type_str();
        self.object(item, Complaint::new(format!("this must be {wanted}, not {} {found}", article(found))));
    }

    /// A string as it stands in the file.
    fn raw(&self, item: &Item<'a>) -> Option<&'a str> {
        let text = item.value.as_str();
        if text.is_none() {
            self.wrong_type(item, "a string");
        }
        text
    }

    /// A string with its variables replaced.
    pub(super) fn text(&self, item: &Item<'a>) -> Option<String> {
        let raw = self.raw(item)?;
        self.expand(item, raw)
    }

    fn expand(&self, item: &Item<'_>, raw: &str) -> Option<String> {
        env::expand(raw, self.env).map_err(|e| self.object(item, Complaint::new(e))).ok()
    }

    /// A string that `parse` gives a meaning to.
    pub(super) fn parse<T>(&self, item: &Item<'a>, parse: impl FnOnce(&str) -> Result<T, Complaint>) -> Option<T> {
        let text = self.text(item)?;
        parse(&text).map_err(|e| self.object(item, e)).ok()
    }

    /// The elements of a list; a value that is no list is a list of one.
    pub(super) fn each(&self, item: &Item<'a>) -> Vec<Item<'a>> {
        match item.value.as_array() {
            None => vec![item.clone()],
            Some(array) => array
                .iter()
                .map(|v| Item { key: item.key.clone(), line: self.line(v.span().start), value: v.get_ref() })
                .collect(),
        }
    }

    /// A path: as it stands if absolute, otherwise beside the file, or where pgcanon was started if it is not there.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        let beside = self.file.parent().unwrap_or(Path::new("")).join(path);
        if beside.exists() { beside } else { path.to_owned() }
    }

    /// A path whose file must be there and as private as its kind asks.
    pub(super) fn check_file(&self, item: &Item<'_>, path: &Path, kind: Kind) {
        if let Err(error) = files::check(path, kind) {
            let looked = match (&error, path.is_absolute()) {
                (files::FileError::Missing(_), false) => ", neither beside this file nor where pgcanon was started",
                _ => "",
            };
            self.object(item, Complaint::new(format!("{error}{looked}")));
        }
    }

    /// A connection string with its variables replaced value by value, so that a password needs no quoting for its sake.
    pub(super) fn conninfo(&'a self, item: &Item<'a>) -> Option<ConnInfo> {
        let object = |e: Complaint| self.object(item, e);
        let raw = self.raw(item)?;
        let whole = if env::is_one_variable(raw) { self.expand(item, raw.trim())? } else { raw.to_owned() };
        let mut pairs = conninfo::pairs(&whole).map_err(|e| object(e.into())).ok()?;
        if !env::is_one_variable(raw) {
            for (_, value) in &mut pairs {
                *value = self.expand(item, value)?;
            }
        }
        self.with_files(item, ConnInfo::from_pairs(pairs).map_err(|e| object(e.into())).ok()?)
    }

    /// `info` with its paths resolved and their files checked.
    fn with_files(&self, item: &Item<'_>, mut info: ConnInfo) -> Option<ConnInfo> {
        let before = self.problems.borrow().len();
        let files = [
            (&mut info.passfile, Kind::Passfile),
            (&mut info.sslcert, Kind::Public),
            (&mut info.sslkey, Kind::Private),
            (&mut info.sslcrl, Kind::Public),
        ];
        for (path, kind) in files {
            if let Some(path) = path {
                *path = self.resolve(path);
                self.check_file(item, path, kind);
            }
        }
        if let Some(RootCert::File(path)) = &mut info.sslrootcert {
            *path = self.resolve(path);
            self.check_file(item, path, Kind::Public);
        }
        (self.problems.borrow().len() == before).then_some(info)
    }

    /// Whether the keywords of a connection string can stand together.
    pub(super) fn check_conninfo(&self, item: &Item<'_>, info: &ConnInfo) -> bool {
        info.check().map_err(|e| self.object(item, e.into())).is_ok()
    }

    /// Whether a connection of the proxy's own says who logs in; a daemon's OS user is no good guess.
    pub(super) fn check_login(&self, item: &Item<'_>, info: &ConnInfo) -> bool {
        if info.user.is_none() {
            self.object(item, Complaint::new("this names no role; add user=NAME"));
        }
        info.user.is_some()
    }
}

// === impl Item ===

impl Item<'_> {
    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    pub(super) fn new(reading: &'a Reading<'a>, name: &str, line: usize, table: &'a DeTable<'a>) -> Self {
        Self { reading, name: name.to_owned(), line, table, known: Vec::new() }
    }

    /// The table that `item` is.
    pub(super) fn of(reading: &'a Reading<'a>, item: &Item<'a>) -> Option<Self> {
        match item.value.as_table() {
            Some(table) => Some(Self::new(reading, &item.key, item.line, table)),
            None => {
                reading.wrong_type(item, "a table");
                None
            }
        }
    }

    pub(super) fn reading(&self) -> &'a Reading<'a> {
        self.reading
    }

    /// The value of `key`, which is known from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        self.entries().find(|(k, _)| *k == key).map(|(_, item)| item)
    }

    /// Whether the file has `key`, readable or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries().any(|(k, _)| k == key)
    }

    /// Every key and its value, for tables whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.table.iter().map(|(k, v)| {
            let line = self.reading.line(k.span().start);
            let key =
                if self.name.is_empty() { k.get_ref().to_string() } else { format!("{}.{}", self.name, k.get_ref()) };
            (k.get_ref().as_ref(), Item { key, line, value: v.get_ref() })
        })
    }

    /// The value of `key`, or a complaint that it is missing.
    pub(super) fn require(&mut self, key: &'static str, what: &str) -> Option<Item<'a>> {
        let item = self.take(key);
        if item.is_none() {
            self.missing(key, what);
        }
        item
    }

    /// A complaint that `key` is missing, at the head of the section.
    pub(super) fn missing(&self, key: &str, what: &str) {
        self.object(key, Complaint::new(format!("missing: {what}")));
    }

    /// Complains of a key, whether it is there or not.
    pub(super) fn object(&self, key: &str, complaint: Complaint) {
        let key = format!("{}.{key}", self.name);
        self.reading.report(Some(self.line), Some(&key), complaint);
    }

    pub(super) fn parse<T>(&mut self, key: &'static str, parse: fn(&str) -> Result<T, Complaint>) -> Option<T> {
        let item = self.take(key)?;
        self.reading.parse(&item, parse)
    }

    pub(super) fn choice<T: Choice>(&mut self, key: &'static str) -> Option<T> {
        self.parse(key, |text| {
            T::from_word(text).ok_or_else(|| {
                let meant = nearest(text, T::WORDS.iter().map(|(w, _)| *w));
                Complaint::new(format!("`{text}` is not allowed here; it takes {}", words::<T>())).suggest(meant)
            })
        })
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let item = self.take(key)?;
        if item.value.as_bool().is_none() {
            self.reading.wrong_type(&item, "true or false");
        }
        item.value.as_bool()
    }

    /// A whole number of at least `least`.
    pub(super) fn number(&mut self, key: &'static str, least: u32) -> Option<u32> {
        let item = self.take(key)?;
        let Some(integer) = item.value.as_integer() else {
            self.reading.wrong_type(&item, "a whole number");
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| *n >= least);
        if number.is_none() {
            self.reading.object(&item, Complaint::new(format!("this must be from {least} to {}", u32::MAX)));
        }
        number
    }

    /// A path, resolved, with its place for [`Reading::check_file`].
    pub(super) fn path(&mut self, key: &'static str) -> Option<(Item<'a>, PathBuf)> {
        let item = self.take(key)?;
        let text = self.reading.text(&item)?;
        if text.is_empty() {
            self.reading.object(&item, Complaint::new("this names no file"));
            return None;
        }
        let path = self.reading.resolve(Path::new(&text));
        Some((item, path))
    }

    /// One string or several, each of which `parse` gives a meaning to.
    pub(super) fn several<T>(&mut self, key: &'static str, parse: fn(&str) -> Result<T, Complaint>) -> Option<Vec<T>> {
        let item = self.take(key)?;
        Some(self.reading.each(&item).iter().filter_map(|i| self.reading.parse(i, parse)).collect())
    }

    /// Complains of every key that nobody took; `hint` may know where a key belongs.
    pub(super) fn finish(self, hint: impl Fn(&str) -> Option<String>) {
        for (key, item) in self.entries().filter(|(k, _)| !self.known.contains(k)) {
            let complaint = match hint(key) {
                Some(hint) => Complaint::new(format!("unknown key; {hint}")),
                None => Complaint::new("unknown key").suggest(nearest(key, self.known.iter().copied())),
            };
            self.reading.object(&item, complaint);
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
