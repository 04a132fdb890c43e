use super::{
    lease::{Lease, LeaseName, Standing},
    *,
};
use crate::testing::{ApiServer, api_server};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/certmint-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/certmint-system/leases/certmint";

fn name() -> LeaseName {
    LeaseName { namespace: "certmint-system".into(), name: "certmint".into(), identity: "me".into() }
}

fn held_by(holder: &str, version: &str) -> Value {
    json!({
        "metadata": { "name": "certmint", "resourceVersion": version },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3 },
    })
}

async fn attempt(lease: &mut Lease, server: &mut ApiServer, found: Value) -> Standing {
    let (standing, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.ok(found);
    });
    standing.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_created_and_held() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    let (standing, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.fail(404, "NotFound");
        let call = server.expect("POST", LEASES).await;
        assert_eq!(call.body["spec"]["holderIdentity"], "me");
        assert_eq!(call.body["spec"]["leaseDurationSeconds"], 15);
        call.written("1");
    });
    assert_eq!(standing.unwrap(), Standing::Holder);
}

#[tokio::test(start_paused = true)]
async fn of_two_who_take_a_free_lease_the_later_one_follows() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    let (standing, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.ok(held_by("", "7"));
        let call = server.expect("PUT", LEASE).await;
        assert_eq!(call.body["metadata"]["resourceVersion"], "7");
        assert_eq!(call.body["spec"]["leaseTransitions"], 4);
        call.fail(409, "Conflict");
    });
    assert_eq!(standing.unwrap(), Standing::Follower);
}

#[tokio::test(start_paused = true)]
async fn another_holder_is_followed_until_its_lease_was_seen_unchanged_for_its_whole_length() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "7")).await, Standing::Follower);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "8")).await, Standing::Follower);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "8")).await, Standing::Follower);
    tokio::time::advance(Duration::from_secs(2)).await;
    let (standing, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.ok(held_by("other", "8"));
        server.expect("PUT", LEASE).await.written("9");
    });
    assert_eq!(standing.unwrap(), Standing::Holder);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_its_lease_runs_out() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let campaign = tokio::spawn(campaign(client, name(), terms, shutdown.clone()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    let sent = Instant::now();
    seen.wait_for(Option::is_some).await.unwrap();
    // From now on the API server does not answer.
    let (working, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let work = || {
        working.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    };
    let mut terms = seen.clone();
    let leading = while_leading(seen, &shutdown, work);
    let stopped = async {
        end_of_term(&mut terms).await;
        assert!(sent.elapsed() <= RENEW_WITHIN, "{:?}", sent.elapsed());
        assert!(!leads(&terms));
        shutdown.cancel();
    };
    tokio::join!(leading, stopped);
    assert_eq!(working.load(Ordering::Relaxed), 1);
    assert!(started.elapsed() < Duration::from_secs(LEASE_SECONDS.into()));
    campaign.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_up_on_shutdown() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let campaign = tokio::spawn(campaign(client, name(), terms, shutdown.clone()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    seen.wait_for(Option::is_some).await.unwrap();
    shutdown.cancel();
    let call = server.expect("PUT", LEASE).await;
    assert_eq!(call.body["spec"]["holderIdentity"], "");
    call.written("2");
    campaign.await.unwrap();
    assert_eq!(*seen.borrow(), None);
}
