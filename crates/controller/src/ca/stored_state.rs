//! State of the CA that is stored next to its certificates and keys, as JSON.
//!
//! The state is also a guard. A later version of Certmint stores states that this version does not know, for instance a
//! step of a root rotation. After `helm rollback`, this version then refuses to issue, because it would not know which
//! root peers trust.

use certmint_contract::{TrustGeneration, rfc3339};
use certmint_planner::IssuingCaRequest;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// State of the CA. A field that this version does not know is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CaState {
    /// Version of this format.
    format: Format,
    /// Generation of the set of roots in the Secret.
    pub(super) trust_generation: TrustGeneration,
    /// Last replacement of the issuing CA that an operator requested.
    #[serde(default)]
    pub(super) issuing_replacement: Option<IssuingReplacement>,
    /// Time of the last replacement of the issuing CA for which an operator requested reissues.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(super) reissue_since: Option<OffsetDateTime>,
}

/// Replacement of the issuing CA that an operator requested.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuingReplacement {
    /// Id of the request.
    pub(super) id: String,
    /// Reason that the operator gave.
    reason: String,
    /// Time of the replacement.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

/// Version of the format: 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
struct Format;

/// Error for a state that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "its key state.json is not known to this version of Certmint ({0}); run the version that wrote it, or restore the Secret from a backup"
)]
pub(super) struct UnknownState(serde_json::Error);

impl CaState {
    /// Returns the state of a CA with this generation of roots.
    pub(super) fn new(trust_generation: TrustGeneration) -> Self {
        Self { format: Format, trust_generation, issuing_replacement: None, reissue_since: None }
    }

    /// Records that a request was carried out at the time `at`.
    pub(super) fn record(&mut self, request: &IssuingCaRequest, at: OffsetDateTime) {
        let IssuingCaRequest { id, reason, reissue } = request.clone();
        self.issuing_replacement = Some(IssuingReplacement { id, reason, at });
        if reissue {
            self.reissue_since = Some(at);
        }
    }

    /// Returns the state as JSON.
    pub(super) fn to_json(&self) -> String {
        let replacement = self.issuing_replacement.as_ref().map(|IssuingReplacement { id, reason, at }| {
            ("issuingReplacement", json!({ "id": id, "reason": reason, "at": rfc3339(*at) }))
        });
        let since = self.reissue_since.map(|since| ("reissueSince", rfc3339(since).into()));
        let always = [("format", 1.into()), ("trustGeneration", json!(self.trust_generation))];
        let entries = always.into_iter().chain(replacement).chain(since);
        entries.map(|(key, value)| (key.to_owned(), value)).collect::<Value>().to_string()
    }

    /// Parses the text of the state. `None` means that version 0.1.0 wrote the Secret, which has one root.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, UnknownState> {
        text.map_or_else(
            || Ok(Self::new(TrustGeneration::FIRST)),
            |text| serde_json::from_str(text).map_err(UnknownState),
        )
    }
}

impl TryFrom<u32> for Format {
    type Error = String;

    fn try_from(format: u32) -> Result<Self, String> {
        if format == 1 { Ok(Self) } else { Err(format!("format {format}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state = CaState::new(TrustGeneration::FIRST.next());
        let json = state.to_json();
        assert_eq!(json, r#"{"format":1,"trustGeneration":2}"#);
        assert_eq!(CaState::parse(Some(&json)).unwrap(), state);
        assert_eq!(CaState::parse(None).unwrap(), CaState::new(TrustGeneration::FIRST));
    }

    #[test]
    fn the_last_request_is_recorded() {
        let request =
            |id: &str, reissue| IssuingCaRequest { id: id.into(), reason: "exercise".into(), reissue };
        let at = |hours| OffsetDateTime::UNIX_EPOCH + time::Duration::hours(hours);
        let mut state = CaState::new(TrustGeneration::FIRST);
        state.record(&request("a", true), at(1));
        assert_eq!(CaState::parse(Some(&state.to_json())).unwrap(), state);
        // The second request does not end the reissues of the first.
        state.record(&request("b", false), at(2));
        let read = CaState::parse(Some(&state.to_json())).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.reissue_since, Some(at(1)));
        assert_eq!(
            state.to_json(),
            r#"{"format":1,"issuingReplacement":{"at":"1970-01-01T02:00:00Z","id":"b","reason":"exercise"},"reissueSince":"1970-01-01T01:00:00Z","trustGeneration":1}"#
        );
    }

    #[test]
    fn an_unknown_state_is_an_error() {
        for json in [
            "",
            "{}",
            r#"{"format":2,"trustGeneration":2}"#,
            r#"{"format":1}"#,
            r#"{"format":1,"trustGeneration":0}"#,
            r#"{"format":1,"trustGeneration":2,"rotation":{}}"#,
            r#"{"format":1,"trustGeneration":2,"reissueSince":"soon"}"#,
            r#"{"format":1,"trustGeneration":2,"issuingReplacement":{"id":"a"}}"#,
        ] {
            let error = CaState::parse(Some(json)).unwrap_err().to_string();
            assert!(error.contains("state.json is not known to this version"), "{error}");
        }
    }
}
