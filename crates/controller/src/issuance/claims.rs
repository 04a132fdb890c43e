//! Claims of a token, which the API server has not confirmed yet.
//!
//! With the claims, the controller rejects a token that cannot be valid before it calls the API server, and shares the
//! slots among pods.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use certmint_contract::ErrorCode;
use certmint_contract::issuance::{AUDIENCE, Failure};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

use super::response::unauthenticated;

/// Maximum time by which the API server's clock may be behind this replica's. Within this time, the API server decides
/// whether a token has expired.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::minutes(5);

/// Pod that a token claims to be bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClaimedPod {
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Payload {
    aud: Audiences,
    exp: f64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<KubernetesClaim>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct KubernetesClaim {
    namespace: String,
    pod: Option<ObjectClaim>,
    serviceaccount: Option<ObjectClaim>,
}

#[derive(Deserialize)]
struct ObjectClaim {
    name: String,
    uid: String,
}

/// Reads the pod from a token that may be valid: a JWT for Certmint's audience that is bound to a pod and has not
/// expired.
pub(super) fn claimed_pod(token: &str, now: OffsetDateTime) -> Result<ClaimedPod, Failure> {
    let not_a_jwt = || unauthenticated("the token is not a JWT: send the pod's projected token");
    let mut parts = token.split('.');
    let (Some(head), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(not_a_jwt());
    };
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| not_a_jwt())?;
    if head.is_empty() || signature.is_empty() {
        return Err(not_a_jwt());
    }
    let payload: Payload = serde_json::from_slice(&decoded).map_err(|_| not_a_jwt())?;
    let is_for_certmint = match &payload.aud {
        Audiences::One(audience) => audience == AUDIENCE,
        Audiences::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
    };
    if !is_for_certmint {
        return Err(unauthenticated("the token is not for audience certmint.dev"));
    }
    if payload.exp < (now - MAX_CLOCK_DIFFERENCE).unix_timestamp() as f64 {
        // This replica's clock may be wrong. So the failure is transient: the pod retries, perhaps at another replica.
        let message = "the token has expired by the clock of this replica; retry";
        return Err(Failure::new(ErrorCode::Unavailable, message));
    }
    let bound =
        payload.kubernetes.and_then(|claim| Some((claim.namespace, claim.pod?, claim.serviceaccount?)));
    let Some((namespace, pod, account)) = bound else {
        return Err(not_bound_to_pod());
    };
    if [&namespace, &pod.name, &pod.uid, &account.name, &account.uid].iter().any(|part| part.is_empty()) {
        return Err(not_bound_to_pod());
    }
    Ok(ClaimedPod { namespace, name: pod.name })
}

/// Returns the failure for a token without a pod, for instance a token that is bound to a service account only.
pub(super) fn not_bound_to_pod() -> Failure {
    unauthenticated("the token is not bound to a pod: use a projected token")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::clock;

    /// Returns a pod's token as the API server makes it, except for the signature.
    pub(crate) fn token(change: impl FnOnce(&mut Value)) -> String {
        let mut payload = json!({
            "iss": "https://kubernetes.default.svc.cluster.local", "aud": [AUDIENCE],
            "exp": clock::now().unix_timestamp() + 3600, "sub": "system:serviceaccount:shop:default",
            "kubernetes.io": {
                "namespace": "shop",
                "node": { "name": "n", "uid": "n-1" },
                "pod": { "name": "payments-1-x", "uid": "p-1" },
                "serviceaccount": { "name": "default", "uid": "a-1" },
            },
        });
        change(&mut payload);
        let [head, payload] = ["{\"alg\":\"RS256\"}".to_owned(), payload.to_string()];
        let encode = |part: String| BASE64_URL_SAFE_NO_PAD.encode(part);
        format!("{}.{}.{}", encode(head), encode(payload), encode("signature".to_owned()))
    }

    fn rejection(token: &str) -> String {
        let failure = claimed_pod(token, clock::now()).unwrap_err();
        assert_eq!(failure.code, ErrorCode::Unauthenticated);
        failure.message
    }

    #[test]
    fn a_projected_token_names_its_pod() {
        let pod = claimed_pod(&token(|_| {}), clock::now()).unwrap();
        assert_eq!((&*pod.namespace, &*pod.name), ("shop", "payments-1-x"));
        assert!(claimed_pod(&token(|payload| payload["aud"] = AUDIENCE.into()), clock::now()).is_ok());
    }

    #[test]
    fn rejects_tokens_that_cannot_be_valid() {
        let good = token(|_| {});
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        for text in
            ["abc", "a.b.c", &format!("{good}.x"), unsigned, &format!("{unsigned}."), "..", "e30.e30.x"]
        {
            assert!(rejection(text).contains("not a JWT"), "{text}");
        }
        assert!(rejection(&token(|payload| payload["aud"] = json!(["vault"]))).contains("not for audience"));
        assert!(
            rejection(&token(|payload| payload["kubernetes.io"] = Value::Null))
                .contains("not bound to a pod")
        );
        let without_pod = |payload: &mut Value| payload["kubernetes.io"]["pod"] = Value::Null;
        assert!(rejection(&token(without_pod)).contains("not bound to a pod"));
    }

    #[test]
    fn an_expired_token_is_a_transient_failure() {
        let failure = claimed_pod(&token(|payload| payload["exp"] = 1.into()), clock::now()).unwrap_err();
        assert!(failure.code.is_transient() && failure.message.contains("expired"), "{failure}");
    }

    #[test]
    fn accepts_a_token_that_has_just_expired() {
        let a_minute_ago = clock::now().unix_timestamp() - 60;
        assert!(claimed_pod(&token(|payload| payload["exp"] = a_minute_ago.into()), clock::now()).is_ok());
    }
}
