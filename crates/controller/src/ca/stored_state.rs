//! State of the CA that is stored next to its certificates and keys, as JSON.
//!
//! The state is also a guard. A later version of Certmint stores states that this version does not know, for instance a
//! step of a root rotation. After `helm rollback`, this version then refuses to issue, because it would not know which
//! root peers trust.

use certmint_contract::TrustGeneration;
use serde::{Deserialize, Serialize};

/// State of the CA. A field that this version does not know is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CaState {
    /// Version of this format.
    format: Format,
    /// Generation of the set of roots in the Secret.
    pub(super) trust_generation: TrustGeneration,
}

/// Version of the format: 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
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
        Self { format: Format, trust_generation }
    }

    /// Returns the state as JSON.
    pub(super) fn to_json(&self) -> String {
        format!(r#"{{"format":1,"trustGeneration":{}}}"#, self.trust_generation)
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

impl From<Format> for u32 {
    fn from(Format: Format) -> Self {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state = CaState::new(TrustGeneration::FIRST.next());
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(json, r#"{"format":1,"trustGeneration":2}"#);
        assert_eq!(CaState::parse(Some(&json)).unwrap(), state);
        assert_eq!(CaState::parse(None).unwrap(), CaState::new(TrustGeneration::FIRST));
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
        ] {
            let error = CaState::parse(Some(json)).unwrap_err().to_string();
            assert!(error.contains("state.json is not known to this version"), "{error}");
        }
    }
}
