//! `[capture]`: which functions write replicated tables where their source does not tell, and which only look as if they did.

use super::problem::Complaint;
use super::section::Section;

/// What the operator knows of functions and procedures; names are `schema.function`, or `function` in any schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// They write replicated tables: statements that call them are refused.
    pub writing: Vec<String>,
    /// They do not, whatever their source looks like.
    pub harmless: Vec<String>,
}

impl Capture {
    pub(super) fn read(mut s: Section<'_>) -> Self {
        let read = Self {
            writing: s.several("writing", function).unwrap_or_default(),
            harmless: s.several("harmless", function).unwrap_or_default(),
        };
        if let Some(item) = s.take("harmless") {
            for both in read.harmless.iter().filter(|name| read.writing.contains(name)) {
                s.reading().object(&item, Complaint::new(format!("`{both}` is listed as writing too")));
            }
        }
        s.finish(|_| None);
        read
    }
}

/// A name as the catalog has it; which of its overloads is meant cannot be said.
fn function(text: &str) -> Result<String, Complaint> {
    match text.split_once('(') {
        Some((name, _)) => Err(Complaint::new(format!("`{text}` has arguments; all functions of a name are meant"))
            .suggest(Some(name.trim_end().to_owned()))),
        None if text.is_empty() || text.starts_with('.') || text.ends_with('.') => {
            Err(Complaint::new(format!("`{text}` is not a function, such as \"public.transfer\"")))
        }
        None => Ok(text.to_owned()),
    }
}
