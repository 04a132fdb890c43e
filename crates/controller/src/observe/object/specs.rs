//! Fields of specs and statuses that the controller reads when it converts watched objects.

use certmint_planner::{PodHost, Replicas};
use serde::{Deserialize, Deserializer};

use crate::observe::metadata::{BoundedEntries, CertmintAnnotations};

/// Status of a pod or a Job.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) phase: String,
    #[serde(deserialize_with = "null_is_default")]
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Spec of a workload that has a pod template.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TemplateSpec {
    pub(super) template: Template,
}

/// Spec of a CronJob.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct CronJobSpec {
    pub(super) job_template: JobTemplate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct JobTemplate {
    pub(super) spec: TemplateSpec,
}

/// Pod template of a workload.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Template {
    pub(super) metadata: TemplateMetadata,
    pub(super) spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TemplateMetadata {
    pub(super) labels: BoundedEntries,
    pub(super) annotations: CertmintAnnotations,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    service_account_name: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) subdomain: Option<String>,
}

/// Fields of a StatefulSet's or Job's spec that decide how its pods are named.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReplicaSpec {
    replicas: Option<i32>,
    service_name: Option<String>,
    ordinals: Option<Ordinals>,
    completions: Option<u32>,
    completion_mode: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ordinals {
    start: i32,
}

impl Status {
    /// Returns whether the condition of this type is true.
    pub(super) fn has(&self, condition_type: &str) -> bool {
        self.conditions.iter().any(|condition| condition.kind == condition_type && condition.status == "True")
    }
}

impl PodSpec {
    /// Returns the service account. Without one in the spec, the API server fills in `default`.
    pub(super) fn service_account(&self) -> &str {
        self.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// Returns the host name of the pods below a headless Service, if the spec has a hostname and a subdomain.
    pub(super) fn host(&self) -> Option<PodHost> {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty()).map(Into::into);
        Some(PodHost { hostname: text(&self.hostname)?, subdomain: text(&self.subdomain)? })
    }
}

impl ReplicaSpec {
    /// Returns the numbered pods of a StatefulSet; `None` if it has no governing Service.
    pub(super) fn of_stateful_set(self) -> Option<Replicas> {
        let start = self.ordinals.map_or(0, |ordinals| ordinals.start).try_into().unwrap_or(0_u32);
        let count = self.replicas.unwrap_or(1).try_into().unwrap_or(0_u32);
        let governing_service = self.service_name.filter(|name| !name.is_empty())?.into();
        Some(Replicas { governing_service, ordinals: start..start.saturating_add(count) })
    }

    /// Returns the numbered pods of a Job whose template has this subdomain; `None` without a subdomain, or if the Job
    /// is not Indexed.
    pub(super) fn of_job(&self, subdomain: Option<&str>) -> Option<Replicas> {
        let is_indexed = self.completion_mode.as_deref() == Some("Indexed");
        let governing_service = subdomain.filter(|name| is_indexed && !name.is_empty())?.into();
        Some(Replicas { governing_service, ordinals: 0..self.completions.unwrap_or(1) })
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
