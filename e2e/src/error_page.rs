//! `docs/src/reference/errors.md`, read: a section for each error code, and in it the messages that bear it.
//!
//! A message is a list item that begins with it as code: ``- `the message with … for what differs`: what to do``.

use std::fs;

use anyhow::{Context as _, Result};
use certmint_contract::ErrorCode;
use certmint_contract::error_code::Place;

use crate::repository;

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
    /// What stands before the messages.
    pub introduction: String,
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
            } else if let Some(section) = sections.last_mut() {
                section.introduction.push_str(line);
                section.introduction.push('\n');
            }
        }
        Self { sections }
    }

    /// The section of a code.
    #[must_use]
    pub fn section(&self, code: ErrorCode) -> Option<&Section> {
        self.sections.iter().find(|section| section.heading == code.as_str())
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

/// What the page says of a code before its messages: all of it from the catalogue.
#[must_use]
pub fn introduction(code: ErrorCode) -> String {
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
        assert_eq!(page.sections.first().map(|section| &*section.introduction), Some("Text.\n\n"));
    }
}
