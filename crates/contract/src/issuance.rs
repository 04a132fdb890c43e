//! The issuance API between fetcher and controller: one request, over TLS 1.3.
//!
//! `POST /v1/bundle` with the pod's projected token (`Authorization: Bearer …`, audience
//! [`AUDIENCE`]) and an empty body. 200 with a [`Bundle`], or 4xx/5xx with a [`Failure`].
//! Who gets what is decided from the token alone.

use crate::ErrorCode;
use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The audience of the projected token, so that a token stolen from another service is worth nothing here.
pub const AUDIENCE: &str = "certmint.dev";
/// Where the bundle is asked for.
pub const BUNDLE_PATH: &str = "/v1/bundle";
/// An answer is never longer: an RSA-4096 key and two chains are below 20 kB.
pub const MAX_ANSWER_BYTES: usize = 128 * 1024;

/// What a pod needs: all PEM. Zeroized when dropped; Debug shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// The leaf, then the issuing CAs, without the root.
    pub certificate: String,
    /// PKCS#8.
    pub private_key: String,
    /// The roots to trust.
    pub trust_bundle: String,
}

/// Why there is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// The stable code.
    pub code: ErrorCode,
    /// The object, the cause and the next step.
    pub message: String,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let bundle = Bundle { certificate: "c".into(), private_key: "hush".into(), trust_bundle: "t".into() };
        assert!(!format!("{bundle:?}").contains("hush"));
    }

    #[test]
    fn a_failure_travels_as_words() {
        let failure = Failure { code: ErrorCode::NotYetIssued, message: "soon".into() };
        let json = serde_json::to_string(&failure).unwrap();
        assert_eq!(json, r#"{"code":"NotYetIssued","message":"soon"}"#);
        assert_eq!(serde_json::from_str::<Failure>(&json).unwrap(), failure);
    }
}
