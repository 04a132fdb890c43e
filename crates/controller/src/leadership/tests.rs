//! Tests of one replica in the leader election.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::lease::{Lease, LeaseParams, LeaseRole};
use super::*;
use crate::testing::{MockApiServer, api_server};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/certmint-system/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/certmint-system/leases/certmint";

fn name() -> LeaseParams {
    LeaseParams { namespace: "certmint-system".into(), name: "certmint".into(), identity: "me".into() }
}

fn campaign(client: kube::Client, terms: watch::Sender<Term>) -> Campaign {
    Campaign { client, lease: name(), clock: Clock::default(), terms }
}

fn held_by(holder: &str, version: &str) -> Value {
    json!({
        "metadata": { "name": "certmint", "resourceVersion": version },
        "spec": { "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3 },
    })
}

async fn attempt(lease: &mut Lease, server: &mut MockApiServer, found: Value) -> LeaseRole {
    let (role, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.ok(found);
    });
    role.unwrap()
}

#[tokio::test(start_paused = true)]
async fn creates_a_missing_lease() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    let (role, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.fail(404, "NotFound");
        let call = server.expect("POST", LEASES).await;
        assert_eq!(call.body["spec"]["holderIdentity"], "me");
        assert_eq!(call.body["spec"]["leaseDurationSeconds"], 15);
        call.written("1");
    });
    assert_eq!(role.unwrap(), LeaseRole::Holder);
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_lease_write_conflicts_is_a_follower() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    let (role, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.ok(held_by("", "7"));
        let call = server.expect("PUT", LEASE).await;
        assert_eq!(call.body["metadata"]["resourceVersion"], "7");
        assert_eq!(call.body["spec"]["leaseTransitions"], 4);
        call.fail(409, "Conflict");
    });
    assert_eq!(role.unwrap(), LeaseRole::Follower);
}

#[tokio::test(start_paused = true)]
async fn takes_a_lease_only_after_it_has_expired() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "7")).await, LeaseRole::Follower);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "8")).await, LeaseRole::Follower);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "8")).await, LeaseRole::Follower);
    tokio::time::advance(Duration::from_secs(2)).await;
    let (role, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.ok(held_by("other", "8"));
        server.expect("PUT", LEASE).await.written("9");
    });
    assert_eq!(role.unwrap(), LeaseRole::Holder);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_its_lease_expires() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let campaign = tokio::spawn(campaign(client, terms).run(shutdown.clone()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    let sent = Instant::now();
    seen.wait_for(Option::is_some).await.unwrap();
    // From here on the API server does not answer.
    let (working, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let work = || {
        working.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    };
    let mut terms = seen.clone();
    let leading = while_leading(seen, &shutdown, work);
    let stopped = async {
        wait_for_end_of_term(&mut terms).await;
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
async fn releases_the_lease_on_shutdown() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let campaign = tokio::spawn(campaign(client, terms).run(shutdown.clone()));
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

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_still_belongs_to_its_holder() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "7")).await, LeaseRole::Follower);
    let (role, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.fail(404, "NotFound");
    });
    assert_eq!(role.unwrap(), LeaseRole::Follower);
    tokio::time::advance(Duration::from_secs(16)).await;
    let (role, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.fail(404, "NotFound");
        server.expect("POST", LEASES).await.written("9");
    });
    assert_eq!(role.unwrap(), LeaseRole::Holder);
}

#[tokio::test(start_paused = true)]
async fn a_lease_edited_to_another_holder_ends_the_term() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let campaign = tokio::spawn(campaign(client, terms).run(CancellationToken::new()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    seen.wait_for(Option::is_some).await.unwrap();
    server.expect("GET", LEASE).await.ok(held_by("stranger", "2"));
    seen.wait_for(Option::is_none).await.unwrap();
    // This replica does not take the Lease back before the Lease has expired.
    server.expect("GET", LEASE).await.ok(held_by("stranger", "2"));
    server.expect("GET", LEASE).await.ok(held_by("stranger", "2"));
    campaign.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_may_not_renew_stops_at_the_end_of_its_term() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let campaign = tokio::spawn(campaign(client, terms).run(CancellationToken::new()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    let sent = Instant::now();
    seen.wait_for(Option::is_some).await.unwrap();
    let forbidden = async {
        loop {
            server.expect("GET", LEASE).await.fail(403, "Forbidden");
        }
    };
    tokio::select! {
        () = forbidden => {}
        none = seen.wait_for(Option::is_none) => drop(none.unwrap()),
    }
    assert!(sent.elapsed() >= RENEW_WITHIN - RENEW_INTERVAL, "{:?}", sent.elapsed());
    assert!(!leads(&seen));
    campaign.abort();
}

#[tokio::test(start_paused = true)]
async fn writes_after_the_term_are_not_sent() {
    let (client, mut server) = api_server();
    let (terms, term) = watch::channel(None);
    let secrets = crate::secrets::Secrets::new(fenced(client, term), "shop");
    let content = crate::secrets::NewContent { secret_type: "Opaque", data: Vec::new() };
    terms.send_replace(Some(Instant::now() + RENEW_WITHIN));
    let (written, ()) = tokio::join!(secrets.create("a", Default::default(), &content), async {
        server.expect("POST", "/api/v1/namespaces/shop/secrets").await.written("1");
    });
    written.unwrap();
    // The term has ended by the clock, before `None` was sent.
    tokio::time::advance(RENEW_WITHIN).await;
    let refused = secrets.create("a", Default::default(), &content).await.unwrap_err();
    assert!(matches!(refused.kind(), crate::api::ApiErrorKind::NotLeading(_)), "{refused}");
    server.expect_no_call().await;
    let (read, ()) = tokio::join!(secrets.get("a"), async {
        server.expect("GET", "/api/v1/namespaces/shop/secrets/a").await.fail(404, "NotFound");
    });
    assert!(read.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_leader_recreates_its_deleted_lease() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    for version in ["1", "2"] {
        let (role, ()) = tokio::join!(lease.attempt(), async {
            server.expect("GET", LEASE).await.fail(404, "NotFound");
            server.expect("POST", LEASES).await.written(version);
        });
        assert_eq!(role.unwrap(), LeaseRole::Holder);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_differs_releases_the_lease() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let campaign = campaign(client, terms);
    let clock = campaign.clock.clone();
    let campaign = tokio::spawn(campaign.run(CancellationToken::new()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    seen.wait_for(Option::is_some).await.unwrap();
    clock.move_ahead(time::Duration::days(40));
    let call = server.expect("PUT", LEASE).await;
    assert!(!leads(&seen), "the replica still led when it released the Lease");
    assert_eq!(call.body["spec"]["holderIdentity"], "");
    call.written("2");
    // Another replica may take the Lease, and this one does not try.
    server.expect_no_call().await;
    clock.move_ahead(time::Duration::ZERO);
    server.expect("GET", LEASE).await.ok(held_by("", "3"));
    server.expect("PUT", LEASE).await.written("4");
    seen.wait_for(Option::is_some).await.unwrap();
    campaign.abort();
}

#[tokio::test]
async fn each_attempt_passes_the_fence_and_is_sent_once() {
    let api = crate::testing::UnavailableApiServer::start("503 Service Unavailable").await;
    let client = crate::api::client(api.config()).unwrap();
    let (terms, term) = watch::channel(Some(Instant::now() + RENEW_WITHIN));
    let secrets = crate::secrets::Secrets::new(fenced(client, term), "shop");
    let content = crate::secrets::NewContent { secret_type: "Opaque", data: Vec::new() };
    let busy = secrets.create("a", Default::default(), &content).await.unwrap_err();
    assert!(matches!(busy.kind(), crate::api::ApiErrorKind::Busy), "{busy}");
    terms.send_replace(None);
    let refused = secrets.create("a", Default::default(), &content).await.unwrap_err();
    assert!(matches!(refused.kind(), crate::api::ApiErrorKind::NotLeading(_)), "{refused}");
    assert_eq!(api.requests(), ["POST"]);
}
