//! `docs/src/reference/errors.md`, read: a section for each error code, and in it the messages that bear it.
//!
//! A message is a list item that begins with it as code: ``- `the message with … for what differs`: what to do``.

use std::{fmt, fs};

use anyhow::{Context as _, Result, ensure};
use certmint_contract::ErrorCode;
use certmint_contract::error_code::Place;
use certmint_local_cluster::repository;

/// The page, relative to the repository.
pub const PATH: &str = "docs/src/reference/errors.md";

/// The page.
#[derive(Debug, Clone)]
pub struct ErrorPage {
    /// One for each heading of the second and third level; those of the second are not told.
    pub sections: Vec<Section>,
}

/// What stands below one heading.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// The heading, without markup: a code, or a title.
    pub heading: String,
    /// The messages.
    pub entries: Vec<Entry>,
}

/// A message and what the page says of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// With `…` for what differs from case to case.
    pub message: String,
    /// Cause and remedy.
    pub explanation: String,
}

impl ErrorPage {
    /// Reads the page.
    ///
    /// # Errors
    /// When it is not there.
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

    /// The sections of all codes as they should be: from the catalogue, but for the messages, which are the page's.
    pub(crate) fn codes(&self) -> Result<String> {
        for Section { heading, entries } in &self.sections {
            let known = heading.contains(' ') || ErrorCode::ALL.iter().any(|code| code.as_str() == heading);
            ensure!(
                known || entries.is_empty(),
                "{PATH} has messages below {heading:?}, which is no code; move them below one"
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

    /// What a search for the text of a message with that code finds.
    #[must_use]
    pub fn explains(&self, code: ErrorCode, text: &str) -> Option<&Entry> {
        self.section(code)?.entries.iter().find(|entry| entry.is_in(text))
    }
}

impl Entry {
    /// Whether the text contains the message, with anything in the places of `…`.
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

/// What the page says of a code before its messages.
fn introduction(code: ErrorCode) -> String {
    let seen: Vec<_> = code.seen().iter().map(|place| words(*place)).collect();
    let passes = if code.is_transient() { "It may pass by itself." } else { "It does not pass by itself." };
    format!("{}\n\nSeen in: {}. {passes}\n\nWhat to do: {}", code.meaning(), seen.join(", "), code.remedy())
}

fn words(place: Place) -> &'static str {
    match place {
        Place::Refusal => "refusals by the webhook",
        Place::Warning => "warnings of `kubectl`",
        Place::Event => "Events",
        Place::Answer => "answers over HTTPS",
        Place::Termination => "termination messages",
        Place::Log => "logs",
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
    fn a_message_is_found_with_anything_in_the_places_that_differ() {
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
    fn a_code_keeps_its_messages_and_gets_its_introduction() {
        let page = ErrorPage::parse("### `PodGone`\n\nStale.\n\n- `it is … gone`: Nothing.\n");
        let codes = page.codes().unwrap();
        let section = "### `PodGone`\n\nThe pod is being deleted, or does not exist any more.\n\nSeen in: answers over HTTPS, termination messages, logs. It does not pass by itself.\n\nWhat to do: No action is needed.\n\n- `it is … gone`: Nothing.\n\n### `NotYetIssued`\n";
        assert!(codes.contains(section), "{codes}");
    }

    #[test]
    fn no_message_goes_with_a_code_that_is_gone() {
        let page = ErrorPage::parse("### `Former`\n\n- `a message`: Words.\n");
        assert!(page.codes().unwrap_err().to_string().contains("below \"Former\", which is no code"));
    }
}
