//! A workload under admission, parsed, with its pod template.

use certmint_contract::{WorkloadKind, annotations, keys};
use serde::Deserialize;
use serde::de::Error as _;

use crate::Rejection;
use crate::input::{CronJobSpec, Metadata, Object, WorkloadSpec};
use crate::json::RelevantEntries;

/// Fields of a workload of any kind that matter for its admission.
pub(super) struct ParsedWorkload<'a> {
    pub(super) kind: WorkloadKind,
    pub(super) metadata: Metadata<'a>,
    pub(super) spec: WorkloadSpec<'a>,
}

impl<'a> ParsedWorkload<'a> {
    /// Parses the JSON of an object of that kind.
    pub(super) fn parse(kind: WorkloadKind, object: &'a str) -> Result<Self, Rejection> {
        let object: Object<'a> = parse(kind, object)?;
        let spec = object.spec.map_or("{}", |spec| spec.get());
        let spec = if kind == WorkloadKind::CronJob {
            let spec: CronJobSpec<'a> = parse(kind, spec)?;
            spec.job_template.and_then(|template| template.spec).unwrap_or_default()
        } else {
            parse(kind, spec)?
        };
        // An API server always sends metadata. Without it, a patch could not add a label.
        let missing = || malformed(kind, serde_json::Error::missing_field("metadata"));
        Ok(Self { kind, metadata: object.metadata.ok_or_else(missing)?, spec })
    }

    /// Returns whether another workload controls this object, as a Deployment controls its ReplicaSets and a CronJob its
    /// Jobs. Such an object is not a workload of its own, although the Deployment controller copies annotations to it.
    pub(super) fn is_controlled_by_workload(&self) -> bool {
        self.metadata.is_controlled_by_workload(self.kind)
    }

    /// Returns whether the owner in the template's annotation `workload` is gone (`kubectl delete --cascade=orphan`).
    ///
    /// A new owner of the same name adopts the object, as long as the template does not change. A user who changes
    /// annotations of the object itself makes it a workload of its own.
    pub(super) fn is_orphan(&self, before: Option<&ParsedWorkload<'_>>) -> bool {
        let recorded = self.template_metadata().and_then(|template| template.recorded_owner(self.kind));
        let Some(owner) = recorded.filter(|_| self.metadata.controller().is_none()) else { return false };
        match before {
            Some(before) => self.metadata.annotations == before.metadata.annotations,
            // A restored backup contains ReplicaSets without their owners. Only a Deployment adopts them; a CronJob does
            // not adopt Jobs. The name of such a ReplicaSet begins with the name of its Deployment.
            None => {
                let name = self.metadata.name.as_deref().unwrap_or_default();
                let rest = name.strip_prefix(&*owner.name).unwrap_or_default();
                self.kind == WorkloadKind::ReplicaSet && rest.starts_with('-')
            }
        }
    }

    pub(super) fn template_metadata(&self) -> Option<&Metadata<'a>> {
        self.spec.template.as_ref()?.metadata.as_ref()
    }

    pub(super) fn template_annotation(&self, key: &str) -> Option<&str> {
        self.template_metadata()?.annotation(key)
    }

    pub(super) fn template_label(&self, key: &str) -> Option<&str> {
        self.template_metadata()?.label(key)
    }

    /// Returns the path of a field of the pod template.
    pub(super) fn template_path(&self, field: &'static str) -> Vec<&'static str> {
        let outer: &[&str] = if self.kind == WorkloadKind::CronJob { &["spec", "jobTemplate"] } else { &[] };
        [outer, &["spec", "template", field]].concat()
    }

    /// Returns whether an earlier admission wrote to the template. The annotations `copied` and `workload` show that.
    pub(super) fn is_template_written(&self) -> bool {
        [keys::COPIED, keys::WORKLOAD].iter().any(|key| self.template_annotation(key).is_some())
    }

    /// Returns the user's keys that an earlier admission copied to the template.
    pub(super) fn copied_keys(&self) -> Vec<&'static str> {
        annotations::copied_keys(self.template_annotation(keys::COPIED).unwrap_or_default()).collect()
    }

    /// Returns whether the user wrote `inject: "true"` on the object or on the template.
    pub(super) fn has_opted_in(&self) -> bool {
        let is_by_user = || !self.copied_keys().contains(&keys::INJECT);
        self.metadata.annotation(keys::INJECT) == Some(keys::TRUE)
            || self.template_annotation(keys::INJECT) == Some(keys::TRUE) && is_by_user()
    }

    /// Returns whether Certmint's annotations, including unknown ones, and the pod spec are the same in both states.
    pub(super) fn has_same_options(&self, other: &ParsedWorkload<'_>) -> bool {
        own_annotations(Some(&self.metadata)).eq(own_annotations(Some(&other.metadata)))
            && own_annotations(self.template_metadata()).eq(own_annotations(other.template_metadata()))
            && self.pod_spec() == other.pod_spec()
    }

    pub(super) fn pod_spec(&self) -> Option<&'a str> {
        Some(self.spec.template.as_ref()?.spec?.get())
    }
}

/// Iterates over Certmint's annotations.
fn own_annotations<'a>(metadata: Option<&'a Metadata<'_>>) -> impl Iterator<Item = (&'a str, &'a str)> {
    metadata.and_then(|metadata| metadata.annotations.as_ref()).into_iter().flat_map(RelevantEntries::iter)
}

fn parse<'a, T: Deserialize<'a>>(kind: WorkloadKind, text: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(text).map_err(|why| malformed(kind, why))
}

pub(super) fn malformed(kind: WorkloadKind, why: serde_json::Error) -> Rejection {
    Rejection::Malformed { kind: kind.as_str(), why }
}
