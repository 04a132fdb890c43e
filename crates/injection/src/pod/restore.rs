//! The restoration of a certmint-fetch container that the pod has already.
//!
//! The webhook restores the fields that protect the key or make the container work. Other changes by other admission
//! controllers stay.

use certmint_contract::pod_layout::ENV_PREFIX;
use serde_json::{Map, Value, json};

use super::mounts::conflict;
use crate::json::contains;
use crate::output::FetchContainer;

type JsonMap = Map<String, Value>;

/// Fields that other admission controllers may change after the first call of the webhook: an image from a mirror or by
/// digest, `imagePullPolicy: Always`, resources that a quota or a LimitRange requires.
const CHANGEABLE: [&str; 3] = ["image", "imagePullPolicy", "resources"];
/// Fields that must be exactly as the webhook writes them, and absent if it does not write them. Another value can keep the
/// container, or the pod, from starting.
const EXACT: [&str; 3] = ["command", "restartPolicy", "startupProbe"];

/// Returns the restored container, or `None` if `found` needs no change.
///
/// `is_reinvocation` is true if the same version of the webhook added the container, so that other admission
/// controllers may have changed it in the meantime.
pub(super) fn restored(
    found: Option<Value>,
    desired: &FetchContainer<'_>,
    is_reinvocation: bool,
) -> Option<Value> {
    let Ok(Value::Object(desired)) = serde_json::to_value(desired) else { return None };
    let Some(Value::Object(mut container)) = found else { return Some(desired.into()) };
    let before = container.clone();
    for field in CHANGEABLE {
        if !(is_reinvocation && container.get(field).is_some_and(is_set)) {
            restore_field(&mut container, field, desired.get(field));
        }
    }
    for field in EXACT {
        restore_field(&mut container, field, desired.get(field));
    }
    // Arguments would change the command.
    restore_field(&mut container, "args", None);
    remove_post_start(&mut container);
    restore_environment(&mut container, list(&desired, "env"));
    restore_mounts(&mut container, list(&desired, "volumeMounts"));
    restore_security(&mut container, desired.get("securityContext"));
    (container != before).then(|| container.into())
}

/// Sets a field to the desired value, unless it has that value already. Removes the field if there is no desired value.
fn restore_field(object: &mut JsonMap, field: &str, desired: Option<&Value>) {
    match (object.get(field), desired) {
        (Some(found), Some(desired)) if contains(found, desired) => {}
        (_, Some(desired)) => drop(object.insert(field.into(), desired.clone())),
        (Some(found), None) if is_set(found) => drop(object.remove(field)),
        (_, None) => {}
    }
}

/// Removes a `postStart` hook. The kubelet restarts a container whose hook fails, and does not delete a pod while a hook
/// runs. A foreign `preStop` hook stays.
fn remove_post_start(container: &mut JsonMap) {
    if let Some(Value::Object(lifecycle)) = container.get_mut("lifecycle") {
        lifecycle.remove("postStart");
        if lifecycle.is_empty() {
            container.remove("lifecycle");
        }
    }
}

/// Restores the variables under Certmint's prefix: each desired variable once, and no others. Foreign variables stay.
fn restore_environment(container: &mut JsonMap, desired: Vec<Value>) {
    let found = list(container, "env");
    let (own, foreign): (Vec<_>, Vec<_>) = found.into_iter().partition(|variable| {
        variable.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with(ENV_PREFIX))
    });
    let is_as_desired = own.len() == desired.len() && desired.iter().all(|variable| own.contains(variable));
    if !is_as_desired {
        container.insert("env".into(), foreign.into_iter().chain(desired).collect());
    }
}

/// Restores the mounts of the injected volumes, and removes foreign mounts at their paths or below. Other mounts stay.
fn restore_mounts(container: &mut JsonMap, desired: Vec<Value>) {
    let found = list(container, "volumeMounts");
    let path = |mount: &Value| mount.get("mountPath").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_whole = |mount: &Value| mount.get("subPath").is_none() && mount.get("subPathExpr").is_none();
    let is_read_only = |mount: &Value| mount.get("readOnly") == Some(&Value::Bool(true));
    let is_own = |mount: &Value| {
        let is_same =
            |desired: &Value| contains(mount, desired) && is_read_only(mount) == is_read_only(desired);
        is_whole(mount) && desired.iter().any(is_same)
    };
    let is_conflicting =
        |mount: &Value| desired.iter().any(|own| conflict(&path(own), &path(mount)).is_some());
    let is_mounted = |own: &Value| found.iter().any(|mount| is_own(mount) && contains(mount, own));
    if desired.iter().all(is_mounted) && found.iter().all(|mount| is_own(mount) || !is_conflicting(mount)) {
        return;
    }
    let foreign = found.iter().filter(|mount| !is_conflicting(mount)).cloned();
    let mounts: Vec<Value> = foreign.chain(desired.iter().cloned()).collect();
    container.insert("volumeMounts".into(), mounts.into());
}

/// Restores a security context that is weaker than the desired security context.
///
/// User and group decide which processes can read the key. Where the webhook leaves them to the platform, the choice of the
/// platform stays, except root.
fn restore_security(container: &mut JsonMap, desired: Option<&Value>) {
    let Some(desired) = desired.and_then(Value::as_object) else { return };
    let mut context = take_object(container, "securityContext");
    for field in ["allowPrivilegeEscalation", "readOnlyRootFilesystem", "runAsNonRoot"] {
        restore_field(&mut context, field, desired.get(field));
    }
    for field in ["runAsUser", "runAsGroup"] {
        let value = desired.get(field);
        if value.is_some() || field == "runAsUser" && context.get(field) == Some(&json!(0)) {
            restore_field(&mut context, field, value);
        }
    }
    let drops_all = list_at(&context, "capabilities", "drop").contains(&json!("ALL"));
    if !drops_all || !list_at(&context, "capabilities", "add").is_empty() {
        context.insert("capabilities".into(), desired.get("capabilities").cloned().unwrap_or_default());
    }
    let kind =
        |context: &JsonMap, field: &str| context.get(field).and_then(|profile| profile.get("type")).cloned();
    if !matches!(kind(&context, "seccompProfile"), Some(Value::String(kind)) if kind != "Unconfined") {
        restore_field(&mut context, "seccompProfile", desired.get("seccompProfile"));
    }
    if kind(&context, "appArmorProfile") == Some(json!("Unconfined")) {
        context.remove("appArmorProfile");
    }
    for (field, harmless) in [("privileged", json!(false)), ("procMount", json!("Default"))] {
        if context.get(field).is_some_and(|found| is_set(found) && *found != harmless) {
            context.remove(field);
        }
    }
    container.insert("securityContext".into(), context.into());
}

/// Returns whether a value is neither `null` nor empty.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn list(object: &JsonMap, field: &str) -> Vec<Value> {
    object.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn list_at(object: &JsonMap, outer: &str, field: &str) -> Vec<Value> {
    object.get(outer).and_then(Value::as_object).map(|outer| list(outer, field)).unwrap_or_default()
}

/// Removes and returns the object in a field. Returns an empty object if the field contains no object.
fn take_object(object: &mut JsonMap, field: &str) -> JsonMap {
    match object.remove(field) {
        Some(Value::Object(taken)) => taken,
        _ => JsonMap::new(),
    }
}
