//! Issuance API: `POST /v1/bundle`, which every replica serves.
//!
//! Invariants: only the pod's token decides which bundle the pod gets, and the API server confirms the token for each
//! request. The controller verifies each bundle immediately before the delivery.
//!
//! A request passes these steps: the claims of the token ([`claims`]), a free slot, which limits the concurrent
//! requests ([`slots`]), the API server's review of the token ([`caller`]), the workload whose certificate the pod gets
//! ([`lookup`] and [`owner`]), and the content of the workload's Secret ([`bundle`]).

mod bundle;
mod caller;
mod claims;
mod delivered;
mod lookup;
mod owner;
mod recent_rejections;
mod response;
mod slots;
mod unserved;

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};

use bytes::Bytes;
use certmint_contract::ErrorCode;
use certmint_contract::issuance::{BUNDLE_PATH, Bundle, Failure};
use certmint_server::{Handler, Peer};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use kube::Client;

use self::caller::{Caller, bearer_token};
use self::claims::claimed_pod;
use self::delivered::DeliveredBundles;
use self::owner::OwnerResolver;
use self::recent_rejections::RecentRejections;
use self::response::{json, rejected, status};
use self::slots::{NoFreeSlot, RequestSlots};
use crate::api::CALL_TIMEOUT;
use crate::decisions::Decider;
use crate::events::{Events, InvolvedObject};
use crate::metrics::Metrics;
use crate::observe::WorkloadKey;

/// Address that is used for a request whose peer is not known. Only tests send such requests.
const UNKNOWN_ADDRESS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Handler of requests for bundles.
pub(crate) struct IssuanceApi {
    client: Client,
    decider: Decider,
    owners: OwnerResolver,
    events: Events,
    metrics: Metrics,
    slots: RequestSlots,
    rejections: RecentRejections,
    delivered: DeliveredBundles,
}

impl IssuanceApi {
    pub(crate) fn new(client: Client, decider: Decider, events: Events, metrics: Metrics) -> Self {
        Self {
            owners: OwnerResolver::new(client.clone()),
            client,
            decider,
            events,
            metrics,
            slots: RequestSlots::default(),
            rejections: RecentRejections::default(),
            delivered: DeliveredBundles::default(),
        }
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        if request.uri().path() != BUNDLE_PATH {
            return self.bad_request(StatusCode::NOT_FOUND, "unknown path: use POST /v1/bundle");
        }
        if request.method() != Method::POST {
            let mut response = self.bad_request(StatusCode::METHOD_NOT_ALLOWED, "use POST for /v1/bundle");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        // A bundle takes three calls to the API server at most, and one or two more when the workload of the pod is
        // not known.
        let bundle = tokio::time::timeout(CALL_TIMEOUT * 2, self.bundle(&request)).await;
        let bundle = bundle.unwrap_or_else(|_| {
            Err(Failure::new(ErrorCode::Unavailable, "the API server takes too long; retry"))
        });
        self.metrics.count_issuance_answer(bundle.as_ref().err().map(|failure| failure.code));
        match bundle {
            Ok(bundle) => json(StatusCode::OK, &bundle),
            Err(failure) => rejected(status(failure.code), failure),
        }
    }

    fn bad_request(&self, status: StatusCode, message: &str) -> Response<Bytes> {
        self.metrics.count_issuance_answer(Some(ErrorCode::BadRequest));
        rejected(status, Failure::new(ErrorCode::BadRequest, message))
    }

    /// Limits what a request costs the API server, and then finds the bundle.
    async fn bundle(&self, request: &Request<Bytes>) -> Result<Bundle, Failure> {
        let token = bearer_token(request.headers())?;
        let pod = claimed_pod(token, crate::clock::now())?;
        if let Some(failure) = self.rejections.of(token) {
            return Err(failure);
        }
        let address = request.extensions().get::<Peer>().map_or(UNKNOWN_ADDRESS, |Peer(address)| *address);
        let slot = self.slots.wait_for_slot(address, pod).await;
        let mut slot = slot.map_err(|NoFreeSlot| {
            Failure::new(ErrorCode::TooManyRequests, "too many requests at this time; retry after a second")
        })?;
        let bundle = self.bundle_for(token).await;
        if let Err(failure) = &bundle
            && !failure.code.is_transient()
        {
            self.rejections.remember(token, failure);
            slot.mark_rejected();
        }
        bundle
    }

    async fn bundle_for(&self, token: &str) -> Result<Bundle, Failure> {
        let caller = Caller::of_token(&self.client, token).await?;
        let pod = caller.pod(&self.client).await?;
        if !self.decider.cache.is_synced() {
            let message = "this replica has just started and has not read the cluster yet; retry";
            return Err(Failure::new(ErrorCode::Unavailable, message));
        }
        let workload = self.workload_for(&caller, &pod).await?;
        let key = WorkloadKey::of(&workload);
        let bundle = self
            .bundle_of(&key, &workload, &caller)
            .await
            .map_err(|failure| self.report_final(&caller, None, failure))?;
        if self.delivered.is_new(&caller.pod_uid, &bundle.certificate) {
            tracing::info!(workload = %key, pod = %caller.pod_name, "delivered a bundle");
        }
        Ok(bundle)
    }

    /// Returns the failure. If it is final, reports it in an Event on the pod, and on its workload if given.
    fn report_final(&self, caller: &Caller, workload: Option<InvolvedObject>, failure: Failure) -> Failure {
        if !failure.code.is_transient() {
            let pod = InvolvedObject::pod(&caller.namespace, &caller.pod_name, &caller.pod_uid);
            for object in std::iter::once(pod).chain(workload) {
                self.events.warn(&object, failure.code, &failure.message);
            }
        }
        failure
    }
}

impl Handler for IssuanceApi {
    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Response<Bytes>> + Send {
        self.answer(request)
    }
}

#[cfg(test)]
mod tests;
