//! Fuzz target for both sides of the issuance API: the header that the controller parses, and the response that
//! certmint-fetch parses.
//!
//! The first line of the input is the value of the header, and its first three characters are the status of the
//! response. The rest is the body of the response.

#![no_main]

use certmint_contract::issuance::{MAX_TOKEN_BYTES, bearer_token};
use certmint_fetch::issuance::{IssuanceError, parse_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();

    if let Some(token) = bearer_token([line]) {
        assert!(!token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
        // The controller writes the token into another header and into JSON.
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
        assert_eq!(bearer_token([format!("Bearer {token}").as_bytes()]), Some(token));
    }

    let status = line.get(..3).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(200);
    let api = "https://certmint-controller.certmint-system.svc:443".parse().expect("an origin");
    match parse_answer(&api, status, body) {
        Ok(bundle) => assert_eq!(status, 200, "{bundle:?}"),
        Err(IssuanceError::Rejected(failure)) => assert_ne!(status, 200, "{failure}"),
        Err(IssuanceError::NotUnderstood { .. }) => {}
        Err(other) => panic!("an error of a request, but there was none: {other}"),
    }
});
