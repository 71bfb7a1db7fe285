//! What is wrong with a configuration: every problem names its file, line and key, and all are told at once (§10).

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The configuration file.
    pub file: PathBuf,
    /// The line, counted from 1; none where the file as a whole is meant.
    pub line: Option<usize>,
    /// The key with its section, such as `node.listen`; none where no key could be read.
    pub key: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}:")?;
        }
        write!(f, " {}", self.message)?;
        match &self.suggestion {
            Some(s) => write!(f, "; did you mean `{s}`?"),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a configuration, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<Problem>);

impl ConfigErrors {
    /// The problems, in the order of their lines.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What a parser of one value says, before it is known where the value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: Option<impl Into<String>>) -> Self {
        self.suggestion = suggestion.map(Into::into);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_what_and_what_was_meant() {
        let problem = Problem {
            file: PathBuf::from("config/pgcanon.toml"),
            line: Some(12),
            key: Some("node.listne".into()),
            message: "unknown key".into(),
            suggestion: Some("listen".into()),
        };
        assert_eq!(problem.to_string(), "config/pgcanon.toml:12: node.listne: unknown key; did you mean `listen`?");
        let whole = Problem { line: None, key: None, suggestion: None, message: "it is empty".into(), ..problem };
        assert_eq!(whole.to_string(), "config/pgcanon.toml: it is empty");
        assert_eq!(
            ConfigErrors(vec![whole.clone(), whole]).to_string(),
            "config/pgcanon.toml: it is empty\nconfig/pgcanon.toml: it is empty"
        );
    }
}
