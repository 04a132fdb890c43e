//! Our container when it is in the pod already: what protects the key and makes the container work is restored, and
//! whatever else other admission controllers changed stays.

use super::mounts::conflict;
use crate::json::holds;
use crate::output::FetchContainer;
use certmint_contract::pod_layout::ENV_PREFIX;
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// What other admission controllers decide once we have put the container there: an image from a mirror or by digest,
/// `imagePullPolicy: Always`, resources that a quota or a LimitRange demands.
const LEFT_TO_OTHERS: [&str; 3] = ["image", "imagePullPolicy", "resources"];
/// What must be exactly as we say, down to its absence: each of them can keep the container, or the pod, from starting.
const EXACT: [&str; 3] = ["command", "restartPolicy", "startupProbe"];

/// The container as it shall be, from what was `found`; `None` when that is so already. `reinvoked` says that the
/// container was put there by us, in the same version, and may have been changed by others since.
pub(super) fn restored(found: Option<Value>, desired: &FetchContainer<'_>, reinvoked: bool) -> Option<Value> {
    let Ok(Value::Object(desired)) = serde_json::to_value(desired) else { return None };
    let Some(Value::Object(mut container)) = found else { return Some(desired.into()) };
    let before = container.clone();
    for field in LEFT_TO_OTHERS {
        if !(reinvoked && container.get(field).is_some_and(is_something)) {
            restore_field(&mut container, field, desired.get(field));
        }
    }
    for field in EXACT {
        restore_field(&mut container, field, desired.get(field));
    }
    // Arguments would follow our command.
    restore_field(&mut container, "args", None);
    remove_post_start(&mut container);
    restore_environment(&mut container, list(&desired, "env"));
    restore_mounts(&mut container, list(&desired, "volumeMounts"));
    restore_security(&mut container, desired.get("securityContext"));
    (container != before).then(|| container.into())
}

/// Brings a field to what is desired, unless it says that already.
fn restore_field(object: &mut Object, field: &str, desired: Option<&Value>) {
    match (object.get(field), desired) {
        (Some(found), Some(desired)) if holds(found, desired) => {}
        (_, Some(desired)) => drop(object.insert(field.into(), desired.clone())),
        (Some(found), None) if is_something(found) => drop(object.remove(field)),
        (_, None) => {}
    }
}

/// The kubelet restarts a container whose `postStart` hook fails, and deletes no pod while one runs. Ours has none.
/// Somebody else's `preStop` stays.
fn remove_post_start(container: &mut Object) {
    if let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") {
        lifecycle.remove("postStart");
        if lifecycle.is_empty() {
            container.remove("lifecycle");
        }
    }
}

/// Variables under our prefix are ours, each once, and no others; the rest is somebody else's and stays.
fn restore_environment(container: &mut Object, desired: Vec<Value>) {
    let found = list(container, "env");
    let (ours, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|variable| {
        variable.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with(ENV_PREFIX))
    });
    let is_as_desired = ours.len() == desired.len() && desired.iter().all(|wanted| ours.contains(wanted));
    if !is_as_desired {
        container.insert("env".into(), others.into_iter().chain(desired).collect());
    }
}

/// Our mounts, and nothing of others at their places or inside them; the rest is somebody else's and stays.
fn restore_mounts(container: &mut Object, desired: Vec<Value>) {
    let found = list(container, "volumeMounts");
    let path = |mount: &Value| mount.get("mountPath").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_whole = |mount: &Value| mount.get("subPath").is_none() && mount.get("subPathExpr").is_none();
    let is_read_only = |mount: &Value| mount.get("readOnly") == Some(&Value::Bool(true));
    let is_ours = |mount: &Value| {
        let same = |wanted: &Value| holds(mount, wanted) && is_read_only(mount) == is_read_only(wanted);
        is_whole(mount) && desired.iter().any(same)
    };
    let is_in_the_way =
        |mount: &Value| desired.iter().any(|wanted| conflict(&path(wanted), &path(mount)).is_some());
    let is_there = |wanted: &Value| found.iter().any(|mount| is_ours(mount) && holds(mount, wanted));
    if desired.iter().all(is_there) && found.iter().all(|mount| is_ours(mount) || !is_in_the_way(mount)) {
        return;
    }
    let others = found.iter().filter(|mount| !is_in_the_way(mount)).cloned();
    let mounts: Vec<Value> = others.chain(desired.iter().cloned()).collect();
    container.insert("volumeMounts".into(), mounts.into());
}

/// Not weaker than ours. Which user and group run decides who can read the key; where we leave them to the platform,
/// what it chose stays, but for root.
fn restore_security(container: &mut Object, desired: Option<&Value>) {
    let Some(desired) = desired.and_then(Value::as_object) else { return };
    let mut context = take_object(container, "securityContext");
    for field in ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "runAsNonRoot"] {
        restore_field(&mut context, field, desired.get(field));
    }
    for field in ["runAsUser", "runAsGroup"] {
        let wanted = desired.get(field);
        if wanted.is_some() || field == "runAsUser" && context.get(field) == Some(&json!(0)) {
            restore_field(&mut context, field, wanted);
        }
    }
    let drops_all = list_at(&context, "capabilities", "drop").contains(&json!("ALL"));
    if !drops_all || !list_at(&context, "capabilities", "add").is_empty() {
        context.insert("capabilities".into(), desired.get("capabilities").cloned().unwrap_or_default());
    }
    let kind =
        |context: &Object, field: &str| context.get(field).and_then(|profile| profile.get("type")).cloned();
    if !matches!(kind(&context, "seccompProfile"), Some(Value::String(kind)) if kind != "Unconfined") {
        restore_field(&mut context, "seccompProfile", desired.get("seccompProfile"));
    }
    if kind(&context, "appArmorProfile") == Some(json!("Unconfined")) {
        context.remove("appArmorProfile");
    }
    for (field, harmless) in [("privileged", json!(false)), ("procMount", json!("Default"))] {
        if context.get(field).is_some_and(|found| is_something(found) && *found != harmless) {
            context.remove(field);
        }
    }
    container.insert("securityContext".into(), context.into());
}

/// Neither `null` nor empty.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn list(object: &Object, field: &str) -> Vec<Value> {
    object.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn list_at(object: &Object, outer: &str, field: &str) -> Vec<Value> {
    object.get(outer).and_then(Value::as_object).map(|outer| list(outer, field)).unwrap_or_default()
}

/// The object at that field, empty when there is none, to be put back changed.
fn take_object(object: &mut Object, field: &str) -> Object {
    match object.remove(field) {
        Some(Value::Object(taken)) => taken,
        _ => Object::new(),
    }
}
