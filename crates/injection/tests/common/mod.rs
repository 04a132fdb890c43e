//! Functions that admit an object and apply the patch.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use certmint_contract::{Policy, WorkloadKind};
use certmint_injection::{Injection, Patch, Rejection, Subject, admit_pod, admit_workload};
use certmint_testkit::{Object, settings};
use serde_json::Value;

/// Admits an object. `before` is its former state in an update.
pub(crate) fn admit(object: &Object, before: Option<&Object>) -> Result<Injection, Rejection> {
    let (json, before) = (object.json(), before.map(Object::json));
    let subject = Subject { namespace: "shop", name: None, object: &json, before: before.as_deref() };
    let kind: WorkloadKind = object.value()["kind"].as_str().unwrap().parse().unwrap();
    match kind {
        WorkloadKind::Pod => admit_pod(&subject, &Policy::default(), &settings()),
        kind => admit_workload(kind, &subject, &Policy::default(), &settings()),
    }
}

/// Applies the patch of an injection.
pub(crate) fn patched(object: &Object, injection: &Injection) -> Object {
    let mut value: Value = object.value().clone();
    json_patch::patch(&mut value, &operations(&injection.patch)).unwrap();
    value.into()
}

pub(crate) fn operations(patch: &Patch) -> json_patch::Patch {
    if patch.is_empty() {
        return json_patch::Patch::default();
    }
    serde_json::from_slice(patch.json()).unwrap()
}

/// Admits a new object and applies the patch.
pub(crate) fn created(object: &Object) -> Object {
    patched(object, &admit(object, None).unwrap())
}
