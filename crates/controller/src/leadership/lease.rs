//! One Lease object, as client-go's leader election uses it.

use super::LEASE_SECONDS;
use crate::api::{self, ApiError, CALL_TIMEOUT, Fault};
use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use std::time::Duration;
use tokio::time::Instant;

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct LeaseName {
    /// The namespace of the Lease.
    pub(crate) namespace: String,
    /// The name of the Lease.
    pub(crate) name: String,
    /// This replica: the name of its pod.
    pub(crate) identity: String,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This replica holds the lease, renewed just now.
    Holder,
    /// Another replica does.
    Follower,
}

/// The Lease as last seen, and when that was.
pub(super) struct Lease {
    api: Api<LeaseObject>,
    name: LeaseName,
    seen: Option<Seen>,
}

struct Seen {
    object: LeaseObject,
    /// When this very version was first seen, by our own clock.
    since: Instant,
}

impl Lease {
    pub(super) fn new(client: kube::Client, name: LeaseName) -> Self {
        Self { api: Api::namespaced(client, &name.namespace), name, seen: None }
    }

    /// Renews the lease, takes a free one, or finds that another holds it.
    pub(super) async fn attempt(&mut self) -> Result<Standing, ApiError> {
        let found = api::optional(api::call(self.call("get"), self.api.get(&self.name.name)).await);
        let Some(found) = found.inspect_err(|_| self.lose_sight())? else {
            return if self.may_create() { self.create().await } else { Ok(Standing::Follower) };
        };
        self.note(found);
        let Some(seen) = self.seen.as_ref().filter(|seen| self.may_take(seen)) else {
            return Ok(Standing::Follower);
        };
        let mut wanted = seen.object.clone();
        wanted.spec = Some(self.claim(seen.object.spec.as_ref()));
        self.replace(wanted).await
    }

    /// Gives the lease up, if this replica holds it.
    pub(super) async fn release(&mut self) -> Result<(), ApiError> {
        let held = self.seen.take().filter(|seen| holder(&seen.object) == Some(&*self.name.identity));
        let Some(Seen { mut object, .. }) = held else { return Ok(()) };
        if let Some(spec) = &mut object.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        self.replace(object).await.map(drop)
    }

    async fn create(&mut self) -> Result<Standing, ApiError> {
        let object = LeaseObject {
            metadata: ObjectMeta { name: Some(self.name.name.clone()), ..ObjectMeta::default() },
            spec: Some(self.claim(None)),
        };
        let created = api::call(self.call("create"), self.api.create(&PostParams::default(), &object)).await;
        self.outcome(created)
    }

    async fn replace(&mut self, object: LeaseObject) -> Result<Standing, ApiError> {
        // The object carries the resourceVersion it was read with, so only one of two replicas succeeds.
        let params = PostParams::default();
        let replaced = self.api.replace(&self.name.name, &params, &object);
        let replaced = api::call(self.call("update"), replaced).await;
        self.outcome(replaced)
    }

    fn outcome(&mut self, written: Result<LeaseObject, ApiError>) -> Result<Standing, ApiError> {
        match written {
            Ok(object) => {
                let ours = holder(&object) == Some(&*self.name.identity);
                self.note(object);
                Ok(if ours { Standing::Holder } else { Standing::Follower })
            }
            Err(error) if matches!(error.fault(), Fault::Conflict | Fault::Exists) => Ok(Standing::Follower),
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, object: LeaseObject) {
        let known = self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.object.metadata.resource_version == object.metadata.resource_version);
        if !known {
            self.seen = Some(Seen { object, since: Instant::now() });
        }
    }

    fn may_take(&self, seen: &Seen) -> bool {
        match holder(&seen.object) {
            None => true,
            Some(holder) if holder == self.name.identity => true,
            Some(_) => {
                let stated = seen.object.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
                let seconds = stated.and_then(|seconds| u64::try_from(seconds).ok());
                seen.since.elapsed() > Duration::from_secs(seconds.unwrap_or(LEASE_SECONDS.into()))
            }
        }
    }

    /// Whether a Lease that is not there may be made. One that somebody deleted is still its holder's, who makes
    /// it anew; who that is now, a replica knows only if it was itself, and lately.
    fn may_create(&mut self) -> bool {
        let Some(seen) = &mut self.seen else { return true };
        let ours = holder(&seen.object) == Some(&*self.name.identity);
        let lately = Duration::from_secs(LEASE_SECONDS.into()).saturating_sub(CALL_TIMEOUT);
        // To be gone is a change like any other, from which its time runs anew.
        if seen.object.metadata.resource_version.is_some() {
            if ours && seen.since.elapsed() < lately {
                return true;
            }
            seen.object.metadata.resource_version = None;
            seen.since = Instant::now();
        }
        seen.since.elapsed() > Duration::from_secs(LEASE_SECONDS.into())
    }

    /// A Lease that was gone may have been made and deleted again meanwhile, which no version would tell.
    fn lose_sight(&mut self) {
        if let Some(seen) = self.seen.as_mut().filter(|seen| seen.object.metadata.resource_version.is_none())
        {
            seen.since = Instant::now();
        }
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let ours = before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&*self.name.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.name.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_SECONDS).ok(),
            acquire_time: before.filter(|_| ours).and_then(|spec| spec.acquire_time.clone()).or(now.clone()),
            renew_time: now,
            lease_transitions: Some(if ours { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    fn call(&self, verb: &str) -> String {
        format!("{verb} Lease {}/{}", self.name.namespace, self.name.name)
    }
}

fn holder(lease: &LeaseObject) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}
