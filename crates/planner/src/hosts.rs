//! The hosts by which the cluster's DNS leads to a workload's pods, and how long one counts that is gone.

use crate::{MAX_NAMES, Replicas, Service, ServiceKind, Workload};
use std::{collections::BTreeSet, sync::Arc};
use time::{Duration, OffsetDateTime};

/// How long a host that is gone still counts. A Service that is deleted and made anew, or that moves from one
/// workload to another and back, is away for seconds; servers whose certificate lost its name at once would
/// refuse callers until the name is back in all of their pods.
pub const GRACE: Duration = Duration::seconds(60);

/// One more replica than can be named is enough to be told of it.
const MAX_REPLICAS: usize = MAX_NAMES + 1;
/// So it is with Services: each has a name at least, and whoever may make them may make many.
const MAX_SERVICES: usize = MAX_NAMES + 1;

/// What is remembered of a workload's hosts from one plan to the next: each as it stands below the namespace,
/// like `payments` for a Service and `db-0.peers` for a replica.
///
/// Only what was observed gets in, never what a Secret says: whoever may write an annotation must not get a
/// name by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: Arc<str>,
    /// `None` while it is there.
    gone_since: Option<OffsetDateTime>,
}

impl Hosts {
    /// The hosts at `now`, when these were the ones before.
    pub(crate) fn observed(&self, workload: &Workload, services: &[Service], now: OffsetDateTime) -> Self {
        let present = present(workload, services);
        let gone = self.0.iter().filter(|host| !present.contains(&host.name));
        let gone = gone.map(|host| Host { gone_since: host.gone_since.or(Some(now)), ..host.clone() });
        // A clock that was set back does not lengthen anything.
        let counts = |host: &Host| host.gone_since.is_some_and(|since| since <= now && now < since + GRACE);
        let gone: Vec<Host> = gone.filter(counts).take(MAX_NAMES).collect();
        let present = present.into_iter().map(|name| Host { name, gone_since: None });
        Self(present.chain(gone).collect())
    }

    /// Those that are there.
    pub(crate) fn present(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|host| host.gone_since.is_none()).map(|host| &*host.name)
    }

    /// Those that are gone but still count, with the moment at which each ceases to.
    pub(crate) fn gone(&self) -> impl Iterator<Item = (&str, OffsetDateTime)> {
        self.0.iter().filter_map(|host| Some((&*host.name, host.gone_since? + GRACE)))
    }
}

fn present(workload: &Workload, services: &[Service]) -> BTreeSet<Arc<str>> {
    let mut hosts = BTreeSet::new();
    for service in services.iter().filter(|service| service.selects(workload)).take(MAX_SERVICES) {
        hosts.insert(service.name.clone());
        hosts.extend(replicas(workload, service));
    }
    hosts
}

/// `payments-0.peers` and so on, of the StatefulSet's governing Service. One more than there are: the next
/// replica has its name in the certificate before its pod is created, also while no controller runs.
fn replicas(workload: &Workload, service: &Service) -> impl Iterator<Item = Arc<str>> {
    let replicas = workload.replicas.as_ref().filter(|replicas| {
        service.kind == ServiceKind::Headless && *replicas.governing_service == *service.name
    });
    let ordinals = replicas.map(|Replicas { ordinals, .. }| ordinals.start..ordinals.end.saturating_add(1));
    let (pod, service) = (workload.reference.name.clone(), service.name.clone());
    let named = move |ordinal| format!("{pod}-{ordinal}.{service}").into();
    ordinals.unwrap_or_default().take(MAX_REPLICAS).map(named)
}
