//! Parser of `docs/src/reference/errors.md`, which has a section for each error code, with the messages that
//! have this code.
//!
//! A message is a list item that begins with the message as code: ``- `the message with … for variable parts`:
//! what to do``.

use std::{fmt, fs};

use anyhow::{Context as _, Result, ensure};
use certmint_contract::ErrorCode;
use certmint_contract::error_code::{Actor, Channel};
use certmint_local_cluster::repository;

/// Path of the page, from the repository's root.
pub const PATH: &str = "docs/src/reference/errors.md";

/// Content of the page.
#[derive(Debug, Clone)]
pub struct ErrorPage {
    /// One section for each heading of the second or third level. A section of the second level has an empty
    /// [`Section::heading`].
    pub sections: Vec<Section>,
}

/// Content below one heading.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Heading without markup: a code, or a title.
    pub heading: String,
    /// Messages of the section.
    pub entries: Vec<Entry>,
}

/// A message with its explanation.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Message with `…` for variable parts.
    pub message: String,
    /// Cause and next step.
    pub explanation: String,
}

impl ErrorPage {
    /// Reads the page.
    ///
    /// # Errors
    /// When the page cannot be read.
    pub fn read() -> Result<Self> {
        let path = repository::root().join(PATH);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines() {
            if line.starts_with("## ") {
                sections.push(Section::default());
            } else if let Some(heading) = line.strip_prefix("### ") {
                let heading = heading.trim_matches('`').to_owned();
                sections.push(Section { heading, ..Section::default() });
            } else if let (Some(section), Some(entry)) = (sections.last_mut(), entry(line)) {
                section.entries.push(entry);
            }
        }
        Self { sections }
    }

    fn section(&self, code: ErrorCode) -> Option<&Section> {
        self.sections.iter().find(|section| section.heading == code.as_str())
    }

    /// Returns the generated sections of all codes. [`ErrorCode`] determines their headings and introductions. The
    /// messages stay as they are on the page.
    pub(crate) fn codes(&self) -> Result<String> {
        for Section { heading, entries } in &self.sections {
            let known = heading.contains(' ') || ErrorCode::ALL.iter().any(|code| code.as_str() == heading);
            ensure!(
                known || entries.is_empty(),
                "{PATH} has messages below {heading:?}, which is not a code; move them below one"
            );
        }
        let sections = ErrorCode::ALL.iter().map(|code| {
            let entries = self.section(*code).map_or(&[][..], |section| &section.entries);
            let entries: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
            let gap = if entries.is_empty() { "" } else { "\n" };
            format!("### `{code}`\n\n{}\n{gap}{entries}", introduction(*code))
        });
        Ok(sections.collect::<Vec<_>>().join("\n"))
    }

    /// Returns the entry that explains a message with that code.
    #[must_use]
    pub fn explains(&self, code: ErrorCode, text: &str) -> Option<&Entry> {
        self.section(code)?.entries.iter().find(|entry| entry.is_in(text))
    }
}

impl Entry {
    /// Returns whether `text` contains the message, with any text in place of each `…`.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let mut rest = text;
        self.message.split('…').all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- `{}`: {}", self.message, self.explanation)
    }
}

/// Returns the generated table of all codes.
pub(crate) fn index() -> String {
    let rows = ErrorCode::ALL.iter().map(|code| {
        let meaning = first_sentence(code.meaning());
        format!("| [`{code}`](#{}) | {meaning} | {} |\n", code.as_str().to_lowercase(), actors(*code))
    });
    format!("| code | meaning | who acts |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// Returns the first sentence of `text`, without its full stop.
fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text.trim_end_matches('.'), |(first, _)| first)
}

/// Returns the generated text of a code before its messages.
fn introduction(code: ErrorCode) -> String {
    let channels: Vec<_> = code.channels().iter().map(|channel| channel_words(*channel)).collect();
    let transient = if code.is_transient() {
        "The problem can go away on its own."
    } else {
        "The problem does not go away on its own."
    };
    let actors = if code.actors().is_empty() { String::new() } else { format!(" ({})", actors(code)) };
    let (meaning, channels, remedy) = (code.meaning(), channels.join(", "), code.remedy());
    format!("{meaning}\n\nSeen in: {channels}. {transient}\n\nWhat to do{actors}: {remedy}")
}

/// Returns the roles that act on a code. A dash means that no action is needed.
fn actors(code: ErrorCode) -> String {
    let roles: Vec<_> = code.actors().iter().map(|actor| role(*actor)).collect();
    if roles.is_empty() { "–".to_owned() } else { roles.join(" or ") }
}

fn role(actor: Actor) -> &'static str {
    match actor {
        Actor::Developer => "developer",
        Actor::PlatformEngineer => "platform engineer",
    }
}

fn channel_words(channel: Channel) -> &'static str {
    match channel {
        Channel::Rejection => "rejections by the webhook",
        Channel::Warning => "warnings of `kubectl`",
        Channel::Event => "Events",
        Channel::Response => "HTTP responses",
        Channel::Termination => "termination messages",
        Channel::Log => "logs",
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (message, explanation) = line.strip_prefix("- `")?.split_once("`: ")?;
    Some(Entry { message: message.to_owned(), explanation: explanation.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_match_with_variable_parts() {
        let page = ErrorPage::parse(
            "# Errors\n### `NotAllowed`\nText.\n\n- `… is not allowed; the policy allows … to …`: ask\n",
        );
        let explains = |text| page.explains(ErrorCode::NotAllowed, text).map(|entry| &*entry.explanation);
        assert_eq!(
            explains(
                "Deployment/pay: annotation certmint.dev/duration: 5m is not allowed; the policy allows 10m to 720h"
            ),
            Some("ask")
        );
        assert_eq!(
            explains(
                "Deployment/pay: annotation certmint.dev/duration: 5m is not allowed; write 10m to 720h"
            ),
            None
        );
    }

    #[test]
    fn codes_keep_messages_and_get_an_introduction() {
        let page = ErrorPage::parse("### `PodGone`\n\nStale.\n\n- `it is … gone`: Nothing.\n");
        let codes = page.codes().unwrap();
        let section = "### `PodGone`\n\nThe pod is being deleted, or does not exist any more.\n\nSeen in: HTTP responses, termination messages, logs. The problem does not go away on its own.\n\nWhat to do: No action is needed.\n\n- `it is … gone`: Nothing.\n\n### `NotYetIssued`\n";
        assert!(codes.contains(section), "{codes}");
    }

    #[test]
    fn rejects_messages_below_unknown_codes() {
        let page = ErrorPage::parse("### `Former`\n\n- `a message`: Words.\n");
        assert!(page.codes().unwrap_err().to_string().contains("below \"Former\", which is not a code"));
    }

    #[test]
    fn the_index_links_each_code() {
        let index = index();
        assert_eq!(index.lines().count(), ErrorCode::ALL.len() + 2);
        let row = "| [`CaUnavailable`](#caunavailable) | The controller has no CA to issue with: the CA is missing, or its root is damaged, replaced or expired | platform engineer |\n";
        assert!(index.contains(row), "{index}");
    }
}
