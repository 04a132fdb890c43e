//! The reasons to reject an object. Each message names the object, the cause and the next step.

use certmint_contract::annotations::AnnotationError;
use certmint_contract::object_name::ObjectNameError;
use certmint_contract::pod_layout::{FETCH_BINARY, FETCH_CONTAINER, TLS_VOLUME};
use certmint_contract::{ErrorCode, PolicyViolation, WorkloadRef, keys};

/// Conflict between a mount of the pod and the mount of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountConflict {
    /// Both mounts have the same path.
    #[error("the path of the certificate")]
    SamePath,
    /// The other mount is below the path of the certificate, whose volume has no directory for it.
    #[error("below the path of the certificate")]
    InsidePath,
    /// The other mount is above the path of the certificate and read-only, so that no directory can be created in it.
    #[error("read-only and above the path of the certificate, so that its directory cannot be created")]
    ReadOnlyAbove,
}

/// Reason to reject an object. `kubectl` shows the message.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The object does not have the structure of its kind.
    #[error("the object is not a {kind} as Kubernetes sends it: {why}")]
    Malformed {
        /// Kind that the request names.
        kind: &'static str,
        /// Error of the JSON parser.
        why: serde_json::Error,
    },
    /// The patch cannot be encoded as JSON.
    #[error("the patch cannot be written: {0}; report it")]
    Unwritable(serde_json::Error),
    /// The namespace, the object's name or the name of its Secret is not valid.
    #[error("{0}")]
    Name(#[from] ObjectNameError),
    /// One or more annotations are not valid.
    #[error("{}", join(.0))]
    Annotations(Vec<AnnotationError>),
    /// Certmint's annotations are among the labels.
    #[error(
        "label {0} has no effect, because Certmint reads annotations; move it from labels to annotations"
    )]
    WrittenAsLabel(String),
    /// The policy does not allow the options.
    #[error("{}", join(.0))]
    Policy(Vec<PolicyViolation>),
    /// The pod exists already.
    #[error(
        "a pod cannot be injected after it was created; annotate its workload, or delete the pod and create it with the annotation {}=true",
        keys::INJECT
    )]
    PodTooLate,
    /// The Job exists already, and its pod template is immutable.
    #[error(
        "the pod template of {0} cannot change any more; delete the Job and create it with {key}=true (a CronJob can be annotated at any time)", key = keys::INJECT
    )]
    JobTooLate(WorkloadRef),
    /// The pods of one owner all name the same Secret, although each pod gets its own certificate.
    #[error(
        "annotation {key} is not allowed on the pods of {0}, because each of them gets its own certificate in its own Secret; remove it", key = keys::SECRET_NAME
    )]
    SecretOfManyPods(String),
    /// The pod has no container.
    #[error("the pod has no containers; add at least one")]
    NoContainers,
    /// A foreign container has the name of the certmint-fetch container.
    #[error(
        "the pod has a container named \"{FETCH_CONTAINER}\" that does not run {FETCH_BINARY}; rename it: that name is reserved for the container of Certmint"
    )]
    ContainerName,
    /// The pod sees the processes of its node, so that a signal would reach other pods.
    #[error(
        "annotation {key}: a signal would reach processes of other pods too, because this pod has hostPID: true; reload by http://127.0.0.1:PORT/PATH", key = keys::RELOAD
    )]
    HostProcesses,
    /// The resources in the annotation exceed the resources of the pod as a whole.
    #[error(
        "annotation {key}: {asked} does not fit into the pod's own spec.resources with {allowed}; ask for less, or remove the annotation", key = keys::RESOURCES
    )]
    PodResources {
        /// Amount in the annotation, as in `requests.cpu=50m`.
        asked: String,
        /// Amount of the pod, as in `requests.cpu=100m`.
        allowed: String,
    },
    /// A foreign volume has the name of an injected volume.
    #[error("the pod has a volume named \"{0}\"; rename it: that name is reserved for a volume of Certmint")]
    VolumeName(&'static str),
    /// A mount of the pod conflicts with the mount of the certificate.
    #[error(
        "container \"{container}\" mounts volume \"{volume}\" at {path}, {conflict}; choose another path with annotation {key}", key = keys::MOUNT_PATH
    )]
    MountPath {
        /// Container with the mount.
        container: String,
        /// Volume of the mount.
        volume: String,
        /// Path of the mount.
        path: String,
        /// Kind of the conflict.
        conflict: MountConflict,
    },
    /// The user mounts the volume of the certificate, and not read-only.
    #[error(
        "container \"{container}\" mounts volume \"{TLS_VOLUME}\" at {path} without readOnly: true; add that, or remove the mount, because Certmint adds its own"
    )]
    WritableMount {
        /// Container with the mount.
        container: String,
        /// Path of the mount.
        path: String,
    },
}

impl Rejection {
    /// Returns the stable code of the rejection.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed { .. } | Self::Name(_) => ErrorCode::BadReview,
            Self::Unwritable(_) => ErrorCode::Internal,
            Self::Annotations(errors) => {
                errors.first().map_or(ErrorCode::InvalidAnnotation, AnnotationError::code)
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

fn join(errors: &[impl ToString]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
