//! The issuance API: `POST /v1/bundle`, on every replica.
//!
//! Invariant: who gets what follows from the token alone, as the API server vouches for it now; nothing is
//! handed out that does not verify at this moment.

mod caller;
mod claims;
mod given;
mod owner;
mod refusal;
mod remembered;
mod turns;

use crate::{
    api::CALL_TIMEOUT,
    metrics::Metrics,
    observe::{Seen, WorkloadKey},
    planning::Planning,
    secrets::{Secret, Secrets, content},
};
use bytes::Bytes;
use caller::{Caller, bearer_token};
use certmint_contract::{
    ErrorCode, OptIn, SpiffeId,
    issuance::{BUNDLE_PATH, Bundle, Failure},
};
use certmint_planner::{Plan, SecretFacts, Workload};
use certmint_tls_server::{Handler, Peer, Rejected};
use claims::claimed_pod;
use given::Given;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use kube::Client;
use owner::Owners;
use refusal::{failure, status};
use remembered::Rejections;
use std::{
    future::Future,
    net::{IpAddr, Ipv6Addr},
};
use turns::{NoTurn, Turns};
use zeroize::Zeroizing;

/// Whose a request is that came from nowhere, which only tests send.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Answers requests for bundles.
pub(crate) struct Issuance {
    client: Client,
    planning: Planning,
    owners: Owners,
    metrics: Metrics,
    /// Requests being served, and those that wait.
    turns: Turns,
    /// What was rejected of late.
    rejections: Rejections,
    /// What was given to whom, for the log.
    given: Given,
}

impl Issuance {
    pub(crate) fn new(client: Client, planning: Planning, metrics: Metrics) -> Self {
        Self {
            owners: Owners::new(client.clone()),
            client,
            planning,
            metrics,
            turns: Turns::default(),
            rejections: Rejections::default(),
            given: Given::default(),
        }
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        if request.uri().path() != BUNDLE_PATH {
            return self
                .bad_request(StatusCode::NOT_FOUND, "there is nothing here: ask with POST /v1/bundle");
        }
        if request.method() != Method::POST {
            let mut response =
                self.bad_request(StatusCode::METHOD_NOT_ALLOWED, "ask for /v1/bundle with POST");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        // Three calls to the API server at most, and an owner or two the first time.
        let bundle = tokio::time::timeout(CALL_TIMEOUT * 2, self.bundle(&request)).await;
        let bundle = bundle.unwrap_or_else(|_| {
            Err(failure(ErrorCode::Unavailable, "the API server takes too long; ask again".into()))
        });
        self.metrics.bundle(bundle.as_ref().err().map(|failure| failure.code));
        match bundle {
            Ok(bundle) => json(StatusCode::OK, &bundle),
            Err(failure) => rejected(status(failure.code), failure),
        }
    }

    fn bad_request(&self, status: StatusCode, message: &str) -> Response<Bytes> {
        self.metrics.bundle(Some(ErrorCode::BadRequest));
        rejected(status, failure(ErrorCode::BadRequest, message.into()))
    }

    async fn bundle(&self, request: &Request<Bytes>) -> Result<Bundle, Failure> {
        let token = bearer_token(request.headers())?;
        let pod = claimed_pod(token, crate::clock::now())?;
        if let Some(failure) = self.rejections.of(token) {
            return Err(failure);
        }
        let address = request.extensions().get::<Peer>().map_or(UNKNOWN, |Peer(address)| *address);
        let turn = self.turns.wait_for_turn(address, pod).await;
        let mut turn = turn.map_err(|NoTurn| {
            failure(ErrorCode::TooManyRequests, "too many ask at this moment; ask again in a second".into())
        })?;
        let bundle = self.bundle_for(token).await;
        if let Err(failure) = &bundle
            && !failure.code.is_transient()
        {
            self.rejections.remember(token, failure);
            turn.reject();
        }
        bundle
    }

    async fn bundle_for(&self, token: &str) -> Result<Bundle, Failure> {
        let caller = Caller::of_token(&self.client, token).await?;
        let pod = caller.pod(&self.client).await?;
        let top = self.owners.workload_of(&caller, &pod).await?;
        if !self.planning.observed.is_synced() {
            let message = "this replica has just started and does not know the cluster yet; ask again";
            return Err(failure(ErrorCode::Unavailable, message.into()));
        }
        let key = WorkloadKey { namespace: caller.namespace.clone(), workload: top.workload };
        let Some(workload) = self.planning.observed.workload(&key) else {
            return Err(self.not_observed(&key).await);
        };
        if *workload.uid != *top.uid {
            let message = format!("{key} was made anew, and one of the two is not known here; ask again");
            return Err(failure(ErrorCode::Unavailable, message));
        }
        if *workload.service_account != *caller.service_account {
            return Err(self.other_account(&key, &caller).await);
        }
        let bundle = self.bundle_of(&key, &workload, &caller).await?;
        if self.given.is_new(&caller.pod_uid, &bundle.certificate) {
            tracing::info!(workload = %key, pod = %caller.pod_name, "gave a bundle");
        }
        Ok(bundle)
    }

    /// Why a workload that no watch has told of gets nothing. Nothing final is said of it before the API server
    /// has said so: a watch may lag.
    async fn not_observed(&self, key: &WorkloadKey) -> Failure {
        match self.planning.live(key).await {
            Err(error) => unavailable(&error),
            Ok(Some(live)) if !matches!(live.request, Ok(OptIn::No)) => failure(
                ErrorCode::NotYetIssued,
                format!("{key} has opted in, but this replica has not been told yet; ask again in a moment"),
            ),
            Ok(_) => failure(
                ErrorCode::NotOptedIn,
                format!("{key} did not opt in: annotate it with certmint.dev/inject=true"),
            ),
        }
    }

    /// Why a pod gets nothing that runs under another service account than is known of its workload: either that
    /// has just changed, or the pod is of an earlier template, or only says that it is the workload's.
    async fn other_account(&self, key: &WorkloadKey, caller: &Caller) -> Failure {
        let Caller { namespace, pod_name, service_account, .. } = caller;
        match self.planning.live(key).await {
            Err(error) => unavailable(&error),
            Ok(Some(live)) if *live.service_account == **service_account => failure(
                ErrorCode::NotYetIssued,
                format!("the service account of {key} has just changed; ask again in a moment"),
            ),
            Ok(_) => failure(
                ErrorCode::WrongServiceAccount,
                format!(
                    "Pod {namespace}/{pod_name} runs as service account {service_account}, and {key} does not: its certificate is not this pod's"
                ),
            ),
        }
    }

    /// The content of the workload's Secret, as it is now.
    async fn bundle_of(
        &self,
        key: &WorkloadKey,
        workload: &Workload,
        caller: &Caller,
    ) -> Result<Bundle, Failure> {
        let view = self.planning.observed.view(key);
        let name = view.wanted.clone();
        let name = name.ok_or_else(|| self.explain(key, workload, None, "it has no Secret name"))?;
        let secrets = Secrets::new(self.client.clone(), key.namespace.as_str());
        let found = secrets.get(name.as_str()).await.map_err(|error| unavailable(&error))?;
        let Some(secret) = found else {
            return Err(self.explain(key, workload, None, "its Secret is not there yet"));
        };
        let facts = Seen::from_metadata(secret.metadata.clone()).secret();
        let Ok((_, facts)) = facts else {
            return Err(self.explain(key, workload, None, "its Secret cannot be read"));
        };
        self.verified(&secret, &facts, workload, caller)
            .map_err(|why| self.explain(key, workload, Some(facts), &why))
    }

    fn verified(
        &self,
        secret: &Secret,
        facts: &SecretFacts,
        workload: &Workload,
        caller: &Caller,
    ) -> Result<Bundle, String> {
        let owned = facts.owner.as_ref().is_some_and(|owner| owner.uid == workload.uid);
        if !facts.managed || !owned {
            return Err("its Secret was not made for it".into());
        }
        let record = facts.record.as_ref().map_err(ToString::to_string)?;
        let roots = self.planning.ca.borrow().roots.clone().ok_or("the CA is not loaded yet")?;
        let path = SpiffeId::path(&caller.namespace, &caller.service_account);
        content::recorded(secret, record, &path, &roots, crate::clock::now())
    }

    /// Why there is no good bundle: the planner's refusal, or that it is on its way.
    fn explain(
        &self,
        key: &WorkloadKey,
        workload: &Workload,
        live: Option<SecretFacts>,
        why: &str,
    ) -> Failure {
        let mut view = self.planning.observed.view(key);
        // The leader looks again at once, if this is it; else the pod's next attempt may reach it.
        self.planning.observed.doubt(key, view.wanted.as_ref());
        if let Some(live) = &live {
            view.secrets.retain(|known| known.facts.name != live.name);
        }
        match self.planning.decide(workload, &view, live).plan {
            Plan::Refuse(refusal) => failure(refusal.code, refusal.message),
            _ => failure(ErrorCode::NotYetIssued, format!("{key}: {why}; ask again in a moment")),
        }
    }
}

impl Handler for Issuance {
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        self.answer(request)
    }
}

fn unavailable(error: &crate::api::ApiError) -> Failure {
    failure(error.code(), format!("{error}; ask again"))
}

fn rejected(status: StatusCode, failure: Failure) -> Response<Bytes> {
    let mut response = json(status, &failure);
    if failure.code == ErrorCode::TooManyRequests {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.extensions_mut().insert(Rejected { code: failure.code, why: failure.message });
    response
}

fn json<T: serde::Serialize>(status: StatusCode, body: &T) -> Response<Bytes> {
    // These types always encode. The key's copy in the response goes with the connection's buffers.
    let body = Zeroizing::new(serde_json::to_vec(body).unwrap_or_default());
    let mut response = Response::new(Bytes::copy_from_slice(&body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
