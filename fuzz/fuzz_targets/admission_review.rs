//! The whole webhook, from a request's body to its answer.
//!
//! Whatever comes in, the answer is JSON with a known status. A patch applies to the object that was sent, and
//! what is patched is patched no further when it comes back.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use certmint_contract::Policy;
use certmint_server::{Handler as _, Identity};
use certmint_testkit::settings;
use certmint_webhook::{Admission, Endpoint, Metrics};
use futures::executor::block_on;
use http::{Request, StatusCode};
use libfuzzer_sys::fuzz_target;
use prometheus_client::registry::Registry;
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// A sentence for kubectl; a body of megabytes must not come back as one.
const LONGEST_MESSAGE: usize = 16 * 1024;

static WEBHOOK: LazyLock<Endpoint> = LazyLock::new(|| {
    let metrics = Metrics::register(&mut Registry::default(), Arc::new(Identity::default()));
    let policy = br#"{"extraDnsNames":{"shop":["example.com"]},"excludedNamespaces":["closed"]}"#;
    let admission = Admission::new(Policy::from_json(policy).expect("a policy"), metrics);
    admission.set_settings(settings());
    Endpoint(Arc::new(admission))
});

fuzz_target!(|body: &[u8]| {
    let Some(mut review) = answered(Bytes::copy_from_slice(body)) else { return };
    let Some(patch) = review.patch() else { return };
    json_patch::patch(&mut review.sent["request"]["object"], &patch).expect("the patch applies");
    let again = answered(review.sent.to_string().into()).expect("it was a review before");
    assert!(again.answer["response"]["patch"].is_null(), "patched twice: {}", again.answer);
    assert_eq!(again.answer["response"]["allowed"], true, "refused after its own patch: {}", again.answer);
});

/// A review that was answered as one.
struct Answered {
    sent: Value,
    answer: Value,
}

impl Answered {
    fn patch(&self) -> Option<json_patch::Patch> {
        let patch = self.answer["response"]["patch"].as_str()?;
        assert_eq!(self.answer["response"]["patchType"], "JSONPatch");
        let patch = STANDARD.decode(patch).expect("base64");
        Some(serde_json::from_slice(&patch).expect("a JSON patch"))
    }
}

/// Sends a body and checks what every answer must be.
fn answered(body: Bytes) -> Option<Answered> {
    let request = Request::post("/mutate").header("content-type", "application/json");
    let request = request.body(body.clone()).expect("a request");
    let response = block_on(WEBHOOK.handle(request));
    let answer: Value = serde_json::from_slice(response.body()).expect("every answer is JSON");
    match response.status() {
        StatusCode::OK => {
            let status = &answer["response"]["status"];
            if answer["response"]["allowed"] != true {
                let message = status["message"].as_str().expect("a refusal says why");
                assert!(message.len() <= LONGEST_MESSAGE, "{} bytes of message", message.len());
            }
            // What serde_json holds for a review may differ from what was sent: of two fields of one name the
            // last remains. Only what means the same to both is compared any further.
            let sent: Value = serde_json::from_slice(&body).ok()?;
            Some(Answered { sent, answer })
        }
        StatusCode::BAD_REQUEST => {
            assert_eq!(answer["code"], "BadReview");
            let message = answer["message"].as_str().expect("a failure says why");
            assert!(message.len() <= LONGEST_MESSAGE, "{} bytes of message", message.len());
            None
        }
        status => panic!("{status}: {answer}"),
    }
}
