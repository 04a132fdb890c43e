//! The users who can read the files. The reference documents the mode of each case.

use certmint_contract::Policy;
use certmint_injection::{InjectionSettings, RunAsUser, Subject, admit_pod};
use certmint_testkit::{Object, pod, settings};
use serde_json::{Value, json};

use crate::common::{admit, created, patched};

/// Page of the reference with the table of modes.
const REFERENCE: &str = include_str!("../../../../docs/src/reference/pods.md");

fn pod_with(security: Value, containers: Value) -> Object {
    let pod = pod().annotated("inject", "true");
    pod.with_spec("securityContext", security).with_spec("containers", containers)
}

/// Returns a row of the table: mode of the files, user and group of the certmint-fetch container.
fn row(pod: &Object) -> String {
    let pod = created(pod);
    let container = &pod.value()["spec"]["initContainers"][0];
    let mode = container["env"].as_array().unwrap().iter().find(|env| env["name"] == "CERTMINT_FILE_MODE");
    let context = &container["securityContext"];
    let group = context["runAsGroup"].as_i64().map_or_else(|| "–".to_owned(), |group| group.to_string());
    format!("{} | {} | {group}", mode.unwrap()["value"].as_str().unwrap(), context["runAsUser"])
}

fn user(user: i64) -> Value {
    json!({"runAsUser": user})
}

fn grouped(user: i64) -> Value {
    json!({"runAsUser": user, "runAsGroup": 3000})
}

fn app(security: Value) -> Value {
    json!({"name": "app", "securityContext": security})
}

fn proxy(security: Value) -> Value {
    json!({"name": "proxy", "securityContext": security})
}

#[test]
fn the_reference_has_every_case_with_its_mode() {
    let none = || json!({});
    let bare_root = json!({"runAsUser": 0, "capabilities": {"drop": ["ALL"]}});
    let cases = [
        ("`runAsUser: 1000` in the pod", pod_with(user(1000), json!([app(none())]))),
        ("`runAsUser: 1000` in the container", pod_with(none(), json!([app(user(1000))]))),
        (
            "`runAsUser: 1000`, and `fsGroup: 3000`",
            pod_with(json!({"runAsUser": 1000, "fsGroup": 3000}), json!([app(none())])),
        ),
        ("user 1000 and root", pod_with(none(), json!([app(user(1000)), proxy(user(0))]))),
        (
            "users 1000 and 2000, `fsGroup: 3000`",
            pod_with(json!({"fsGroup": 3000}), json!([app(user(1000)), proxy(user(2000))])),
        ),
        (
            "users 1000 and 2000, both with `runAsGroup: 3000`",
            pod_with(none(), json!([app(grouped(1000)), proxy(grouped(2000))])),
        ),
        (
            "users 1000 and 2000, nothing shared",
            pod_with(none(), json!([app(user(1000)), proxy(user(2000))])),
        ),
        ("user of the image, `fsGroup: 3000`", pod_with(json!({"fsGroup": 3000}), json!([app(none())]))),
        ("user of the image", pod_with(none(), json!([app(none())]))),
        (
            "user of the image, `runAsNonRoot: true`",
            pod_with(json!({"runAsNonRoot": true}), json!([app(none())])),
        ),
        ("`runAsUser: 0`", pod_with(user(0), json!([app(none())]))),
        ("`runAsUser: 0` without capabilities", pod_with(none(), json!([app(bare_root)]))),
    ];
    let rows: Vec<_> = cases.iter().map(|(case, pod)| format!("| {case} | {} |", row(pod))).collect();
    for row in &rows {
        assert!(REFERENCE.contains(row), "docs/src/reference/pods.md lacks the row\n{row}");
    }
    let listed = REFERENCE.lines().filter(|line| line.contains(" | 04")).count();
    assert_eq!(listed, rows.len(), "docs/src/reference/pods.md lists a case that is not tested");
}

#[test]
fn warns_of_root_that_may_become_another_user() {
    let warnings = |pod: &Object| admit(pod, None).unwrap().warnings;
    let message = "certmint: SuspiciousSetting: container \"app\" runs as root; if its application becomes another user, that user cannot read the key: set runAsUser in the pod's securityContext to that user, or fsGroup to its group";
    let root = || app(user(0));
    assert_eq!(warnings(&pod_with(json!({}), json!([root()]))), [message]);
    assert_eq!(warnings(&pod_with(user(0), json!([app(json!({}))]))), [message]);
    assert_eq!(warnings(&pod_with(json!({}), json!([root(), proxy(user(1000))]))), [message]);
    // There is no warning if the group or every user can read the files, if the application cannot become another
    // user, or if it does not get the key.
    let unable = |drop: &str| app(json!({"runAsUser": 0, "capabilities": {"drop": [drop]}}));
    for pod in [
        pod_with(json!({"fsGroup": 999}), json!([root()])),
        pod_with(json!({}), json!([app(json!({}))])),
        pod_with(json!({}), json!([unable("ALL")])),
        pod_with(json!({}), json!([unable("SETUID")])),
        pod_with(json!({}), json!([root(), proxy(user(1000))])).annotated("containers", "proxy"),
    ] {
        assert!(warnings(&pod).is_empty(), "{:?}", warnings(&pod));
    }
}

/// Returns the mode of the files and the user of the certmint-fetch container if the platform chooses the user, as on
/// OpenShift.
fn with_user_of_platform(pod: &Object) -> (String, Value) {
    let settings = InjectionSettings { run_as_user: RunAsUser::Unset, ..settings() };
    let json = pod.json();
    let subject = Subject { namespace: "shop", name: None, object: &json, before: None };
    let injection = admit_pod(&subject, &Policy::default(), &settings).unwrap();
    let pod = patched(pod, &injection);
    let container = &pod.value()["spec"]["initContainers"][0];
    let mode = container["env"].as_array().unwrap().iter().find(|env| env["name"] == "CERTMINT_FILE_MODE");
    (mode.unwrap()["value"].as_str().unwrap().into(), container["securityContext"]["runAsUser"].clone())
}

#[test]
fn the_mode_follows_the_user_of_the_platform() {
    let mode = |pod: &Object| {
        let (mode, user) = with_user_of_platform(pod);
        assert_eq!(user, Value::Null);
        mode
    };
    // The certmint-fetch container runs as the user of the pod, who is the user of the application.
    assert_eq!(mode(&pod_with(user(1000), json!([app(json!({}))]))), "0400");
    // The certmint-fetch container cannot run as the user of the application's container.
    assert_eq!(mode(&pod_with(json!({}), json!([app(user(1000))]))), "0444");
    assert_eq!(mode(&pod_with(json!({"fsGroup": 5}), json!([app(user(1000))]))), "0440");
    assert_eq!(mode(&pod_with(json!({}), json!([app(json!({}))]))), "0444");
    assert_eq!(mode(&pod_with(json!({"fsGroup": 5}), json!([app(json!({}))]))), "0440");
    // The certmint-fetch container would inherit root from the pod.
    assert_eq!(
        with_user_of_platform(&pod_with(user(0), json!([app(json!({}))]))),
        ("0440".into(), json!(65532))
    );
}

#[test]
fn keeps_the_user_of_the_platform() {
    let chosen = 1_000_650_000;
    let platform = |mut pod: Value, user: i64| -> Object {
        for list in ["initContainers", "containers"] {
            for container in pod["spec"][list].as_array_mut().unwrap() {
                container["securityContext"]["runAsUser"] = user.into();
            }
        }
        pod.into()
    };
    let pod = pod_with(json!({}), json!([app(json!({}))]));
    let first = created(&pod);
    assert_eq!(
        with_user_of_platform(&platform(first.value().clone(), chosen)),
        ("0400".into(), chosen.into())
    );
    assert_eq!(with_user_of_platform(&platform(first.value().clone(), 0)).1, Value::Null);
}

#[test]
fn warns_of_users_without_a_common_group() {
    let warnings = |pod: &Object| admit(pod, None).unwrap().warnings;
    let apart = || json!([app(user(2000)), proxy(user(1000))]);
    assert_eq!(
        warnings(&pod_with(json!({}), apart())),
        [
            "certmint: SuspiciousSetting: users 1000, 2000 get the key and share no group, so everyone in their containers can read it; set fsGroup in the pod's securityContext, or name the containers that need it in annotation certmint.dev/containers"
        ]
    );
    assert!(warnings(&pod_with(json!({"fsGroup": 1}), apart())).is_empty());
    assert!(warnings(&pod_with(json!({}), apart()).annotated("containers", "app")).is_empty());
    assert!(warnings(&pod_with(json!({}), json!([app(json!({}))]))).is_empty());
}
