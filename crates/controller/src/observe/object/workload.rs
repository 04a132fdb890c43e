//! Reads watched objects as workloads.

use std::collections::BTreeMap;

use certmint_contract::{OptIn, WorkloadKind, WorkloadRef, annotations, keys};
use certmint_planner::Workload;
use time::OffsetDateTime;

use super::specs::{CronJobSpec, ReplicaSpec, Template, TemplateMetadata, TemplateSpec};
use super::{Unreadable, WatchedObject, is_controlled_by_workload};
use crate::observe::metadata::{BoundedEntries, CertmintAnnotations};

impl WatchedObject {
    /// Reads the object as a workload. Returns `None` for an object that another workload controls, and for one that
    /// has finished and so no longer uses a certificate.
    pub(crate) fn workload(&self, kind: WorkloadKind) -> Result<Option<Workload>, Unreadable> {
        if is_controlled_by_workload(kind, &self.metadata) || self.is_finished(kind)? {
            return Ok(None);
        }
        self.read_workload(kind).map(Some)
    }

    /// Reads the object as a workload that opted out; `None` if it did not opt out. A finished workload can opt out
    /// too, and then it does not want its Secret.
    pub(crate) fn opted_out(&self, kind: WorkloadKind) -> Result<Option<Workload>, Unreadable> {
        if is_controlled_by_workload(kind, &self.metadata) {
            return Ok(None);
        }
        let workload = self.read_workload(kind)?;
        Ok((workload.opt_in == Ok(OptIn::No)).then_some(workload))
    }

    /// Returns whether the workload's pod template has the annotation that opts its pods in. The workload's own
    /// annotations do not count.
    pub(crate) fn template_is_injected(&self, kind: WorkloadKind) -> bool {
        let template = self.template(kind).unwrap_or_default();
        template.metadata.annotations.0.get(keys::INJECT).is_some_and(|value| value == keys::TRUE)
    }

    /// Returns whether the object is a pod or Job that has ended for good.
    pub(super) fn is_finished(&self, kind: WorkloadKind) -> Result<bool, Unreadable> {
        Ok(match kind {
            WorkloadKind::Pod => matches!(&*self.status()?.phase, "Succeeded" | "Failed"),
            WorkloadKind::Job => {
                let status = self.status()?;
                status.has("Complete") || status.has("Failed")
            }
            _ => false,
        })
    }

    fn read_workload(&self, kind: WorkloadKind) -> Result<Workload, Unreadable> {
        let (namespace, name) = self.namespace_and_name()?;
        self.check_length()?;
        let template = self.template(kind)?;
        let spec: ReplicaSpec = self.spec()?;
        let replicas = match kind {
            WorkloadKind::StatefulSet => spec.of_stateful_set(),
            WorkloadKind::Job => spec.of_job(template.spec.subdomain.as_deref()),
            _ => None,
        };
        // Kubernetes overwrites the hostname of numbered pods, so the template's hostname does not count there.
        let host = if replicas.is_none() { template.spec.host() } else { None };
        Ok(Workload {
            reference: WorkloadRef::new(kind, name),
            namespace,
            uid: self.uid().into(),
            created: self.created(),
            service_account: template.spec.service_account().into(),
            opt_in: annotations::parse(self.effective_annotations(&template.metadata.annotations.0)),
            template_labels: template.metadata.labels.into(),
            replicas,
            host,
        })
    }

    /// Merges the annotations of the pod template and the workload. The workload's own take precedence.
    ///
    /// Annotations that the webhook copied to the template do not count: when the user removes the workload's own
    /// annotation, a copy may stay, because the template of a Job cannot change.
    fn effective_annotations<'a>(
        &'a self,
        of_template: &'a BTreeMap<String, String>,
    ) -> BTreeMap<&'a str, &'a str> {
        let copied = of_template.get(keys::COPIED).map(String::as_str).unwrap_or_default();
        let copied: Vec<&str> = annotations::copied_keys(copied).collect();
        let written = of_template.iter().filter(|(key, _)| !copied.contains(&key.as_str()));
        let own = self.metadata.annotations.iter().flatten();
        written.chain(own).map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    fn created(&self) -> Option<OffsetDateTime> {
        let created = self.metadata.creation_timestamp.as_ref()?;
        OffsetDateTime::from_unix_timestamp(created.0.as_second()).ok()
    }

    fn template(&self, kind: WorkloadKind) -> Result<Template, Unreadable> {
        match kind {
            // A pod has no template, so its own metadata and spec are used instead.
            WorkloadKind::Pod => {
                let kept = self.metadata.labels.clone().unwrap_or_default();
                let labels = BoundedEntries { kept, is_cut: self.labels_cut };
                let metadata = TemplateMetadata { labels, annotations: CertmintAnnotations::default() };
                Ok(Template { metadata, spec: self.spec()? })
            }
            WorkloadKind::CronJob => Ok(self.spec::<CronJobSpec>()?.job_template.spec.template),
            WorkloadKind::Deployment
            | WorkloadKind::StatefulSet
            | WorkloadKind::DaemonSet
            | WorkloadKind::ReplicaSet
            | WorkloadKind::Job => Ok(self.spec::<TemplateSpec>()?.template),
        }
    }
}
