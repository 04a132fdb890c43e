//! Texts for users and logs, without control characters and with a maximum length.
//!
//! Messages quote names from the object under review, which the API server has not validated yet. Such a name may be
//! megabytes long, or contain line breaks that would forge log lines.

/// Maximum characters of a rejection's message.
const MAX_MESSAGE_CHARS: usize = 4096;
/// Maximum characters of a warning. The API server may truncate a warning of more than 256 characters. This limit
/// leaves room for the ellipsis.
const MAX_WARNING_CHARS: usize = 250;

/// Returns the message of a rejection in printable form.
pub(crate) fn printable_message(message: &impl ToString) -> String {
    printable(&message.to_string(), MAX_MESSAGE_CHARS)
}

/// Returns a warning in printable form.
pub(crate) fn printable_warning(warning: &str) -> String {
    printable(warning, MAX_WARNING_CHARS)
}

fn printable(text: &str, max: usize) -> String {
    let (kept, ellipsis) = match text.char_indices().nth(max) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "…"),
        None => (text, ""),
    };
    kept.replace(char::is_control, " ") + ellipsis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_truncated_with_an_ellipsis() {
        assert_eq!(printable("ä".repeat(5).as_str(), 5), "äääää");
        assert_eq!(printable("ä".repeat(6).as_str(), 5), "äääää…");
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(printable_warning("a\nb\u{7}c"), "a b c");
    }
}
