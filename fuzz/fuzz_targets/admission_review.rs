//! Fuzz target for the whole webhook, from a request's body to its response.
//!
//! Checks for every input that the response is JSON with a known status, that a patch applies to the object in the
//! review, and that the patched object gets no further patch.

#![no_main]

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certmint_contract::Policy;
use certmint_server::{Handler as _, ServingKeyPair};
use certmint_testkit::settings;
use certmint_webhook::{Admission, Endpoint, Metrics};
use futures::executor::block_on;
use http::{Request, StatusCode};
use libfuzzer_sys::fuzz_target;
use prometheus_client::registry::Registry;
use serde_json::Value;

/// Maximum bytes of a message for kubectl. The webhook must not quote a body of megabytes in its message.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

static WEBHOOK: LazyLock<Endpoint> = LazyLock::new(|| {
    let metrics = Metrics::register(&mut Registry::default(), Arc::new(ServingKeyPair::default()));
    let policy = br#"{"extraDnsNames":{"shop":["example.com"]},"excludedNamespaces":["closed"]}"#;
    let admission = Admission::new(Policy::from_json(policy).expect("a policy"), metrics);
    admission.set_settings(settings());
    Endpoint(Arc::new(admission))
});

fuzz_target!(|body: &[u8]| {
    let Some(mut review) = answer(Bytes::copy_from_slice(body)) else { return };
    let Some(patch) = review.patch() else { return };
    json_patch::patch(&mut review.sent["request"]["object"], &patch).expect("the patch applies");
    let again = answer(review.sent.to_string().into()).expect("it was a review before");
    assert!(again.answer["response"]["patch"].is_null(), "patched twice: {}", again.answer);
    assert_eq!(again.answer["response"]["allowed"], true, "rejected after its own patch: {}", again.answer);
});

/// A review and the AdmissionReview in the response.
struct AnsweredReview {
    sent: Value,
    answer: Value,
}

impl AnsweredReview {
    fn patch(&self) -> Option<json_patch::Patch> {
        let patch = self.answer["response"]["patch"].as_str()?;
        assert_eq!(self.answer["response"]["patchType"], "JSONPatch");
        let patch = STANDARD.decode(patch).expect("base64");
        Some(serde_json::from_slice(&patch).expect("a JSON patch"))
    }
}

/// Sends a body, and checks the response. Returns `None` if the body is not a review.
fn answer(body: Bytes) -> Option<AnsweredReview> {
    let request = Request::post("/mutate").header("content-type", "application/json");
    let request = request.body(body.clone()).expect("a request");
    let response = block_on(WEBHOOK.handle(request));
    let answer: Value = serde_json::from_slice(response.body()).expect("every response is JSON");
    match response.status() {
        StatusCode::OK => {
            let status = &answer["response"]["status"];
            if answer["response"]["allowed"] != true {
                let message = status["message"].as_str().expect("a rejection has a message");
                assert!(message.len() <= MAX_MESSAGE_BYTES, "{} bytes of message", message.len());
            }
            // Of two fields with the same name, a `Value` keeps the last one. The webhook also accepts some bodies that
            // serde_json cannot read as a `Value`. No patch can be applied to these, so they are not checked further.
            let sent: Value = serde_json::from_slice(&body).ok()?;
            Some(AnsweredReview { sent, answer })
        }
        StatusCode::BAD_REQUEST => {
            assert_eq!(answer["code"], "BadReview");
            let message = answer["message"].as_str().expect("a failure has a message");
            assert!(message.len() <= MAX_MESSAGE_BYTES, "{} bytes of message", message.len());
            None
        }
        status => panic!("{status}: {answer}"),
    }
}
