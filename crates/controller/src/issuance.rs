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
mod unserved;

use crate::{
    api::CALL_TIMEOUT,
    events::{Events, Subject},
    metrics::Metrics,
    observe::{Seen, Standing, WorkloadKey, serves},
    planning::Planning,
    secrets::{Secret, Secrets, content},
};
use bytes::Bytes;
use caller::{Caller, bearer_token};
use certmint_contract::{
    ErrorCode, OptIn, SpiffeId, WorkloadKind,
    issuance::{BUNDLE_PATH, Bundle, Failure},
    keys,
};
use certmint_planner::{Plan, SecretFacts, Workload};
use certmint_tls_server::{Handler, Peer, Rejected};
use claims::claimed_pod;
use given::Given;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use kube::{Client, api::ObjectMeta};
use owner::{End, Owners, Top};
use refusal::{failure, status};
use remembered::Rejections;
use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv6Addr},
};
use turns::{NoTurn, Turns};
use unserved::Unserved;
use zeroize::Zeroizing;

/// Whose a request is that came from nowhere, which only tests send.
const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Answers requests for bundles.
pub(crate) struct Issuance {
    client: Client,
    planning: Planning,
    owners: Owners,
    events: Events,
    metrics: Metrics,
    /// Requests being served, and those that wait.
    turns: Turns,
    /// What was rejected of late.
    rejections: Rejections,
    /// What was given to whom, for the log.
    given: Given,
}

impl Issuance {
    pub(crate) fn new(client: Client, planning: Planning, events: Events, metrics: Metrics) -> Self {
        Self {
            owners: Owners::new(client.clone()),
            client,
            planning,
            events,
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
        // Three calls to the API server at most, and an owner or two when its workload is not known.
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
        if !self.planning.observed.is_synced() {
            let message = "this replica has just started and does not know the cluster yet; ask again";
            return Err(failure(ErrorCode::Unavailable, message.into()));
        }
        let alone = self.planning.observed.alone(&caller.namespace, &caller.pod_name, &caller.pod_uid);
        let workload = match alone {
            Some(alone) => alone,
            None => match self.workload_that_serves(&caller, &pod).await? {
                Ok(workload) => workload,
                Err(why) => self.pod_alone(&caller, &pod, why)?,
            },
        };
        let key = WorkloadKey::of(&workload);
        let bundle = self
            .bundle_of(&key, &workload, &caller)
            .await
            .map_err(|refusal| self.told(&caller, None, refusal))?;
        if self.given.is_new(&caller.pod_uid, &bundle.certificate) {
            tracing::info!(workload = %key, pod = %caller.pod_name, "gave a bundle");
        }
        Ok(bundle)
    }

    /// The workload that has a certificate for the pod, or why there is none. Nothing of that is said before the API
    /// server has said so: a watch may lag.
    async fn workload_that_serves(
        &self,
        caller: &Caller,
        pod: &ObjectMeta,
    ) -> Result<Result<Workload, Unserved>, Failure> {
        let Caller { namespace, service_account, .. } = caller;
        let observed = |top: &Top| {
            let key = WorkloadKey { namespace: namespace.clone(), workload: top.workload.clone() };
            self.planning.observed.workload(&key).filter(|known| *known.uid == *top.uid)
        };
        let top = match self.owners.workload_of(caller, pod, |top| observed(top).is_some()).await? {
            End::Workload(top) => top,
            End::Gone(owner) => return Ok(Err(Unserved::gone(&owner, caller))),
        };
        match observed(&top).filter(|known| serves(known, service_account)) {
            Some(workload) => return Ok(Ok(workload)),
            None if top.workload.kind == WorkloadKind::Pod => return Ok(Err(Unserved::itself(caller))),
            None => {}
        }
        let key = WorkloadKey { namespace: namespace.clone(), workload: top.workload };
        let found = self.planning.look(&key).await.map_err(|error| unavailable(&error))?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(&*top.uid)) else {
            return Ok(Err(Unserved::gone(&key.workload.to_string(), caller)));
        };
        let live = found.workload(key.workload.kind).ok().flatten();
        Ok(Err(match live {
            // A watch is going to tell of it.
            Some(live) if found.is_managed() && serves(&live, service_account) => {
                let message = format!(
                    "{key} has just changed, and this replica has not been told yet; ask again in a moment"
                );
                return Err(failure(ErrorCode::NotYetIssued, message));
            }
            Some(live) if !matches!(live.request, Ok(OptIn::No)) && found.is_managed() => {
                Unserved::other_account(&live, caller)
            }
            _ => Unserved::not_opted_in(&key, &top.uid),
        }))
    }

    /// The pod as a workload of its own, if it asks for that: it gets what a pod without an owner would get.
    fn pod_alone(&self, caller: &Caller, pod: &ObjectMeta, why: Unserved) -> Result<Workload, Failure> {
        let Caller { namespace, pod_name, pod_uid, service_account, .. } = caller;
        let is_true = |map: &Option<BTreeMap<String, String>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)).is_some_and(|value| value == keys::TRUE)
        };
        if !is_true(&pod.labels, keys::INJECTED) || !is_true(&pod.annotations, keys::INJECT) {
            return Err(self.told(caller, why.subject, failure(why.code, why.message)));
        }
        match self.planning.observed.stand_alone(namespace, pod_name, pod_uid) {
            Standing::Alone(workload) if *workload.service_account == **service_account => Ok(*workload),
            Standing::Alone(_) | Standing::Unknown => Err(failure(
                ErrorCode::NotYetIssued,
                format!(
                    "this replica has not been told of Pod {namespace}/{pod_name} yet; ask again in a moment"
                ),
            )),
            Standing::NoRoom => {
                let message = format!(
                    "Pod {namespace}/{pod_name} gets no certificate of its own, because its namespace has more injected pods than a controller keeps; {}",
                    why.message
                );
                Err(self.told(caller, None, failure(ErrorCode::NotAllowed, message)))
            }
        }
    }

    /// The refusal, and when it is final an Event of it, on the pod and on its workload.
    fn told(&self, caller: &Caller, workload: Option<Subject>, refusal: Failure) -> Failure {
        if !refusal.code.is_transient() {
            let pod = Subject::pod(&caller.namespace, &caller.pod_name, &caller.pod_uid);
            for subject in std::iter::once(pod).chain(workload) {
                self.events.refused(&subject, refusal.code, &refusal.message);
            }
        }
        refusal
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
