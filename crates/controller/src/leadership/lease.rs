//! Takes, renews and releases a Lease object in the same way as client-go's leader election.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use tokio::time::Instant;

use super::LEASE_SECONDS;
use crate::api::{self, ApiError, ApiErrorKind, CALL_TIMEOUT};

/// Name of the Lease, and identity of this replica.
#[derive(Clone, Debug)]
pub(crate) struct LeaseParams {
    /// Namespace of the Lease.
    pub(crate) namespace: String,
    /// Name of the Lease.
    pub(crate) name: String,
    /// Identity of this replica: the name of its pod.
    pub(crate) identity: String,
}

/// Role of this replica after an attempt to renew or take the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseRole {
    /// This replica holds the Lease and has just renewed it.
    Holder,
    /// Another replica holds the Lease, or may still hold it.
    Follower,
}

/// A Lease in the cluster, as this replica saw it last.
pub(super) struct Lease {
    api: Api<LeaseObject>,
    params: LeaseParams,
    seen: Option<SeenLease>,
}

struct SeenLease {
    object: LeaseObject,
    /// Time at which this version was first seen, by the local monotonic clock.
    since: Instant,
}

impl Lease {
    pub(super) fn new(client: kube::Client, params: LeaseParams) -> Self {
        Self { api: Api::namespaced(client, &params.namespace), params, seen: None }
    }

    /// Renews the Lease, takes a free one, or finds that another replica holds it.
    pub(super) async fn attempt(&mut self) -> Result<LeaseRole, ApiError> {
        let found = api::optional(api::call(self.call("get"), self.api.get(&self.params.name)).await);
        let Some(found) = found.inspect_err(|_| self.restart_wait_for_missing_lease())? else {
            return if self.may_create() { self.create().await } else { Ok(LeaseRole::Follower) };
        };
        self.note(found);
        let Some(seen) = self.seen.as_ref().filter(|seen| self.may_take(seen)) else {
            return Ok(LeaseRole::Follower);
        };
        let mut wanted = seen.object.clone();
        wanted.spec = Some(self.spec_as_holder(seen.object.spec.as_ref()));
        self.replace(wanted).await
    }

    /// Releases the Lease, if this replica holds it.
    pub(super) async fn release(&mut self) -> Result<(), ApiError> {
        let held = self.seen.take().filter(|seen| self.is_held_by_this_replica(&seen.object));
        let Some(SeenLease { mut object, .. }) = held else { return Ok(()) };
        if let Some(spec) = &mut object.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        self.replace(object).await.map(drop)
    }

    async fn create(&mut self) -> Result<LeaseRole, ApiError> {
        let object = LeaseObject {
            metadata: ObjectMeta { name: Some(self.params.name.clone()), ..ObjectMeta::default() },
            spec: Some(self.spec_as_holder(None)),
        };
        let created = api::call(self.call("create"), self.api.create(&PostParams::default(), &object)).await;
        self.role_after_write(created)
    }

    async fn replace(&mut self, object: LeaseObject) -> Result<LeaseRole, ApiError> {
        // The object has the resource version with which it was read, so only one of two replicas succeeds.
        let params = PostParams::default();
        let replaced = self.api.replace(&self.params.name, &params, &object);
        let replaced = api::call(self.call("update"), replaced).await;
        self.role_after_write(replaced)
    }

    fn role_after_write(&mut self, written: Result<LeaseObject, ApiError>) -> Result<LeaseRole, ApiError> {
        match written {
            Ok(object) => {
                let is_holder = self.is_held_by_this_replica(&object);
                self.note(object);
                Ok(if is_holder { LeaseRole::Holder } else { LeaseRole::Follower })
            }
            Err(error) if matches!(error.kind(), ApiErrorKind::Conflict | ApiErrorKind::AlreadyExists) => {
                Ok(LeaseRole::Follower)
            }
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, object: LeaseObject) {
        let is_known = self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.object.metadata.resource_version == object.metadata.resource_version);
        if !is_known {
            self.seen = Some(SeenLease { object, since: Instant::now() });
        }
    }

    /// Returns whether this replica may take the Lease: no other replica holds it, or the holder has not renewed it for
    /// the duration that the Lease names.
    fn may_take(&self, seen: &SeenLease) -> bool {
        match holder(&seen.object) {
            None => true,
            Some(holder) if holder == self.params.identity => true,
            Some(_) => {
                let stated = seen.object.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
                let seconds = stated.and_then(|seconds| u64::try_from(seconds).ok());
                seen.since.elapsed() > Duration::from_secs(seconds.unwrap_or(LEASE_SECONDS.into()))
            }
        }
    }

    /// Returns whether this replica may create a Lease that does not exist.
    ///
    /// A deleted Lease still belongs to its holder, which recreates it. If this replica held the Lease a short time
    /// ago, it is the holder, and may create the Lease at once. Otherwise it waits until the deleted Lease would have
    /// expired. If it has never seen a Lease, it does not wait.
    fn may_create(&mut self) -> bool {
        let Some(seen) = &mut self.seen else { return true };
        let was_holder = holder(&seen.object) == Some(&*self.params.identity);
        let recently = Duration::from_secs(LEASE_SECONDS.into()).saturating_sub(CALL_TIMEOUT);
        // The deletion is a change like any other, so the wait starts when it is first seen. A version of `None` marks
        // that the deletion was seen.
        if seen.object.metadata.resource_version.is_some() {
            if was_holder && seen.since.elapsed() < recently {
                return true;
            }
            seen.object.metadata.resource_version = None;
            seen.since = Instant::now();
        }
        seen.since.elapsed() > Duration::from_secs(LEASE_SECONDS.into())
    }

    /// Restarts the wait for a deleted Lease after a read failed. In between, the Lease may have been recreated and
    /// deleted again, and no resource version would show that.
    fn restart_wait_for_missing_lease(&mut self) {
        if let Some(seen) = self.seen.as_mut().filter(|seen| seen.object.metadata.resource_version.is_none())
        {
            seen.since = Instant::now();
        }
    }

    fn spec_as_holder(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let was_holder =
            before.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&*self.params.identity));
        let acquired = before.filter(|_| was_holder).and_then(|spec| spec.acquire_time.clone());
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.params.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_SECONDS).ok(),
            acquire_time: acquired.or(now.clone()),
            renew_time: now,
            lease_transitions: Some(if was_holder { transitions } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    fn is_held_by_this_replica(&self, object: &LeaseObject) -> bool {
        holder(object) == Some(&*self.params.identity)
    }

    fn call(&self, verb: &str) -> String {
        format!("{verb} Lease {}/{}", self.params.namespace, self.params.name)
    }
}

fn holder(lease: &LeaseObject) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}
