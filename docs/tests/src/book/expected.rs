//! What a page shows of a command's output, with `…` for what differs from run to run.

/// Whether `printed` is what `shown` says: line by line but for spaces, `…` standing for any text, also of several
/// lines.
pub(super) fn matches(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (even(shown), even(printed));
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

/// Columns differ in width with what stands in them, so spaces count as one.
fn even(text: &str) -> String {
    let lines = text.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn an_ellipsis_stands_for_any_text() {
        assert!(matches("NAME   AGE\npayments …\n", "NAME       AGE\npayments   12s\n"));
        assert!(matches("first\n…\nlast", "first\nsecond\nthird\nlast"));
        assert!(matches("…", ""));
        assert!(!matches("first\n…\nlast", "first\nsecond"));
        assert!(!matches("payments …", "checkout 12s"));
        assert!(!matches("same", "same and more"));
        assert!(!matches("a … b … b", "a x b"));
    }
}
