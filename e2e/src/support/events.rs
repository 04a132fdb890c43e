//! Kubernetes Events about an object.

use anyhow::Result;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};

/// Waits for an Event with this reason about the object (`Kind/name`) whose note `accepts` accepts, and returns the
/// note.
///
/// # Errors
/// When there is no such Event in time. The error lists the Events about the object.
pub fn wait_for_event(
    kubectl: &Kubectl<'_>,
    object: &str,
    reason: &str,
    accepts: impl Fn(&str) -> bool,
) -> Result<String> {
    wait::until(&format!("an Event {reason} on {object}"), DEFAULT_TIMEOUT, || {
        let events = events_about(kubectl, object)?;
        let found = events.iter().find(|event| event.reason == reason && accepts(&event.note));
        Ok(match found {
            Some(event) => Check::Passed(event.note.clone()),
            None => Check::NotYet(format!("{events:?}")),
        })
    })
}

/// Reason and note of an Event.
#[derive(Debug)]
struct EventText {
    reason: String,
    note: String,
}

/// Returns the Events about the object (`Kind/name`).
fn events_about(kubectl: &Kubectl<'_>, object: &str) -> Result<Vec<EventText>> {
    let events = kubectl.list(&["events.v1.events.k8s.io"])?;
    let texts = events.iter().filter_map(|event| {
        let regarding = &event["regarding"];
        let name = format!("{}/{}", regarding["kind"].as_str()?, regarding["name"].as_str()?);
        let (reason, note) = (event["reason"].as_str()?, event["note"].as_str()?);
        (name == object).then(|| EventText { reason: reason.to_owned(), note: note.to_owned() })
    });
    Ok(texts.collect())
}
