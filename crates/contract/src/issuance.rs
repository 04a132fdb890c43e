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

/// No token is longer; the API server's own are about 1 kB. It fits into the head of a request with room to spare.
pub const MAX_TOKEN_BYTES: usize = 12 * 1024;

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

/// The token in the values of a request's `Authorization` headers: there is one header, its scheme is `Bearer`
/// in whatever case, and what follows is written in the characters of RFC 6750 section 2.1 and no longer than
/// [`MAX_TOKEN_BYTES`].
pub fn bearer_token<'a>(authorizations: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a str> {
    let mut authorizations = authorizations.into_iter();
    let (authorization, None) = (authorizations.next()?, authorizations.next()) else { return None };
    let (scheme, token) = str::from_utf8(authorization).ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    let fits = scheme.eq_ignore_ascii_case("bearer")
        && (1..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.trim_end_matches('=').bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b));
    fits.then_some(token)
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
    fn one_bearer_token_is_read() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES));
        for value in ["Bearer ab.c-d_e~+/==", "bearer abc", "BEARER  abc ", &longest] {
            assert!(bearer_token([value.as_bytes()]).is_some(), "{value}");
        }
        assert_eq!(bearer_token([b"bearer  abc=".as_slice()]), Some("abc="));
    }

    #[test]
    fn what_is_no_bearer_token_is_not_passed_on() {
        let too_long = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        for value in
            ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer a b", "Bearer a,b", "Bearer é", &too_long]
        {
            assert_eq!(bearer_token([value.as_bytes()]), None, "{value}");
        }
        assert_eq!(bearer_token([b"Bearer \xff".as_slice()]), None);
        assert_eq!(bearer_token([b"Bearer abc".as_slice(), b"Bearer abc"]), None, "which of the two?");
        assert_eq!(bearer_token([]), None);
    }

    #[test]
    fn a_failure_travels_as_words() {
        let failure = Failure { code: ErrorCode::NotYetIssued, message: "soon".into() };
        let json = serde_json::to_string(&failure).unwrap();
        assert_eq!(json, r#"{"code":"NotYetIssued","message":"soon"}"#);
        assert_eq!(serde_json::from_str::<Failure>(&json).unwrap(), failure);
    }
}
