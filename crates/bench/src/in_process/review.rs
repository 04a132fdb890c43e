//! Row `review`: an admission review, from the bytes of its request to the bytes of its response.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use certmint_contract::{Policy, TrustBundle};
use certmint_injection::{InjectionSettings, Subject, admit_pod};
use certmint_server::{Handler as _, ServingKeyPair};
use certmint_testkit::{sample_review, settings};
use certmint_webhook::{Admission, Endpoint, Metrics};
use http::{Method, Request};
use prometheus_client::registry::Registry;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::seconds_each;
use crate::result::Measurement;
use crate::run::Run;

/// An admission review to measure.
pub(crate) struct Sample {
    pub(crate) what: &'static str,
    pub(crate) body: String,
    /// Whether the response must contain a patch.
    pub(crate) injected: bool,
}

/// Returns reviews of a pod that is injected, and of the same pod when it opted out. The API server sends no
/// reviews of pods without Certmint's annotations.
pub(crate) fn samples() -> [Sample; 2] {
    let not_opted_in =
        sample_review().with("/request/object/metadata/annotations", "certmint.dev/inject", "false".into());
    [
        Sample { what: "injected", body: sample_review().json(), injected: true },
        Sample { what: "not opted in", body: not_opted_in.json(), injected: false },
    ]
}

impl Sample {
    /// Returns the pod under review, as JSON.
    fn object(&self) -> Result<String> {
        Ok(serde_json::from_str::<Value>(&self.body)?["request"]["object"].to_string())
    }

    /// Checks that the response has the expected content.
    pub(crate) fn check(&self, answer: &[u8]) -> Result<()> {
        let response = &serde_json::from_slice::<Value>(answer)?["response"];
        let expected = response["allowed"] == true && response["patch"].is_string() == self.injected;
        ensure!(expected, "{}: unexpected response: {response}", self.what);
        Ok(())
    }
}

pub(crate) fn review(run: &Run) -> Result<Vec<Measurement>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let policy = Policy::default();
    // A PEM bundle with one P-256 root has this length.
    let settings = InjectionSettings { trust_bundle: TrustBundle::first("x".repeat(713)), ..settings() };
    let endpoint = endpoint(settings.clone());
    let mut measurements = Vec::new();
    for sample in samples() {
        let body = Bytes::from(sample.body.clone());
        let answer = |body: &Bytes| -> Result<Bytes> {
            let request = Request::builder().method(Method::POST).uri("/mutate");
            let request = request.header("content-type", "application/json").body(body.clone())?;
            Ok(runtime.block_on(endpoint.handle(request)).into_body())
        };
        sample.check(&answer(&body)?)?;
        let review_seconds = seconds_each(run.quick, || drop(black_box(answer(&body))));
        // The floor is the time to read the JSON of the request to its end and to ignore the values. Every review needs
        // this time.
        let floor = seconds_each(run.quick, || {
            drop(black_box(serde_json::from_slice::<IgnoredAny>(&body)));
        });
        let object = sample.object()?;
        let subject = Subject { namespace: "shop", name: None, object: &object, before: None };
        admit_pod(&subject, &policy, &settings)?;
        let patch = seconds_each(run.quick, || drop(black_box(admit_pod(&subject, &policy, &settings))));
        for (what, seconds) in [("review", review_seconds), ("part of the review: the patch", patch)] {
            let measurement =
                Measurement::new("review", format!("{what}, {}", sample.what), seconds * 1e6, "us");
            measurements.push(measurement.compared_with("only reading the review's JSON", floor * 1e6));
        }
    }
    Ok(measurements)
}

fn endpoint(settings: InjectionSettings) -> Endpoint {
    let metrics = Metrics::register(&mut Registry::default(), Arc::new(ServingKeyPair::default()));
    let admission = Admission::new(Policy::default(), metrics);
    admission.set_settings(settings);
    Endpoint(Arc::new(admission))
}
