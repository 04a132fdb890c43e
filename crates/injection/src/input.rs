//! The fields of Kubernetes objects that the webhook reads, borrowed from the text of the object.

use certmint_contract::ownership::{TEMPLATE_HASH_LABEL, controlling_workload, workload_of_pod};
use certmint_contract::{WorkloadKind, WorkloadRef, keys};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::json::{List, RelevantEntries, Text, WithSource};

/// Object of any kind, with its `spec` as text.
#[derive(Debug, Deserialize)]
pub(crate) struct Object<'a> {
    #[serde(borrow)]
    pub(crate) metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    pub(crate) spec: Option<&'a RawValue>,
}

/// `metadata` of an object. A map is `None` if the object lacks it; then a patch must create the map.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata<'a> {
    #[serde(borrow)]
    pub(crate) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) labels: Option<RelevantEntries<'a>>,
    #[serde(borrow)]
    pub(crate) annotations: Option<RelevantEntries<'a>>,
    #[serde(borrow)]
    owner_references: Option<List<OwnerReference<'a>>>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnerReference<'a> {
    #[serde(borrow)]
    pub(crate) api_version: Text<'a>,
    #[serde(borrow)]
    pub(crate) kind: Text<'a>,
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    controller: Option<bool>,
}

impl<'a> Metadata<'a> {
    /// Returns the owner that controls the object.
    pub(crate) fn controller(&self) -> Option<&OwnerReference<'a>> {
        self.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))
    }

    /// Returns whether a workload controls this object, which has the kind `kind`. Such an object is not a workload of
    /// its own.
    pub(crate) fn is_controlled_by_workload(&self, kind: WorkloadKind) -> bool {
        let owner = self.controller();
        owner.is_some_and(|owner| controlling_workload(kind, &owner.api_version, &owner.kind).is_some())
    }

    /// Returns the workload that controls a pod with this metadata. Returns `None` for a standalone pod.
    pub(crate) fn workload_of_pod(&self) -> Option<WorkloadRef> {
        let owner = self.controller()?;
        let (hash, recorded) = (self.label(TEMPLATE_HASH_LABEL), self.recorded_workload());
        workload_of_pod(&owner.api_version, &owner.kind, &owner.name, hash, recorded.as_ref())
    }

    /// Returns the owner in the annotation `workload` of a template, if an object of the kind `kind` can have such an
    /// owner. Other owners are ignored, because users copy templates between workloads.
    pub(crate) fn recorded_owner(&self, kind: WorkloadKind) -> Option<WorkloadRef> {
        let is_possible = |owner: &WorkloadRef| {
            controlling_workload(kind, owner.kind.api_version(), owner.kind.as_str()).is_some()
        };
        self.recorded_workload().filter(is_possible)
    }

    /// Returns the workload in the annotation `workload`, which the webhook writes.
    fn recorded_workload(&self) -> Option<WorkloadRef> {
        self.annotation(keys::WORKLOAD)?.parse().ok()
    }

    pub(crate) fn is_being_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key)
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key)
    }
}

/// `spec` of a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkloadSpec<'a> {
    #[serde(borrow)]
    pub(crate) template: Option<Object<'a>>,
    #[serde(borrow)]
    update_strategy: Option<UpdateStrategy<'a>>,
}

#[derive(Debug, Deserialize)]
struct UpdateStrategy<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
}

impl WorkloadSpec<'_> {
    /// Returns whether `updateStrategy` is `OnDelete`.
    pub(crate) fn updates_on_delete(&self) -> bool {
        self.update_strategy.as_ref().and_then(|strategy| strategy.kind.as_deref()) == Some("OnDelete")
    }
}

/// `spec` of a CronJob.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CronJobSpec<'a> {
    #[serde(borrow)]
    pub(crate) job_template: Option<JobTemplate<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct JobTemplate<'a> {
    #[serde(borrow)]
    pub(crate) spec: Option<WorkloadSpec<'a>>,
}

/// `spec` of a pod or pod template.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec<'a> {
    #[serde(borrow)]
    pub(crate) volumes: Option<List<WithSource<'a, Volume<'a>>>>,
    #[serde(borrow)]
    pub(crate) init_containers: Option<List<WithSource<'a, Container<'a>>>>,
    #[serde(borrow)]
    pub(crate) containers: Option<List<Container<'a>>>,
    #[serde(borrow)]
    pub(crate) service_account_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) security_context: Option<SecurityContext<'a>>,
    #[serde(borrow)]
    pub(crate) dns_policy: Option<Text<'a>>,
    pub(crate) automount_service_account_token: Option<bool>,
    pub(crate) host_network: Option<bool>,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: Option<bool>,
    pub(crate) share_process_namespace: Option<bool>,
    /// Resources of the pod as a whole (KEP-2837).
    #[serde(borrow)]
    pub(crate) resources: Option<Resources<'a>>,
    #[serde(borrow)]
    os: Option<Os<'a>>,
    #[serde(borrow)]
    node_selector: Option<NodeSelector<'a>>,
}

impl PodSpec<'_> {
    /// Returns whether the pod is for Windows nodes.
    pub(crate) fn is_windows(&self) -> bool {
        let selected = self.node_selector.as_ref().and_then(|selector| selector.os.as_deref());
        self.os.as_ref().map(|os| &*os.name).or(selected) == Some("windows")
    }
}

#[derive(Debug, Deserialize)]
struct Os<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Debug, Deserialize)]
struct NodeSelector<'a> {
    #[serde(borrow, rename = "kubernetes.io/os")]
    os: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Volume<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) command: Option<List<Text<'a>>>,
    #[serde(borrow)]
    pub(crate) volume_mounts: Option<List<VolumeMount<'a>>>,
    #[serde(borrow)]
    pub(crate) security_context: Option<SecurityContext<'a>>,
    #[serde(borrow)]
    pub(crate) resources: Option<Resources<'a>>,
    #[serde(borrow)]
    restart_policy: Option<Text<'a>>,
}

impl Container<'_> {
    /// Returns whether an init container is a native sidecar (KEP-753).
    pub(crate) fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }

    pub(crate) fn requests(&self) -> Option<&Quantities<'_>> {
        self.resources.as_ref()?.requests.as_ref()
    }

    pub(crate) fn limits(&self) -> Option<&Quantities<'_>> {
        self.resources.as_ref()?.limits.as_ref()
    }

    /// Returns whether CPU and memory have limits, and requests of the same amount. Without a request, the limit is the
    /// request.
    pub(crate) fn is_guaranteed(&self) -> bool {
        let Some(Resources { limits: Some(limits), requests }) = &self.resources else { return false };
        let requests = requests.as_ref();
        limits.cpu.as_deref().is_some_and(|cpu| {
            requests.and_then(|requests| requests.cpu.as_deref()).is_none_or(|requested| requested == cpu)
        }) && limits.memory.as_deref().is_some_and(|memory| {
            requests
                .and_then(|requests| requests.memory.as_deref())
                .is_none_or(|requested| requested == memory)
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeMount<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) mount_path: Text<'a>,
    pub(crate) read_only: Option<bool>,
    #[serde(borrow)]
    sub_path: Option<Text<'a>>,
    #[serde(borrow)]
    sub_path_expr: Option<Text<'a>>,
}

impl VolumeMount<'_> {
    /// Returns whether the mount shows the whole volume and not a sub path.
    pub(crate) fn is_whole(&self) -> bool {
        let is_empty = |path: &Option<Text<'_>>| path.as_deref().unwrap_or_default().is_empty();
        is_empty(&self.sub_path) && is_empty(&self.sub_path_expr)
    }
}

/// `securityContext` of a pod (with `fsGroup`) or of a container (with `capabilities`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecurityContext<'a> {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) fs_group: Option<i64>,
    #[serde(borrow)]
    capabilities: Option<Capabilities<'a>>,
}

impl SecurityContext<'_> {
    /// Returns whether the container drops CAP_DAC_OVERRIDE. Without this capability, even root reads a file only if
    /// the file mode permits it (capabilities(7)).
    pub(crate) fn drops_dac_override(&self) -> bool {
        self.drops("DAC_OVERRIDE")
    }

    /// Returns whether the container drops CAP_SETUID. Without this capability, root cannot become another user
    /// (capabilities(7)).
    pub(crate) fn drops_setuid(&self) -> bool {
        self.drops("SETUID")
    }

    fn drops(&self, capability: &str) -> bool {
        let drop = self.capabilities.as_ref().and_then(|capabilities| capabilities.drop.as_deref());
        drop.unwrap_or_default().iter().any(|name| **name == *"ALL" || **name == *capability)
    }
}

#[derive(Debug, Deserialize)]
struct Capabilities<'a> {
    #[serde(borrow)]
    drop: Option<List<Text<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Resources<'a> {
    #[serde(borrow)]
    pub(crate) limits: Option<Quantities<'a>>,
    #[serde(borrow)]
    pub(crate) requests: Option<Quantities<'a>>,
}

/// Amounts of resources. The API server writes quantities in a canonical form, so that equal amounts are equal texts.
#[derive(Debug, Deserialize)]
pub(crate) struct Quantities<'a> {
    #[serde(borrow)]
    pub(crate) cpu: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) memory: Option<Text<'a>>,
    #[serde(borrow, rename = "ephemeral-storage")]
    pub(crate) ephemeral_storage: Option<Text<'a>>,
}
