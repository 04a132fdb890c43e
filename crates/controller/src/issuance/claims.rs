//! What a token says of itself. Nobody has vouched for it yet: it serves to turn away what cannot be good without
//! asking the API server, and to share turns among pods.

use super::{caller::unauthenticated, refusal::failure};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use certmint_contract::{
    ErrorCode,
    issuance::{AUDIENCE, Failure},
};
use serde::Deserialize;
use time::{Duration, OffsetDateTime};

/// How far the API server's clock, which judges in the end, may be behind ours.
const SLACK: Duration = Duration::minutes(5);

/// The pod that a token claims to be bound to.
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
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Option<Object>,
    serviceaccount: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    uid: String,
}

/// Reads the pod from a token that may be good: three parts, for us, not expired, bound to a pod.
pub(super) fn claimed_pod(token: &str, now: OffsetDateTime) -> Result<ClaimedPod, Failure> {
    let no_jwt = || unauthenticated("the token is not a JWT: send the pod's projected token");
    let mut parts = token.split('.');
    let (Some(head), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(no_jwt());
    };
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| no_jwt())?;
    if head.is_empty() || signature.is_empty() {
        return Err(no_jwt());
    }
    let payload: Payload = serde_json::from_slice(&decoded).map_err(|_| no_jwt())?;
    let is_ours = match &payload.aud {
        Audiences::One(audience) => audience == AUDIENCE,
        Audiences::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
    };
    if !is_ours {
        return Err(unauthenticated("the token is not for audience certmint.dev"));
    }
    if payload.exp < (now - SLACK).unix_timestamp() as f64 {
        // Or our clock is wrong: then the pod has to ask elsewhere, or later, and not to give up.
        let message = "the token has expired by the clock of this replica; ask again";
        return Err(failure(ErrorCode::Unavailable, message.into()));
    }
    let bound = payload.kubernetes.and_then(|of| Some((of.namespace, of.pod?, of.serviceaccount?)));
    let Some((namespace, pod, account)) = bound else {
        return Err(not_bound());
    };
    if [&namespace, &pod.name, &pod.uid, &account.name, &account.uid].iter().any(|part| part.is_empty()) {
        return Err(not_bound());
    }
    Ok(ClaimedPod { namespace, name: pod.name })
}

/// The refusal of a token of a service account alone.
pub(super) fn not_bound() -> Failure {
    unauthenticated("the token is not bound to a pod: use a projected token")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::clock;
    use serde_json::{Value, json};

    /// A token of a pod as the API server makes them, signed by nobody.
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

    fn why(token: &str) -> String {
        let refused = claimed_pod(token, clock::now()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unauthenticated);
        refused.message
    }

    #[test]
    fn a_projected_token_names_its_pod() {
        let pod = claimed_pod(&token(|_| {}), clock::now()).unwrap();
        assert_eq!((&*pod.namespace, &*pod.name), ("shop", "payments-1-x"));
        assert!(claimed_pod(&token(|payload| payload["aud"] = AUDIENCE.into()), clock::now()).is_ok());
    }

    #[test]
    fn what_cannot_be_good_is_refused_with_its_fault() {
        let good = token(|_| {});
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        for text in
            ["abc", "a.b.c", &format!("{good}.x"), unsigned, &format!("{unsigned}."), "..", "e30.e30.x"]
        {
            assert!(why(text).contains("not a JWT"), "{text}");
        }
        assert!(why(&token(|payload| payload["aud"] = json!(["vault"]))).contains("not for audience"));
        assert!(why(&token(|payload| payload["kubernetes.io"] = Value::Null)).contains("not bound to a pod"));
        let without_pod = |payload: &mut Value| payload["kubernetes.io"]["pod"] = Value::Null;
        assert!(why(&token(without_pod)).contains("not bound to a pod"));
    }

    #[test]
    fn a_token_that_has_expired_is_no_reason_to_give_up_because_the_clock_may_be_wrong() {
        let refused = claimed_pod(&token(|payload| payload["exp"] = 1.into()), clock::now()).unwrap_err();
        assert!(refused.code.is_transient() && refused.message.contains("expired"), "{refused}");
    }

    #[test]
    fn a_token_that_has_just_expired_is_for_the_api_server_to_judge() {
        let lately = clock::now().unix_timestamp() - 60;
        assert!(claimed_pod(&token(|payload| payload["exp"] = lately.into()), clock::now()).is_ok());
    }
}
