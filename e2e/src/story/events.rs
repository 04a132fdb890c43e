//! Events, which tell people what became of their workload.

use anyhow::Result;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};

use super::PATIENCE;

/// Waits until there is such an Event about the object (`Kind/name`) whose note `wanted` is content with, and returns the
/// note.
///
/// # Errors
/// When there is none in time; the error has what was told of the object instead.
pub fn await_told(
    kubectl: &Kubectl<'_>,
    object: &str,
    reason: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<String> {
    wait::until(&format!("an Event {reason} on {object}"), PATIENCE, || {
        let told = told(kubectl, object)?;
        let found = told.iter().find(|(why, note)| why == reason && wanted(note));
        Ok(match found {
            Some((_, note)) => Observed::Yes(note.clone()),
            None => Observed::NotYet(format!("{told:?}")),
        })
    })
}

/// Reason and note of every Event about the object.
fn told(kubectl: &Kubectl<'_>, object: &str) -> Result<Vec<(String, String)>> {
    let events = kubectl.list(&["events.v1.events.k8s.io"])?;
    let told = events.iter().filter_map(|event| {
        let regarding = &event["regarding"];
        let name = format!("{}/{}", regarding["kind"].as_str()?, regarding["name"].as_str()?);
        let (reason, note) = (event["reason"].as_str()?, event["note"].as_str()?);
        (name == object).then(|| (reason.to_owned(), note.to_owned()))
    });
    Ok(told.collect())
}
