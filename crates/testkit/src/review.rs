//! Admission reviews for the tests of the webhook and of the injection, and for benchmarks.

use serde_json::{Value, json};

use crate::Object;

/// AdmissionReview as the API server would send it.
#[derive(Clone, Debug, PartialEq)]
pub struct Review(Value);

/// Returns a review of the creation of an object in namespace `shop`.
#[must_use]
pub fn create(object: &Object) -> Review {
    review("CREATE", object, None)
}

/// Returns a review of the change of an object.
#[must_use]
pub fn update(before: &Object, after: &Object) -> Review {
    review("UPDATE", after, Some(before))
}

/// Returns a review of a real pod of 6 kB. It belongs to a Deployment and opts in. It has an init container, two containers
/// and three volumes, and complies with the Pod Security Standard `restricted`.
#[must_use]
pub fn sample_review() -> Review {
    let review = include_str!("../data/admission-review-pod.json");
    let review = Review(serde_json::from_str(review).expect("the sample is JSON"));
    let annotations = "/request/object/metadata/annotations";
    review.with(annotations, "certmint.dev/inject", "true".into()).with(
        annotations,
        "certmint.dev/workload",
        "Deployment/orders".into(),
    )
}

impl Review {
    /// Sets `key` in the map at that JSON pointer.
    #[must_use]
    pub fn with(mut self, map: &str, key: &str, value: Value) -> Self {
        self.0.pointer_mut(map).expect("the map is there")[key] = value;
        self
    }

    /// Returns the body of the request.
    #[must_use]
    pub fn json(&self) -> String {
        self.0.to_string()
    }

    /// Returns the object under review.
    #[must_use]
    pub fn object(&self) -> Object {
        self.0["request"]["object"].clone().into()
    }
}

fn review(operation: &str, object: &Object, before: Option<&Object>) -> Review {
    let value = object.value();
    let (group, version) =
        value["apiVersion"].as_str().and_then(|text| text.split_once('/')).unwrap_or(("", "v1"));
    let kind = json!({"group": group, "version": version, "kind": value["kind"]});
    Review(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind,
            "operation": operation,
            "namespace": "shop",
            "name": value["metadata"]["name"],
            "object": value,
            "oldObject": before.map(Object::value),
            "dryRun": false,
        }
    }))
}
