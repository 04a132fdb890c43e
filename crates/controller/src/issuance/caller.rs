//! Caller of the issuance API: the pod that the token is bound to, as the API server confirms it.

use std::collections::HashMap;

use certmint_contract::issuance::{self, AUDIENCE, Failure};
use certmint_contract::{ErrorCode, Namespace};
use http::{HeaderMap, HeaderValue, header};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ObjectMeta, PostParams};
use kube::core::Request;
use kube::{Api, Client, Resource};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::claims::not_bound_to_pod;
use super::response::{unauthenticated, unavailable};
use crate::api;

/// Pod that has proved its identity with a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) namespace: Namespace,
    pub(super) service_account: String,
    pub(super) pod_name: String,
    pub(super) pod_uid: String,
}

/// Response to a TokenReview. The API server repeats the token in the response, but this type leaves it out.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewResponse {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    extra: HashMap<String, Vec<String>>,
}

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Returns the token of a request.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<&str, Failure> {
    issuance::bearer_token(headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes))
        .ok_or_else(|| {
            unauthenticated("send the pod's projected token once, as \"Authorization: Bearer ...\"")
        })
}

impl Caller {
    /// Returns the pod that a token is bound to, after the API server has reviewed the token for Certmint's audience.
    pub(super) async fn of_token(client: &Client, token: &str) -> Result<Self, Failure> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": { "token": token, "audiences": [AUDIENCE] },
        });
        let response = api::call("have the API server review a token".into(), async {
            let request = Request::new(TokenReview::url_path(&(), None));
            let request = request.create(&PostParams::default(), review.to_string().into_bytes());
            // The typed client would log a response that it cannot read, with the token in it.
            let text = client.request_text(request.map_err(kube::Error::BuildRequest)?).await?;
            serde_json::from_str::<ReviewResponse>(&Zeroizing::new(text)).map_err(kube::Error::SerdeError)
        });
        Self::from_review(response.await.map_err(|error| unavailable(&error))?.status)
    }

    fn from_review(status: ReviewStatus) -> Result<Self, Failure> {
        if !status.authenticated || !status.audiences.iter().any(|audience| audience == AUDIENCE) {
            return Err(unauthenticated(
                "the token has expired, or is not a pod's token for audience certmint.dev",
            ));
        }
        let extra = |key| status.user.extra.get(key).and_then(|values| values.first()).cloned();
        let account =
            status.user.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        let caller = account.zip(extra(POD_NAME)).zip(extra(POD_UID));
        let Some((((namespace, service_account), pod_name), pod_uid)) = caller else {
            return Err(not_bound_to_pod());
        };
        let namespace =
            namespace.parse().map_err(|_| unauthenticated("its namespace is not a valid name"))?;
        Ok(Self { namespace, service_account: service_account.into(), pod_name, pod_uid })
    }

    /// Reads the pod's metadata. Fails when the pod is gone or is being deleted.
    pub(super) async fn pod(&self, client: &Client) -> Result<ObjectMeta, Failure> {
        let pods = Api::<Pod>::namespaced(client.clone(), self.namespace.as_str());
        let call = format!("get Pod {}/{}", self.namespace, self.pod_name);
        let found = api::optional(api::call(call, pods.get_metadata(&self.pod_name)).await);
        let found = found.map_err(|error| unavailable(&error))?.map(|pod| pod.metadata);
        let is_alive =
            |pod: &ObjectMeta| pod.uid.as_deref() == Some(&*self.pod_uid) && pod.deletion_timestamp.is_none();
        found.filter(is_alive).ok_or_else(|| {
            let message =
                format!("Pod {}/{} is being deleted or no longer exists", self.namespace, self.pod_name);
            Failure::new(ErrorCode::PodGone, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(change: impl FnOnce(&mut serde_json::Value)) -> Result<Caller, ErrorCode> {
        let mut status = json!({
            "authenticated": true, "audiences": [AUDIENCE],
            "user": {
                "username": "system:serviceaccount:shop:payments",
                "extra": { (POD_NAME): ["payments-0"], (POD_UID): ["u-1"] },
            },
        });
        change(&mut status);
        Caller::from_review(serde_json::from_value(status).unwrap()).map_err(|failure| failure.code)
    }

    #[test]
    fn a_token_bound_to_a_pod_names_pod_and_account() {
        let caller = review(|_| {}).unwrap();
        assert_eq!((caller.namespace.as_str(), &*caller.service_account), ("shop", "payments"));
        assert_eq!((&*caller.pod_name, &*caller.pod_uid), ("payments-0", "u-1"));
    }

    #[test]
    fn rejects_every_other_token() {
        let rejected = Err(ErrorCode::Unauthenticated);
        assert_eq!(review(|status| status["authenticated"] = false.into()), rejected);
        assert_eq!(
            review(|status| status["audiences"] = json!(["https://kubernetes.default.svc"])),
            rejected
        );
        assert_eq!(review(|status| status["audiences"] = json!([])), rejected);
        assert_eq!(review(|status| status["user"]["username"] = "admin".into()), rejected);
        assert_eq!(review(|status| status["user"]["extra"] = json!({})), rejected);
        assert_eq!(review(|status| *status = json!({})), rejected);
    }

    #[test]
    fn rejects_requests_without_exactly_one_bearer_token() {
        let mut headers = HeaderMap::new();
        assert!(bearer_token(&headers).is_err());
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(bearer_token(&headers).unwrap(), "abc");
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer def"));
        assert_eq!(bearer_token(&headers).unwrap_err().code, ErrorCode::Unauthenticated);
    }
}
