//! Issuance API between certmint-fetch and the controller: one request over TLS 1.3.
//!
//! The request is `POST /v1/bundle` with the pod's projected token (`Authorization: Bearer …`, audience [`AUDIENCE`])
//! and an empty body. The response is 200 with a [`Bundle`], or 4xx or 5xx with a [`Failure`]. The controller decides
//! from the token alone which bundle the pod gets.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{ErrorCode, TrustBundle};

/// Audience of the projected token. The controller rejects a token that was issued for another audience.
pub const AUDIENCE: &str = "certmint.dev";
/// Path of the request for a bundle.
pub const BUNDLE_PATH: &str = "/v1/bundle";
/// Maximum bytes of a response. A bundle with an RSA-4096 key and few names has less than 20 kB.
pub const MAX_RESPONSE_BYTES: usize = 128 * 1024;

/// Maximum length of a token in bytes. Tokens of the API server have about 1 kB. A token of the maximum length still
/// fits into the head of a request.
pub const MAX_TOKEN_BYTES: usize = 12 * 1024;

/// Bundle of a pod: certificate, private key and roots, all PEM. The memory of a bundle is wiped when it is dropped.
/// The `Debug` output contains no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Chain of the certificate: the leaf, then the issuing CAs, without the root.
    pub certificate: String,
    /// Private key, PKCS#8.
    pub private_key: String,
    /// Trust bundle: the roots that the pod trusts. On the wire, its fields are fields of the bundle.
    #[serde(flatten)]
    pub trust_bundle: TrustBundle,
}

/// Failure of a request, or of a program: a code and a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable code of the failure, from the catalogue.
    pub code: ErrorCode,
    /// Message with the object, the cause and the next step.
    pub message: String,
}

impl Failure {
    /// Creates a failure from its code and its message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Returns the token in the values of a request's `Authorization` headers.
///
/// Returns `None` unless there is exactly one header, its scheme is `Bearer` in upper or lower case, and the token has
/// the characters of RFC 6750 section 2.1 and at most [`MAX_TOKEN_BYTES`].
#[must_use]
pub fn bearer_token<'a>(authorizations: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    let mut authorizations = authorizations.into_iter();
    let (authorization, None) = (authorizations.next()?, authorizations.next()) else { return None };
    let (scheme, token) = str::from_utf8(authorization).ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    let is_valid = scheme.eq_ignore_ascii_case("bearer")
        && (1..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.trim_end_matches('=').bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
    is_valid.then_some(token)
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrustGeneration;

    #[test]
    fn debug_output_has_no_key() {
        assert!(!format!("{:?}", bundle()).contains("hush"));
    }

    fn bundle() -> Bundle {
        Bundle {
            certificate: "c".into(),
            private_key: "hush".into(),
            trust_bundle: TrustBundle { roots: "t".into(), generation: TrustGeneration::FIRST.next() },
        }
    }

    #[test]
    fn programs_of_version_0_1_0_read_a_bundle_and_write_one() {
        let json = serde_json::to_value(bundle()).unwrap();
        let expected = serde_json::json!({ "certificate": "c", "privateKey": "hush", "trustBundle": "t", "trustGeneration": 2 });
        assert_eq!(json, expected);
        let old = r#"{"certificate":"c","privateKey":"hush","trustBundle":"t"}"#;
        let read: Bundle = serde_json::from_str(old).unwrap();
        assert_eq!(read.trust_bundle, TrustBundle::first("t"));
        assert!(serde_json::from_str::<Bundle>(&old.replace('}', r#","trustGeneration":0}"#)).is_err());
    }

    #[test]
    fn one_bearer_token_is_read() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES));
        for value in ["Bearer ab.c-d_e~+/==", "bearer abc", "BEARER  abc ", &longest] {
            assert!(bearer_token([value.as_bytes()]).is_some(), "{value}");
        }
        assert_eq!(bearer_token([b"bearer  abc=".as_slice()]), Some("abc="));
    }

    #[test]
    fn malformed_bearer_tokens_are_rejected() {
        let too_long = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        for value in
            ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b", "Bearer a,b", "Bearer é", &too_long]
        {
            assert_eq!(bearer_token([value.as_bytes()]), None, "{value}");
        }
        assert_eq!(bearer_token([b"Bearer \xff".as_slice()]), None);
        assert_eq!(bearer_token([b"Bearer abc".as_slice(), b"Bearer abc"]), None, "two headers");
        assert_eq!(bearer_token([]), None);
    }

    #[test]
    fn a_failure_serializes_its_code_and_message() {
        let failure = Failure::new(ErrorCode::NotYetIssued, "soon");
        let json = serde_json::to_string(&failure).unwrap();
        assert_eq!(json, r#"{"code":"NotYetIssued","message":"soon"}"#);
        assert_eq!(serde_json::from_str::<Failure>(&json).unwrap(), failure);
    }
}
