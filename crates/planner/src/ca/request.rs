//! Request of an operator to replace the issuing CA. It comes from a ConfigMap, so every part is checked and limited.

use std::collections::BTreeMap;
use std::fmt;

use certmint_contract::{ErrorCode, excerpt};

use crate::Refusal;

/// Request of an operator to replace the issuing CA now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuingCaRequest {
    /// Id that the operator chose. A request is carried out once; another id is another request.
    pub id: String,
    /// Reason that the operator gave.
    pub reason: String,
    /// True if workloads get a certificate of the new issuing CA within an hour, and not only at their next renewal.
    pub reissue: bool,
}

/// Maximum length of an id, in bytes.
const MAX_ID_BYTES: usize = 63;
/// Maximum length of a reason, in bytes.
const MAX_REASON_BYTES: usize = 256;
// Keys of the ConfigMap's data.
const ID: &str = "id";
const REASON: &str = "reason";
const REISSUE: &str = "reissue";

impl IssuingCaRequest {
    /// Reads the data of the ConfigMap. Returns `None` if it is empty, as the chart creates it.
    ///
    /// # Errors
    /// When a key is missing, unknown or has an invalid value.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Option<Self>, Refusal> {
        if data.is_empty() {
            return Ok(None);
        }
        if let Some(key) = data.keys().find(|key| ![ID, REASON, REISSUE].contains(&key.as_str())) {
            return Err(refusal(format!(
                "the key \"{}\" is not known; use id, reason and reissue",
                excerpt(key)
            )));
        }
        let text = |key| data.get(key).map(|text| text.trim()).unwrap_or_default();
        let id = text(ID);
        let is_id_octet = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(is_id_octet) {
            return Err(refusal(format!(
                "its id is not usable; set the key id to a new text of 1 to {MAX_ID_BYTES} letters, digits, '-', '_' and '.'"
            )));
        }
        let reason = text(REASON);
        if reason.is_empty() || reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
            return Err(refusal(format!(
                "request {id} has no usable reason; set the key reason to one line of 1 to {MAX_REASON_BYTES} bytes"
            )));
        }
        let reissue = match text(REISSUE) {
            "true" => true,
            "" | "false" => false,
            other => {
                let other = excerpt(other);
                return Err(refusal(format!(
                    "request {id}: reissue \"{other}\" is not known; use true or false"
                )));
            }
        };
        Ok(Some(Self { id: id.into(), reason: reason.into(), reissue }))
    }
}

impl fmt::Display for IssuingCaRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.reason)
    }
}

fn refusal(why: String) -> Refusal {
    Refusal { code: ErrorCode::RequestRefused, message: format!("the issuing CA is not replaced: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[(&str, &str)]) -> Result<Option<IssuingCaRequest>, String> {
        let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        IssuingCaRequest::parse(&data).map_err(|refusal| {
            assert_eq!(refusal.code, ErrorCode::RequestRefused);
            refusal.message
        })
    }

    #[test]
    fn an_empty_config_map_is_not_a_request() {
        assert_eq!(parse(&[]), Ok(None));
    }

    #[test]
    fn a_request_has_an_id_and_a_reason() {
        let request = |reissue| IssuingCaRequest {
            id: "2026-11.a_1".into(),
            reason: "yearly exercise".into(),
            reissue,
        };
        let (id, reason) = (("id", "2026-11.a_1"), ("reason", " yearly exercise\n"));
        assert_eq!(parse(&[id, reason]), Ok(Some(request(false))));
        assert_eq!(parse(&[id, reason, ("reissue", "false")]), Ok(Some(request(false))));
        assert_eq!(parse(&[id, reason, ("reissue", "true")]), Ok(Some(request(true))));
        assert_eq!(request(true).to_string(), "2026-11.a_1 (yearly exercise)");
    }

    #[test]
    fn a_malformed_request_is_refused_with_the_next_step() {
        let (long_id, long_reason) = ("a".repeat(64), "a".repeat(257));
        let no_id = "the issuing CA is not replaced: its id is not usable; set the key id to a new text of 1 to 63 letters, digits, '-', '_' and '.'";
        let no_reason = "the issuing CA is not replaced: request a has no usable reason; set the key reason to one line of 1 to 256 bytes";
        for (data, message) in [
            (vec![("reason", "r")], no_id),
            (vec![("id", " "), ("reason", "r")], no_id),
            (vec![("id", "a b"), ("reason", "r")], no_id),
            (vec![("id", long_id.as_str()), ("reason", "r")], no_id),
            (vec![("id", "a")], no_reason),
            (vec![("id", "a"), ("reason", "two\nlines")], no_reason),
            (vec![("id", "a"), ("reason", long_reason.as_str())], no_reason),
            (
                vec![("id", "a"), ("reason", "r"), ("reissue", "yes")],
                "the issuing CA is not replaced: request a: reissue \"yes\" is not known; use true or false",
            ),
            (
                vec![("id", "a"), ("resaon", "r")],
                "the issuing CA is not replaced: the key \"resaon\" is not known; use id, reason and reissue",
            ),
        ] {
            assert_eq!(parse(&data), Err(message.into()), "{data:?}");
        }
    }

    #[test]
    fn messages_have_a_limited_length() {
        let long = "ä".repeat(100_000);
        for data in [
            vec![("id", long.as_str())],
            vec![("id", "a"), ("reason", long.as_str())],
            vec![("id", "a"), ("reason", "r"), ("reissue", long.as_str())],
            vec![(long.as_str(), "a")],
        ] {
            let message = parse(&data).unwrap_err();
            assert!(message.len() < 300, "{} bytes", message.len());
        }
    }
}
