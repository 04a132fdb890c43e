//! Calls to the API server: each has a deadline, and its failure says which call on which object it was.

use certmint_contract::{ErrorCode, WorkloadKind};
use kube::{
    Client, Config,
    api::{ApiResource, PatchParams, PostParams},
    core::{GroupVersionKind, Status},
};
use std::{future::Future, time::Duration};

/// Who wrote a field, as `managedFields` tells.
pub(crate) const FIELD_MANAGER: &str = "certmint";

/// The longest a single call may take. The lease is renewed several times within its life at this pace.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// A connection to the API server that is not there within this time is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call}: {fault}")]
pub(crate) struct ApiError {
    /// The verb and the object, as in `get Secret shop/payments-certmint-tls`.
    call: String,
    /// Why.
    fault: Fault,
}

/// Why a call failed, as far as it makes a difference to the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// 404
    #[error("it does not exist")]
    Absent,
    /// 409 AlreadyExists
    #[error("it exists already")]
    Exists,
    /// 409 Conflict: it is not in the state the call was made for.
    #[error("it changed meanwhile")]
    Conflict,
    /// 403 of RBAC or another authorizer: the controller lacks a right.
    #[error("{0}; check the controller's ClusterRole and Role against the chart's")]
    Forbidden(String),
    /// 403, because the namespace has as many objects as its ResourceQuota allows.
    #[error("{0}; raise the namespace's ResourceQuota, or delete what it counts and nobody needs")]
    OverQuota(String),
    /// An admission plugin, webhook or policy of the cluster does not want the object.
    #[error(
        "{0}; this is a rule of the cluster and no lack of rights: whoever wrote it has to except Certmint's objects"
    )]
    NotAdmitted(String),
    /// 403, because of the namespace alone: nothing can be made in it any more.
    #[error("its namespace is being deleted")]
    NamespaceEnds,
    /// Any other answer.
    #[error("the API server answered {code}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The API server's sentence.
        message: String,
    },
    /// Not sent.
    #[error(transparent)]
    NotLeading(NotLeading),
    /// 429, 503, 504: it has too much to do, or what stands before it does not reach it.
    #[error("the API server is busy; this is tried again")]
    Busy,
    /// No answer.
    #[error("the API server cannot be asked: {0}; this is tried again")]
    Unreachable(String),
}

/// Something was to be written by a replica that does not lead, or no longer.
#[derive(Debug, thiserror::Error)]
#[error("this replica does not lead; the one that does sees to it")]
pub(crate) struct NotLeading;

impl ApiError {
    /// Why.
    pub(crate) fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The code it is reported under.
    pub(crate) fn code(&self) -> ErrorCode {
        match self.fault {
            Fault::Forbidden(_) => ErrorCode::MissingPermission,
            Fault::OverQuota(_) => ErrorCode::QuotaExceeded,
            Fault::NotAdmitted(_) | Fault::Refused { .. } => ErrorCode::CallRefused,
            Fault::Absent
            | Fault::Exists
            | Fault::Conflict
            | Fault::NamespaceEnds
            | Fault::NotLeading(_)
            | Fault::Busy
            | Fault::Unreachable(_) => ErrorCode::Unavailable,
        }
    }
}

/// A client that sends each request once. The library would repeat what is answered 429, 503 or 504, seconds later:
/// below the leader's fence, which would not be asked again, and below the waits between our own attempts.
///
/// # Errors
/// When the configuration cannot be used.
pub(crate) fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    Client::try_from(config)
}

/// Makes a call, within [`CALL_TIMEOUT`].
pub(crate) async fn call<T>(
    call: String,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    let fault = match tokio::time::timeout(CALL_TIMEOUT, future).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => Fault::from(error),
        Err(_) => Fault::Unreachable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    };
    Err(ApiError { call, fault })
}

/// Turns "it does not exist" into `None`.
pub(crate) fn optional<T>(result: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.fault, Fault::Absent) => Ok(None),
        Err(error) => Err(error),
    }
}

/// For a creation in our name.
pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

/// For a patch in our name.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// Where the API server has the workloads of a kind.
pub(crate) fn resource(kind: WorkloadKind) -> ApiResource {
    let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.as_str()))
}

impl From<kube::Error> for Fault {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(*status),
            // An answer that cannot be read may hold a key: only the place of the fault is told.
            kube::Error::SerdeError(error) => {
                Self::Unreachable(format!("its answer cannot be read (column {})", error.column()))
            }
            kube::Error::Service(error) => match error.downcast() {
                Ok(not_leading) => Self::NotLeading(*not_leading),
                Err(error) => Self::Unreachable(chain(&*error)),
            },
            error => Self::Unreachable(chain(&error)),
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        if status.is_not_found() {
            Self::Absent
        } else if status.is_already_exists() {
            Self::Exists
        } else if status.is_conflict() {
            Self::Conflict
        } else if has_cause(&status, "NamespaceTerminating") {
            Self::NamespaceEnds
        } else if is_of_admission(&status.message) {
            Self::NotAdmitted(status.message)
        } else if status.is_forbidden() {
            forbidden(status.message)
        } else if matches!(status.code, 429 | 503 | 504) {
            Self::Busy
        } else {
            Self::Refused { code: status.code, message: status.message }
        }
    }
}

/// Whether a webhook or a ValidatingAdmissionPolicy denied the request. They choose the status code themselves.
fn is_of_admission(message: &str) -> bool {
    let webhook = message.starts_with("admission webhook ") && message.contains(" denied the request");
    webhook || message.contains(": ValidatingAdmissionPolicy ")
}

/// What a 403 is about. The API server gives all of them the same reason, so only its sentence tells.
fn forbidden(message: String) -> Fault {
    // `secrets is forbidden: User "…" cannot create resource "secrets" in API group "" …`, `forbidden: User "…" cannot
    // get path "/…"`: what comes before a plugin's words is `secrets "NAME" is forbidden: ` as well.
    let of_rights = message.split_once("forbidden: User ").is_some_and(|(_, rest)| rest.contains(" cannot "));
    if of_rights || !message.contains("forbidden: ") {
        Fault::Forbidden(message)
    } else if message.contains("forbidden: exceeded quota: ") {
        Fault::OverQuota(message)
    } else {
        Fault::NotAdmitted(message)
    }
}

fn has_cause(status: &Status, reason: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason))
}

/// An error with all its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::RefusingServer;
    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;

    #[tokio::test]
    async fn what_is_refused_for_the_moment_is_sent_once() {
        for status in ["429 Too Many Requests", "503 Service Unavailable", "504 Gateway Timeout"] {
            let server = RefusingServer::start(status).await;
            let secrets = Api::<Secret>::namespaced(client(server.config()).unwrap(), "shop");
            let read = call("get Secret shop/a".into(), secrets.get("a")).await.unwrap_err();
            assert!(matches!(read.fault(), Fault::Busy), "{read}");
            let (params, secret) = (post_params(), Secret::default());
            let written = call("create Secret shop/a".into(), secrets.create(&params, &secret));
            let written = written.await.unwrap_err();
            assert!(matches!(written.fault(), Fault::Busy), "{written}");
            assert_eq!(server.requests(), ["GET", "POST"], "{status}");
        }
    }

    fn refused(code: u16, message: &str) -> ErrorCode {
        let reason = if code == 403 { "Forbidden" } else { "" };
        let status = Status { code, message: message.into(), reason: reason.into(), ..Status::default() };
        ApiError { call: "create Secret shop/payments-certmint-tls".into(), fault: Fault::from(status) }
            .code()
    }

    #[test]
    fn a_403_is_a_lack_of_rights_only_when_the_api_server_says_so() {
        for message in [
            r#"secrets is forbidden: User "system:serviceaccount:certmint-system:certmint-controller" cannot create resource "secrets" in API group "" in the namespace "shop""#,
            r#"forbidden: User "system:anonymous" cannot get path "/api""#,
            "Forbidden",
        ] {
            assert_eq!(refused(403, message), ErrorCode::MissingPermission, "{message}");
        }
        let quota = r#"secrets "payments-certmint-tls" is forbidden: exceeded quota: no-secrets, requested: secrets=1, used: secrets=0, limited: secrets=0"#;
        assert_eq!(refused(403, quota), ErrorCode::QuotaExceeded);
        for (code, message) in [
            (403, r#"pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2"#),
            (403, r#"secrets "x" is forbidden: error looking up service account shop/default"#),
            (
                403,
                r#"admission webhook "secrets.example.com" denied the request: User x cannot have secrets"#,
            ),
            (400, r#"admission webhook "secrets.example.com" denied the request: not here"#),
            (
                422,
                r#"secrets "x" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'few' denied request: no more"#,
            ),
        ] {
            assert_eq!(refused(code, message), ErrorCode::CallRefused, "{message}");
        }
    }

    #[test]
    fn an_api_server_that_is_busy_refuses_nothing() {
        // Priority and fairness answers with words, not with a Status; the client makes one of them.
        for code in [429, 503, 504] {
            let busy = Status { code, message: "Too many requests".into(), ..Status::default() };
            assert!(matches!(Fault::from(busy), Fault::Busy));
        }
        let broken =
            Status { code: 500, message: "etcdserver: request timed out".into(), ..Status::default() };
        assert!(matches!(Fault::from(broken), Fault::Refused { code: 500, .. }));
    }
}
