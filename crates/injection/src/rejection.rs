//! Why an object is not admitted: the object, the cause, the next step.

use certmint_contract::annotations::AnnotationError;
use certmint_contract::object_name::ObjectNameError;
use certmint_contract::pod_layout::{FETCH_BINARY, FETCH_CONTAINER, TLS_VOLUME};
use certmint_contract::{ErrorCode, PolicyViolation, WorkloadRef, keys};

/// How another mount meets the certificate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountConflict {
    /// Both are at one place.
    #[error("where the certificate belongs")]
    SamePath,
    /// The other is further down, where the certificate's volume has no mount point for it.
    #[error("inside the certificate's own place")]
    InsidePath,
    /// The other is further up, and nothing can be made in it for the certificate's volume to be mounted on.
    #[error("read-only and above the certificate's place, so that there is no directory to mount it on")]
    ReadOnlyAbove,
}

/// Why an object is refused. The sentence is what `kubectl` shows.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The object is not what its kind says.
    #[error("the object is not a {kind} as Kubernetes sends it: {why}")]
    Malformed {
        /// The kind it should be.
        kind: &'static str,
        /// What the JSON reader met.
        why: serde_json::Error,
    },
    /// The patch has no JSON form.
    #[error("the patch cannot be written: {0}; report it")]
    Unwritable(serde_json::Error),
    /// The namespace or the object's name is none.
    #[error("{0}")]
    Name(#[from] ObjectNameError),
    /// One or more annotations are wrong.
    #[error("{}", joined(.0))]
    Annotations(Vec<AnnotationError>),
    /// What belongs into annotations stands among the labels.
    #[error("label {0} does nothing, because Certmint reads annotations; move it from labels to annotations")]
    WrittenAsLabel(String),
    /// The policy does not allow what is asked for.
    #[error("{}", joined(.0))]
    Policy(Vec<PolicyViolation>),
    /// The pod runs already.
    #[error(
        "a pod cannot be injected after it was created; annotate its workload, or delete the pod and create it with the annotation {}=true",
        keys::INJECT
    )]
    PodTooLate,
    /// The Job's template can no longer change.
    #[error(
        "the pod template of {0} cannot change any more; delete the Job and create it with {key}=true (a CronJob can be annotated at any time)", key = keys::INJECT
    )]
    JobTooLate(WorkloadRef),
    /// The pods of one owner want one Secret, and each has a certificate of its own.
    #[error(
        "annotation {key} cannot stand on the pods of {0}, because each of them gets a certificate of its own in a Secret of its own; remove it", key = keys::SECRET_NAME
    )]
    SecretOfManyPods(String),
    /// There is nothing to inject into.
    #[error("the pod has no containers; add at least one")]
    NoContainers,
    /// Somebody else's container has our name.
    #[error(
        "the pod has a container named \"{FETCH_CONTAINER}\" that does not run {FETCH_BINARY}; rename it: that name is for the injected one"
    )]
    ContainerName,
    /// A signal would reach other pods.
    #[error(
        "annotation {key}: a signal would reach processes of other pods too, because this pod has hostPID: true; reload by http://127.0.0.1:PORT/PATH", key = keys::RELOAD
    )]
    HostProcesses,
    /// What the injected container is to ask for is more than the pod has.
    #[error(
        "annotation {key}: {asked} does not fit into the pod's own spec.resources with {allowed}; ask for less, or remove the annotation", key = keys::RESOURCES
    )]
    PodResources {
        /// As in the annotation: `requests.cpu=50m`.
        asked: String,
        /// As in the pod: `requests.cpu=100m`.
        allowed: String,
    },
    /// Somebody else's volume has our name.
    #[error("the pod has a volume named \"{0}\"; rename it: that name is for an injected one")]
    VolumeName(&'static str),
    /// The place of the certificate is taken, or cannot be mounted.
    #[error(
        "container \"{container}\" mounts volume \"{volume}\" at {path}, {conflict}; choose another place with annotation {key}", key = keys::MOUNT_PATH
    )]
    MountPath {
        /// Whose mount it is.
        container: String,
        /// What is mounted there.
        volume: String,
        /// Where.
        path: String,
        /// How the two places meet.
        conflict: MountConflict,
    },
    /// The pod mounts the certificate's volume by its own hand, and not read-only.
    #[error(
        "container \"{container}\" mounts volume \"{TLS_VOLUME}\" at {path} without readOnly: true; add that, or remove the mount, because Certmint adds its own"
    )]
    WritableMount {
        /// Whose mount it is.
        container: String,
        /// Where.
        path: String,
    },
}

impl Rejection {
    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed { .. } | Self::Name(_) => ErrorCode::BadReview,
            Self::Unwritable(_) => ErrorCode::Internal,
            Self::Annotations(faults) => {
                faults.first().map_or(ErrorCode::InvalidAnnotation, AnnotationError::code)
            }
            Self::WrittenAsLabel(_) => ErrorCode::WrittenAsLabel,
            Self::Policy(_) => ErrorCode::NotAllowed,
            Self::SecretOfManyPods(_) => ErrorCode::InvalidAnnotation,
            Self::PodTooLate | Self::JobTooLate(_) => ErrorCode::TooLate,
            Self::NoContainers
            | Self::ContainerName
            | Self::HostProcesses
            | Self::PodResources { .. }
            | Self::VolumeName(_)
            | Self::MountPath { .. }
            | Self::WritableMount { .. } => ErrorCode::PodConflict,
        }
    }
}

fn joined(faults: &[impl ToString]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
