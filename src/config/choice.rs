//! Words with a fixed meaning: which exist, and which one was probably meant.

/// An enum whose variants are written as words in the configuration.
pub trait Choice: Copy + PartialEq + 'static {
    /// Every word and what it means; the first word of a variant is its name.
    const WORDS: &'static [(&'static str, Self)];

    /// The variant that `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(w, _)| *w == word).map(|(_, v)| *v)
    }

    /// The word this variant is written as.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, v)| *v == self).map_or("", |(w, _)| w)
    }
}

/// The words of `T`, as a message lists them.
pub(super) fn words<T: Choice>() -> String {
    list(T::WORDS.iter().map(|(w, _)| *w))
}

/// `` `a`, `b` or `c` ``.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The candidate that `word` is most likely a misspelling of, if any is near enough to be worth naming.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace('-', "_");
    let word = plain(word);
    let limit = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&word, &plain(c)), c))
        .filter(|(distance, c)| *distance <= limit && *distance < c.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_finds_its_word_and_nonsense_finds_none() {
        let words = ["listen", "server", "control", "log_level", "a"];
        assert_eq!(nearest("listne", words), Some("listen"));
        assert_eq!(nearest("Log-Level", words), Some("log_level"));
        assert_eq!(nearest("loglevel", words), Some("log_level"));
        assert_eq!(nearest("frobnicate", words), None);
        assert_eq!(nearest("b", words), None);
    }

    #[test]
    fn a_list_reads_as_a_sentence() {
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
