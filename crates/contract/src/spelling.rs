//! What a wrong text was probably meant to be, for errors that offer it.

/// A bad text cut to what an error line can hold: errors stay readable, and memory bounded.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// ` (did you mean "x"?)`, or nothing.
pub(crate) fn hint(meant: Option<impl std::fmt::Display>) -> String {
    meant.map(|meant| format!(" (did you mean \"{meant}\"?)")).unwrap_or_default()
}

/// The entry most like a text, if any is alike enough to be meant.
pub(crate) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |entry: &&str| strsim::damerau_levenshtein(&shown(&text.trim().to_lowercase()), entry);
    known.iter().copied().map(|entry| (distance(&entry), entry)).min().and_then(|(far, entry)| {
        // Three slips are a typing error; more is another word.
        (far <= 3 && far < entry.len()).then_some(entry)
    })
}

/// "x" is not one of these, with the nearest of them.
pub(crate) fn not_one_of(text: &str, allowed: &[&str]) -> String {
    let hint = hint(nearest(text, allowed));
    format!("\"{}\" is not allowed{hint}; use one of {}", shown(text), allowed.join(", "))
}

/// A text as names of objects and containers are written: lowercase, with `-` for what separates words.
pub(crate) fn as_object_name(text: &str) -> String {
    let dashed = shown(text).trim().to_lowercase().replace(['_', ' '], "-");
    dashed.trim_matches(['-', '.']).to_owned()
}
