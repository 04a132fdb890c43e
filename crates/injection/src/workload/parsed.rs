//! A workload as admission reads it: what it asks for, and where.

use crate::Rejection;
use crate::input::{CronJobSpec, Metadata, Object, WorkloadSpec};
use crate::json::OwnEntries;
use crate::patch::KeyChange;
use certmint_contract::{WorkloadKind, annotations, keys};
use serde::Deserialize;
use serde::de::Error as _;

/// What decides about a workload, whatever its kind.
pub(super) struct Workload<'a> {
    pub(super) kind: WorkloadKind,
    pub(super) metadata: Metadata<'a>,
    pub(super) spec: WorkloadSpec<'a>,
}

/// What shall stand on the template, key by key of the user's.
#[derive(Default)]
pub(super) struct Copies<'a> {
    pub(super) wishes: Vec<KeyChange<'a>>,
    /// What goes away again on opting out.
    pub(super) listed: Vec<&'static str>,
    /// Of those, what stood on the template with another value.
    pub(super) overridden: Vec<&'static str>,
}

impl<'a> Workload<'a> {
    pub(super) fn read(kind: WorkloadKind, object: &'a str) -> Result<Self, Rejection> {
        let object: Object<'a> = parse(kind, object)?;
        let spec = object.spec.map_or("{}", |spec| spec.get());
        let spec = if kind == WorkloadKind::CronJob {
            let spec: CronJobSpec<'a> = parse(kind, spec)?;
            spec.job_template.and_then(|template| template.spec).unwrap_or_default()
        } else {
            parse(kind, spec)?
        };
        // Without it there is no place for a label; an API server always sends it.
        let missing = || malformed(kind, serde_json::Error::missing_field("metadata"));
        Ok(Self { kind, metadata: object.metadata.ok_or_else(missing)?, spec })
    }

    /// A Deployment's ReplicaSets and a CronJob's Jobs are not workloads of their own, though the
    /// Deployment controller copies annotations to its ReplicaSets.
    pub(super) fn is_controlled_by_workload(&self) -> bool {
        self.metadata.is_controlled_by_workload(self.kind)
    }

    /// Whether the owner that the template is stamped for is gone (`kubectl delete --cascade=orphan`). A new owner of
    /// that name takes the object over, as long as the template is what it was. Whoever changes the object's own
    /// annotations makes it a workload of its own.
    pub(super) fn is_orphan(&self, before: Option<&Workload<'_>>) -> bool {
        let stamped = self.template_metadata().and_then(|template| template.stamped_owner(self.kind));
        let Some(owner) = stamped.filter(|_| self.metadata.controller().is_none()) else { return false };
        match before {
            Some(before) => self.metadata.annotations == before.metadata.annotations,
            // A backup brings a ReplicaSet back without its owner. Only its Deployment takes it over: a CronJob does
            // not take over Jobs.
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

    /// Whether an earlier admission has written the template.
    pub(super) fn is_stamped(&self) -> bool {
        [keys::COPIED, keys::WORKLOAD].iter().any(|key| self.template_annotation(key).is_some())
    }

    pub(super) fn template_path(&self, last: &'static str) -> Vec<&'static str> {
        let outer: &[&str] = if self.kind == WorkloadKind::CronJob { &["spec", "jobTemplate"] } else { &[] };
        [outer, &["spec", "template", last]].concat()
    }

    /// The user's keys that an earlier admission copied to the template.
    pub(super) fn copied(&self) -> Vec<&'static str> {
        annotations::copied_keys(self.template_annotation(keys::COPIED).unwrap_or_default()).collect()
    }

    /// Whether `inject` is true on the object, or on the template by the user's own hand.
    pub(super) fn opted_in(&self) -> bool {
        let own = || !self.copied().contains(&keys::INJECT);
        self.metadata.annotation(keys::INJECT) == Some(keys::TRUE)
            || self.template_annotation(keys::INJECT) == Some(keys::TRUE) && own()
    }

    /// The object's keys win over the template's. What stands on the template alike without having been
    /// copied is the user's own and stays theirs.
    pub(super) fn copies(&self) -> Copies<'_> {
        let copied = self.copied();
        let mut copies = Copies::default();
        for key in keys::USER_KEYS {
            let (mine, was_copied) = (self.template_annotation(key), copied.contains(&key));
            // "false" on the object does not undo what the user wrote on the template.
            let wanted =
                self.metadata.annotation(key).filter(|value| key != keys::INJECT || *value != "false");
            match wanted {
                Some(wanted) if mine == Some(wanted) && !was_copied => {}
                Some(wanted) => {
                    copies.wishes.push((key, Some(wanted.into())));
                    copies.listed.push(key);
                    if mine.is_some() && !was_copied {
                        copies.overridden.push(key);
                    }
                }
                None if was_copied => copies.wishes.push((key, None)),
                None => {}
            }
        }
        copies
    }

    /// The annotations under our prefix as they will be on the template, and what is unknown on either.
    pub(super) fn effective<'b>(&'b self, copies: &'b Copies<'_>) -> Vec<(&'b str, &'b str)> {
        let untouched = |key: &str| copies.wishes.iter().all(|(wished, _)| *wished != key);
        let template = self.template_metadata().and_then(|metadata| metadata.annotations.as_ref());
        let own = template.into_iter().flat_map(OwnEntries::iter).filter(|(key, _)| untouched(key));
        let wished = copies.wishes.iter().filter_map(|(key, wish)| Some((*key, wish.as_deref()?)));
        let object = self.metadata.annotations.iter().flat_map(OwnEntries::iter);
        let unknown = object.filter(|(key, _)| !keys::USER_KEYS.contains(key));
        own.chain(wished).chain(unknown).collect()
    }

    /// Whether our annotations, unknown ones included, and the pods are what they were.
    pub(super) fn asks_the_same(&self, other: &Workload<'_>) -> bool {
        self.asked().eq(other.asked()) && self.pod_spec() == other.pod_spec()
    }

    /// Our annotations: the object's, then the template's.
    fn asked(&self) -> impl Iterator<Item = (bool, (&str, &str))> {
        let object = self.metadata.annotations.iter().flat_map(OwnEntries::iter);
        let template = self.template_metadata().and_then(|metadata| metadata.annotations.as_ref());
        let template = template.into_iter().flat_map(OwnEntries::iter);
        object.map(|entry| (false, entry)).chain(template.map(|entry| (true, entry)))
    }

    pub(super) fn pod_spec(&self) -> Option<&'a str> {
        Some(self.spec.template.as_ref()?.spec?.get())
    }
}

fn parse<'a, T: Deserialize<'a>>(kind: WorkloadKind, text: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(text).map_err(|why| malformed(kind, why))
}

pub(super) fn malformed(kind: WorkloadKind, why: serde_json::Error) -> Rejection {
    Rejection::Malformed { kind: kind.as_str(), why }
}
