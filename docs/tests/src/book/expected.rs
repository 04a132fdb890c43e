//! Comparison of a command's output with the output that a page shows.

/// Returns whether `printed` matches `shown`. Several spaces count as one space, and `…` stands for any text, also of
/// several lines.
pub(super) fn matches(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (with_single_spaces(shown), with_single_spaces(printed));
    let mut pieces = shown.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| printed.strip_prefix(first)) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// Replaces runs of spaces with one space, because the width of columns depends on their content.
fn with_single_spaces(text: &str) -> String {
    let lines = text.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn an_ellipsis_matches_any_text() {
        assert!(matches("NAME   AGE\npayments …\n", "NAME       AGE\npayments   12s\n"));
        assert!(matches("first\n…\nlast", "first\nsecond\nthird\nlast"));
        assert!(matches("…", ""));
        assert!(!matches("first\n…\nlast", "first\nsecond"));
        assert!(!matches("payments …", "checkout 12s"));
        assert!(!matches("same", "same and more"));
        assert!(!matches("a … b … b", "a x b"));
    }
}
