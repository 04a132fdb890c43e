//! Pod or pod template that gets the certmint-fetch container, with the settings that the injection depends on.

use certmint_contract::annotations::Renew;
use certmint_contract::{DnsName, Namespace, Reload, WorkloadOptions, WorkloadRef, keys};

use super::readers::{self, FileReaders};
use crate::input::{Container, Metadata, PodSpec};
use crate::{InjectionSettings, RunAsUser};

/// Pod or pod template that gets the certmint-fetch container.
pub(crate) struct InjectionTarget<'a> {
    pub(crate) spec: &'a PodSpec<'a>,
    pub(crate) options: &'a WorkloadOptions,
    pub(crate) namespace: &'a Namespace,
    pub(crate) cluster_domain: &'a DnsName,
    pub(crate) settings: &'a InjectionSettings,
    /// Workload whose certificate the pod gets, if it is known.
    pub(crate) workload: Option<&'a WorkloadRef>,
    /// Metadata of a pod. A template, which is only checked, has none.
    pub(crate) metadata: Option<&'a Metadata<'a>>,
}

impl InjectionTarget<'_> {
    /// Returns whether the pod's label and annotation say that this version of the webhook has injected it already.
    ///
    /// The API server calls the webhook again when other admission controllers have changed the pod after the first
    /// call. A copy of an injected pod has the same label and annotation.
    pub(super) fn is_reinvocation(&self) -> bool {
        self.metadata.is_some_and(|metadata| {
            metadata.label(keys::INJECTED) == Some(keys::TRUE)
                && metadata.annotation(keys::INJECTED_BY) == Some(self.settings.version.as_str())
        })
    }

    /// Returns the users who read the files. `existing` is the certmint-fetch container that the pod has already.
    pub(super) fn readers(&self, existing: Option<&Container<'_>>) -> FileReaders {
        let readers = FileReaders::of(self.spec, &self.options.containers);
        match self.settings.run_as_user {
            RunAsUser::Set => readers,
            RunAsUser::Unset => {
                let chosen = existing.and_then(|existing| existing.security_context.as_ref()?.run_as_user);
                readers.with_writer(chosen.or(readers::pod_user(self.spec)), self.spec)
            }
        }
    }

    /// Returns whether the reload hook would signal processes of other pods. A signal by name reaches every visible process
    /// of that name. With `hostPID`, the processes of the whole node are visible.
    pub(super) fn would_signal_other_pods(&self) -> bool {
        let signals = matches!(self.options.reload, Some(Reload::Signal { .. }));
        self.spec.host_pid == Some(true) && signals && self.options.renew == Renew::Sidecar
    }
}
