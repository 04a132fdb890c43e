//! Calls to the API server. Each call has a deadline, and its error names the call and the object.

use std::future::Future;
use std::time::Duration;

use certmint_contract::{ErrorCode, WorkloadKind};
use kube::api::{ApiResource, PatchParams, PostParams};
use kube::core::{GroupVersionKind, Status};
use kube::{Client, Config};

/// Field manager in `managedFields` of the objects that the controller writes, except the Lease.
pub(crate) const FIELD_MANAGER: &str = "certmint";

/// Time limit for one call. It is shorter than the duration of the Lease, so a call without a response ends before the
/// Lease expires.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Time limit for connecting to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of a call.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call}: {kind}")]
pub(crate) struct ApiError {
    /// Verb and object of the call, as in `get Secret shop/payments-certmint-tls`.
    call: String,
    kind: ApiErrorKind,
}

/// Kind of an [`ApiError`]. Callers distinguish the errors by it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiErrorKind {
    /// Status 404.
    #[error("it does not exist")]
    NotFound,
    /// Status 409 with the reason `AlreadyExists`.
    #[error("it exists already")]
    AlreadyExists,
    /// Status 409 with the reason `Conflict`: the object has changed since it was read.
    #[error("it has changed since it was read")]
    Conflict,
    /// Status 403 from RBAC or another authorizer: the controller lacks a permission.
    #[error("{0}; compare the controller's ClusterRole and Role with the chart's")]
    Forbidden(String),
    /// Status 403 because the namespace has as many objects as its ResourceQuota allows.
    #[error(
        "{0}; raise the namespace's ResourceQuota, or delete objects that it counts and that are not needed"
    )]
    QuotaExceeded(String),
    /// An admission plugin, webhook or policy of the cluster rejected the object.
    #[error(
        "{0}; this is an admission rule of the cluster, not a missing permission: change the rule so that it allows Certmint's objects"
    )]
    AdmissionDenied(String),
    /// Status 403 because the namespace is being deleted, so that no object can be created in it.
    #[error("its namespace is being deleted")]
    NamespaceTerminating,
    /// Any other error status.
    #[error("the API server answered {code}: {message}")]
    Rejected {
        /// HTTP status code.
        code: u16,
        /// Message of the API server.
        message: String,
    },
    /// The call was not sent, because this replica is not the leader.
    #[error(transparent)]
    NotLeading(NotLeading),
    /// Status 429, 503 or 504: the API server is overloaded, or a proxy cannot reach it.
    #[error("the API server is busy; the controller retries")]
    Busy,
    /// There was no response, or the response cannot be read.
    #[error("the API server cannot be reached: {0}; the controller retries")]
    Unreachable(String),
}

/// Error of a write by a replica that is not the leader, or is no longer the leader.
#[derive(Debug, thiserror::Error)]
#[error("this replica does not lead, so it does not write; the leader writes instead")]
pub(crate) struct NotLeading;

impl ApiError {
    /// Returns the kind of the error.
    pub(crate) fn kind(&self) -> &ApiErrorKind {
        &self.kind
    }

    /// Returns the code under which the error is reported.
    pub(crate) fn code(&self) -> ErrorCode {
        match self.kind {
            ApiErrorKind::Forbidden(_) => ErrorCode::MissingPermission,
            ApiErrorKind::QuotaExceeded(_) => ErrorCode::QuotaExceeded,
            ApiErrorKind::AdmissionDenied(_) | ApiErrorKind::Rejected { .. } => ErrorCode::CallRefused,
            ApiErrorKind::NotFound
            | ApiErrorKind::AlreadyExists
            | ApiErrorKind::Conflict
            | ApiErrorKind::NamespaceTerminating
            | ApiErrorKind::NotLeading(_)
            | ApiErrorKind::Busy
            | ApiErrorKind::Unreachable(_) => ErrorCode::Unavailable,
        }
    }
}

/// Creates a client that sends each request once.
///
/// By default kube repeats a request after some seconds if the response has status 429, 503 or 504. The repeated
/// request would not pass through [`fenced`](crate::leadership::fenced), so it could be sent after the end of the
/// leader's term. It would also come in addition to Certmint's own retries.
///
/// # Errors
/// When the configuration cannot be used.
pub(crate) fn client(mut config: Config) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    Client::try_from(config)
}

/// Makes a call, within [`CALL_TIMEOUT`]. `call` names the verb and the object, for the error.
pub(crate) async fn call<T>(
    call: String,
    future: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    let kind = match tokio::time::timeout(CALL_TIMEOUT, future).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => ApiErrorKind::from(error),
        Err(_) => ApiErrorKind::Unreachable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    };
    Err(ApiError { call, kind })
}

/// Returns `None` instead of the error [`ApiErrorKind::NotFound`].
pub(crate) fn optional<T>(result: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind, ApiErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the parameters of a create call, with Certmint's field manager.
pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

/// Returns the parameters of a patch call, with Certmint's field manager.
pub(crate) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// Returns the API resource of a kind of workload.
pub(crate) fn resource(kind: WorkloadKind) -> ApiResource {
    let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.as_str()))
}

impl From<kube::Error> for ApiErrorKind {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(*status),
            // A response that cannot be read may contain a private key. So the error names only the column, no text.
            kube::Error::SerdeError(error) => {
                Self::Unreachable(format!("its answer cannot be read (column {})", error.column()))
            }
            kube::Error::Service(error) => match error.downcast() {
                Ok(not_leading) => Self::NotLeading(*not_leading),
                Err(error) => Self::Unreachable(with_causes(&*error)),
            },
            error => Self::Unreachable(with_causes(&error)),
        }
    }
}

impl From<Status> for ApiErrorKind {
    fn from(status: Status) -> Self {
        if status.is_not_found() {
            Self::NotFound
        } else if status.is_already_exists() {
            Self::AlreadyExists
        } else if status.is_conflict() {
            Self::Conflict
        } else if has_cause(&status, "NamespaceTerminating") {
            Self::NamespaceTerminating
        } else if is_from_admission(&status.message) {
            Self::AdmissionDenied(status.message)
        } else if status.is_forbidden() {
            forbidden(status.message)
        } else if matches!(status.code, 429 | 503 | 504) {
            Self::Busy
        } else {
            Self::Rejected { code: status.code, message: status.message }
        }
    }
}

/// Returns whether a webhook or a ValidatingAdmissionPolicy denied the request. Both choose the status code themselves,
/// so only the message shows who denied the request.
fn is_from_admission(message: &str) -> bool {
    let webhook = message.starts_with("admission webhook ") && message.contains(" denied the request");
    webhook || message.contains(": ValidatingAdmissionPolicy ")
}

/// Returns the kind of an error with status 403. The API server uses one `reason` for all causes, so only the message
/// distinguishes the causes.
fn forbidden(message: String) -> ApiErrorKind {
    // An authorizer writes `secrets is forbidden: User "…" cannot create resource "secrets" in API group "" …` or
    // `forbidden: User "…" cannot get path "/…"`. An admission plugin writes `secrets "NAME" is forbidden: …`.
    let is_from_authorizer =
        message.split_once("forbidden: User ").is_some_and(|(_, rest)| rest.contains(" cannot "));
    if is_from_authorizer || !message.contains("forbidden: ") {
        ApiErrorKind::Forbidden(message)
    } else if message.contains("forbidden: exceeded quota: ") {
        ApiErrorKind::QuotaExceeded(message)
    } else {
        ApiErrorKind::AdmissionDenied(message)
    }
}

fn has_cause(status: &Status, reason: &str) -> bool {
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason))
}

/// Returns the text of an error with all its causes, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
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
    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;

    use super::*;
    use crate::testing::UnavailableApiServer;

    #[tokio::test]
    async fn a_busy_api_server_gets_each_request_once() {
        for status in ["429 Too Many Requests", "503 Service Unavailable", "504 Gateway Timeout"] {
            let server = UnavailableApiServer::start(status).await;
            let secrets = Api::<Secret>::namespaced(client(server.config()).unwrap(), "shop");
            let read = call("get Secret shop/a".into(), secrets.get("a")).await.unwrap_err();
            assert!(matches!(read.kind(), ApiErrorKind::Busy), "{read}");
            let (params, secret) = (post_params(), Secret::default());
            let written = call("create Secret shop/a".into(), secrets.create(&params, &secret));
            let written = written.await.unwrap_err();
            assert!(matches!(written.kind(), ApiErrorKind::Busy), "{written}");
            assert_eq!(server.requests(), ["GET", "POST"], "{status}");
        }
    }

    fn code_of(code: u16, message: &str) -> ErrorCode {
        let reason = if code == 403 { "Forbidden" } else { "" };
        let status = Status { code, message: message.into(), reason: reason.into(), ..Status::default() };
        ApiError { call: "create Secret shop/payments-certmint-tls".into(), kind: ApiErrorKind::from(status) }
            .code()
    }

    #[test]
    fn a_403_is_a_missing_permission_only_from_an_authorizer() {
        for message in [
            r#"secrets is forbidden: User "system:serviceaccount:certmint-system:certmint-controller" cannot create resource "secrets" in API group "" in the namespace "shop""#,
            r#"forbidden: User "system:anonymous" cannot get path "/api""#,
            "Forbidden",
        ] {
            assert_eq!(code_of(403, message), ErrorCode::MissingPermission, "{message}");
        }
        let quota = r#"secrets "payments-certmint-tls" is forbidden: exceeded quota: no-secrets, requested: secrets=1, used: secrets=0, limited: secrets=0"#;
        assert_eq!(code_of(403, quota), ErrorCode::QuotaExceeded);
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
            assert_eq!(code_of(code, message), ErrorCode::CallRefused, "{message}");
        }
    }

    #[test]
    fn a_busy_api_server_is_not_a_rejection() {
        // API Priority and Fairness answers with a plain text, from which the client makes a Status.
        for code in [429, 503, 504] {
            let busy = Status { code, message: "Too many requests".into(), ..Status::default() };
            assert!(matches!(ApiErrorKind::from(busy), ApiErrorKind::Busy));
        }
        let broken =
            Status { code: 500, message: "etcdserver: request timed out".into(), ..Status::default() };
        assert!(matches!(ApiErrorKind::from(broken), ApiErrorKind::Rejected { code: 500, .. }));
    }
}
