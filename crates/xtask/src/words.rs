//! Check `words`: the project's texts avoid idioms that are hard to understand.
//!
//! CONTRIBUTING asks for plain English: the actor is named, and standard terms are used. This check finds the most
//! frequent of the idioms that were removed, so that they do not come back.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::{command, repository};

/// Idiom, with the words to use instead.
struct Idiom {
    /// Whole words, in lower case.
    words: &'static str,
    /// Advice in the error message.
    instead: &'static str,
}

/// Exception for the files whose path starts with `path`.
struct Allowed {
    path: &'static str,
    /// The idiom that is allowed, or all of them.
    words: Option<&'static str>,
}

/// Idioms that are not used in code comments, messages, the book or the chart.
const IDIOMS: [Idiom; 21] = [
    Idiom { words: "whoever", instead: "name the actor: the user, the API server, the attacker" },
    Idiom { words: "whomever", instead: "name the actor: the user, the API server, the attacker" },
    Idiom { words: "whatever", instead: "name the thing, or write \"every\"" },
    Idiom { words: "whichever", instead: "name the thing, or write \"each\"" },
    Idiom { words: "nobody", instead: "name the actor: \"no user\", \"no controller\"" },
    Idiom { words: "somebody", instead: "name the actor: a user, another program" },
    Idiom { words: "anew", instead: "reissue, recreate, rewrite, or \"again\"" },
    Idiom { words: "meanwhile", instead: "\"in the meantime\", or \"while …\"" },
    Idiom { words: "beside", instead: "\"next to\", or \"in addition to\"" },
    Idiom { words: "but for", instead: "\"except\"" },
    Idiom { words: "of ours", instead: "\"Certmint's\"" },
    Idiom { words: "ours", instead: "\"Certmint's\"" },
    Idiom { words: "fetcher", instead: "\"certmint-fetch\"" },
    Idiom { words: "told", instead: "reported, warned, logged, announced" },
    Idiom { words: "tells", instead: "reports, warns, logs, announces, shows" },
    Idiom { words: "hears", instead: "receives, observes" },
    Idiom { words: "rights", instead: "permissions" },
    Idiom { words: "stands in", instead: "\"is in\"" },
    Idiom { words: "lies in", instead: "\"is in\"" },
    Idiom { words: "by itself", instead: "\"on its own\", or \"automatically\"" },
    Idiom { words: "is no", instead: "\"is not a\"" },
];

/// Standard phrases that contain an idiom.
const STANDARD_PHRASES: [&str; 5] =
    ["there is no", "is no longer", "is no more", "answer is no", "signed by itself"];

/// Files that may use an idiom, or all of them.
const ALLOWED: [Allowed; 4] = [
    // Lists of the words to avoid.
    Allowed { path: "CONTRIBUTING.md", words: None },
    Allowed { path: "crates/xtask/src/words.rs", words: None },
    // The name of a Unix user.
    Allowed { path: "crates/local-cluster/src/images/", words: Some("nobody") },
    // Inputs of the fuzz targets.
    Allowed { path: "fuzz/seeds/", words: None },
];

/// Endings of the names of files that the check reads.
const ENDINGS: [&str; 6] = [".rs", ".md", ".yaml", ".tpl", ".txt", ".json"];

/// Checks every file that Git tracks.
///
/// # Errors
/// When a file uses an idiom; the message lists each place with the words to use instead.
pub(crate) fn check() -> Result<()> {
    let root = repository::root();
    let mut found = Vec::new();
    let listed = command::output(Command::new("git").arg("ls-files").current_dir(&root))?;
    for path in listed.lines().filter(|path| ENDINGS.iter().any(|ending| path.ends_with(ending))) {
        let bytes = match fs::read(root.join(path)) {
            Ok(bytes) => bytes,
            // Git still lists a file that was deleted and not committed yet.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        found.extend(idioms_of_file(path, &String::from_utf8_lossy(&bytes)));
    }
    ensure!(found.is_empty(), "idioms that CONTRIBUTING asks to avoid:\n{}", found.join("\n"));
    Ok(())
}

fn idioms_of_file(path: &str, text: &str) -> Vec<String> {
    let allowed: Vec<_> = ALLOWED.iter().filter(|allowed| path.starts_with(allowed.path)).collect();
    let is_allowed =
        |idiom: &Idiom| allowed.iter().any(|allowed| allowed.words.is_none_or(|words| words == idiom.words));
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for Idiom { words, instead } in idioms_of_line(line).filter(|idiom| !is_allowed(idiom)) {
            found.push(format!("{path}:{}: \"{words}\"; write {instead}", index + 1));
        }
    }
    found
}

/// Returns the idioms in a line of text.
fn idioms_of_line(line: &str) -> impl Iterator<Item = &'static Idiom> {
    let mut line = spaced_words(line);
    for phrase in STANDARD_PHRASES {
        line = line.replace(&format!(" {phrase} "), " ");
    }
    IDIOMS.iter().filter(move |idiom| line.contains(&format!(" {} ", idiom.words)))
}

/// Returns the words of a line in lower case, each between two spaces. An identifier such as `is_no_name` is one word.
fn spaced_words(line: &str) -> String {
    let line = line.to_lowercase();
    let is_separator = |char: char| !char.is_alphanumeric() && char != '_' && char != '-';
    let words: Vec<&str> = line.split(is_separator).filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<&'static str> {
        idioms_of_line(line).map(|idiom| idiom.words).collect()
    }

    #[test]
    fn finds_idioms_as_whole_words() {
        assert_eq!(found("/// Whoever reads this, made anew."), ["whoever", "anew"]);
        assert_eq!(found("a key of ours"), ["of ours", "ours"]);
        assert_eq!(found("hours, nobody_else, besides, a renewal"), [""; 0]);
    }

    #[test]
    fn names_the_place_and_the_words_to_use() {
        let found = idioms_of_file("docs/page.md", "Text.\nMade anew.\n");
        assert_eq!(found, ["docs/page.md:2: \"anew\"; write reissue, recreate, rewrite, or \"again\""]);
    }

    #[test]
    fn accepts_exceptions() {
        assert_eq!(idioms_of_file("CONTRIBUTING.md", "whoever, nobody"), [""; 0]);
        let users = "crates/local-cluster/src/images/users.rs";
        assert_eq!(idioms_of_file(users, "nobody:x:65532"), [""; 0]);
        assert_eq!(idioms_of_file(users, "whoever reads this").len(), 1);
    }

    #[test]
    fn accepts_standard_phrases() {
        assert_eq!(found("an address is no name"), ["is no"]);
        assert_eq!(found("There is no name, and it is no longer valid."), [""; 0]);
    }
}
