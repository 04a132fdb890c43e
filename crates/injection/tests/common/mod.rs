//! What every test here needs: settings, and an admission followed by its patch.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use certmint_contract::{Policy, WorkloadKind};
use certmint_injection::{
    ContainerResources, Injection, Patch, Refusal, Settings, Subject, admit_pod, admit_workload,
};
use certmint_testkit::Object;
use serde_json::Value;

pub(crate) fn settings() -> Settings {
    Settings {
        image: "registry.example.com/certmint-fetch:1".into(),
        pull_policy: "IfNotPresent".into(),
        api_url: "https://certmint-controller.certmint-system.svc:8443".into(),
        trust_bundle: "-----BEGIN CERTIFICATE-----\n".into(),
        resources: ContainerResources {
            cpu_request: "5m".parse().unwrap(),
            memory_request: "8Mi".parse().unwrap(),
            cpu_limit: "200m".parse().unwrap(),
            memory_limit: "32Mi".parse().unwrap(),
            guaranteed_cpu: "50m".parse().unwrap(),
        },
        deadline_seconds: 30,
        version: "certmint/1.0.0".into(),
    }
}

pub(crate) fn admit(object: &Object, before: Option<&Object>) -> Result<Injection, Refusal> {
    let (json, before) = (object.json(), before.map(Object::json));
    let subject = Subject { namespace: "shop", name: None, object: &json, before: before.as_deref() };
    let kind: WorkloadKind = object.value()["kind"].as_str().unwrap().parse().unwrap();
    match kind {
        WorkloadKind::Pod => admit_pod(&subject, &Policy::default(), &settings()),
        kind => admit_workload(kind, &subject, &Policy::default(), &settings()),
    }
}

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

/// Admits a new object and returns it as patched.
pub(crate) fn created(object: &Object) -> Object {
    patched(object, &admit(object, None).unwrap())
}
