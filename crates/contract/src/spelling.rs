//! Suggestions for misspelt texts, for the error messages of this crate's parsers, and excerpts of texts for any
//! message.

use std::fmt::Display;

/// Maximum characters of a wrong text in a message.
const MAX_SHOWN_CHARS: usize = 80;
/// Maximum number of edits that lead from a misspelt text to a known word. With more edits, the user probably intended
/// another word.
const MAX_TYPING_ERRORS: usize = 3;

/// Returns the beginning of a wrong text, at most 80 characters, so that messages stay readable and small.
#[must_use]
pub fn excerpt(text: &str) -> String {
    truncate(text, MAX_SHOWN_CHARS)
}

/// Returns the first `max` characters of `text`.
pub(crate) fn truncate(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// Returns ` (did you mean "x"?)`, or an empty text without a suggestion.
pub(crate) fn hint(suggestion: Option<impl Display>) -> String {
    suggestion.map(|suggestion| format!(" (did you mean \"{suggestion}\"?)")).unwrap_or_default()
}

/// Returns the known word that is most similar to `text`, if it is similar enough.
pub(crate) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let text = excerpt(&text.trim().to_lowercase());
    let distance = |word: &&str| strsim::damerau_levenshtein(&text, word);
    let (edits, word) = known.iter().copied().map(|word| (distance(&word), word)).min()?;
    (edits <= MAX_TYPING_ERRORS && edits < word.len()).then_some(word)
}

/// Returns the message for a text that is not one of the allowed words, with the most similar of them.
pub(crate) fn not_one_of(text: &str, allowed: &[&str]) -> String {
    let hint = hint(nearest(text, allowed));
    format!("\"{}\" is not allowed{hint}; use one of {}", excerpt(text), allowed.join(", "))
}

/// Returns `text` in the style of names of objects and containers: lowercase, with `-` between words.
pub(crate) fn as_object_name(text: &str) -> String {
    let dashed = excerpt(text).trim().to_lowercase().replace(['_', ' '], "-");
    dashed.trim_matches(['-', '.']).to_owned()
}
