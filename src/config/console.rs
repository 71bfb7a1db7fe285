//! `[[console_user]]`: who may use the console over TCP, by password, and what for.

use super::choice::Choice;
use super::files::Kind;
use super::problem::Complaint;
use super::secret::Secret;
use super::section::Section;

/// A user of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleUser {
    pub name: String,
    pub password: Secret,
    pub may: May,
}

/// What a user of the console may do; each may what those before it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// SHOW and SELECT.
    #[default]
    Look,
    /// Also what changes something.
    Act,
}

impl Choice for May {
    const WORDS: &'static [(&'static str, Self)] = &[("look", Self::Look), ("act", Self::Act)];
}

impl ConsoleUser {
    pub(super) fn read(mut s: Section<'_>, before: &[Self]) -> Option<Self> {
        let reading = s.reading();
        let name = s.require("name", "the name to log in with").and_then(|item| {
            let name = reading.text(&item)?;
            if name.is_empty() {
                reading.object(&item, Complaint::new("this names nobody"));
            } else if before.iter().any(|user| user.name == name) {
                reading.object(&item, Complaint::new(format!("another user of the console is named `{name}` already")));
            }
            Some(name)
        });
        let password = password(&mut s);
        let may = s.choice("may").unwrap_or_default();
        s.finish(|_| None);
        Some(Self { name: name?, password: password?, may })
    }
}

fn password(s: &mut Section<'_>) -> Option<Secret> {
    let reading = s.reading();
    let (text, file) = (s.take("password"), s.path("password_file"));
    let (item, password) = match (text, file) {
        (Some(item), Some(_)) => {
            reading.object(&item, Complaint::new("there is a password_file, too; leave one of them out"));
            return None;
        }
        (Some(item), None) => {
            let password = reading.text(&item)?;
            (item, password)
        }
        (None, Some((item, path))) => {
            reading.check_file(&item, &path, Kind::Passfile);
            // What cannot be read has been complained of.
            let content = std::fs::read_to_string(&path).ok()?;
            let password = content.strip_suffix('\n').unwrap_or(&content);
            (item, password.strip_suffix('\r').unwrap_or(password).to_owned())
        }
        (None, None) => {
            s.missing("password", "a password (\"${VARIABLE}\" reads the environment), or password_file");
            return None;
        }
    };
    if password.is_empty() {
        reading.object(&item, Complaint::new("an empty password would let in anybody"));
        return None;
    }
    Some(Secret::new(password))
}
