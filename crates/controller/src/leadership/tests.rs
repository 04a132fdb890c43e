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

fn campaign(client: kube::Client, terms: watch::Sender<Term>) -> Campaign {
    Campaign { client, lease: name(), clock: Clock::default(), terms }
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
    let campaign = tokio::spawn(campaign(client, terms).run(shutdown.clone()));
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
async fn a_lease_that_was_deleted_stays_its_holders_for_as_long_as_it_was_good() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    assert_eq!(attempt(&mut lease, &mut server, held_by("other", "7")).await, Standing::Follower);
    let (standing, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.fail(404, "NotFound");
    });
    assert_eq!(standing.unwrap(), Standing::Follower);
    tokio::time::advance(Duration::from_secs(16)).await;
    let (standing, ()) = tokio::join!(lease.attempt(), async {
        server.expect("GET", LEASE).await.fail(404, "NotFound");
        server.expect("POST", LEASES).await.written("9");
    });
    assert_eq!(standing.unwrap(), Standing::Holder);
}

#[tokio::test(start_paused = true)]
async fn a_lease_edited_to_another_holder_ends_the_term_at_the_next_look() {
    let (client, mut server) = api_server();
    let (terms, mut seen) = watch::channel(None);
    let campaign = tokio::spawn(campaign(client, terms).run(CancellationToken::new()));
    server.expect("GET", LEASE).await.fail(404, "NotFound");
    server.expect("POST", LEASES).await.written("1");
    seen.wait_for(Option::is_some).await.unwrap();
    server.expect("GET", LEASE).await.ok(held_by("stranger", "2"));
    seen.wait_for(Option::is_none).await.unwrap();
    // Nor is it taken back before it has run out.
    server.expect("GET", LEASE).await.ok(held_by("stranger", "2"));
    server.expect("GET", LEASE).await.ok(held_by("stranger", "2"));
    campaign.abort();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_may_no_longer_renew_stops_when_its_term_ends() {
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
    assert!(sent.elapsed() >= RENEW_WITHIN - PACE, "{:?}", sent.elapsed());
    assert!(!leads(&seen));
    campaign.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_written_after_the_term_is_not_sent() {
    let (client, mut server) = api_server();
    let (terms, term) = watch::channel(None);
    let secrets = crate::secrets::Secrets::new(fenced(client, term), "shop");
    let content = crate::secrets::NewContent { kind: "Opaque", data: Vec::new() };
    terms.send_replace(Some(Instant::now() + RENEW_WITHIN));
    let (written, ()) = tokio::join!(secrets.create("a", Default::default(), &content), async {
        server.expect("POST", "/api/v1/namespaces/shop/secrets").await.written("1");
    });
    written.unwrap();
    // Nobody has said yet that the term is over: the clock has.
    tokio::time::advance(RENEW_WITHIN).await;
    let refused = secrets.create("a", Default::default(), &content).await.unwrap_err();
    assert!(matches!(refused.fault(), crate::api::Fault::NotLeading(_)), "{refused}");
    server.expect_silence().await;
    let (read, ()) = tokio::join!(secrets.get("a"), async {
        server.expect("GET", "/api/v1/namespaces/shop/secrets/a").await.fail(404, "NotFound");
    });
    assert!(read.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_leader_makes_its_deleted_lease_anew() {
    let (client, mut server) = api_server();
    let mut lease = Lease::new(client, name());
    for version in ["1", "2"] {
        let (standing, ()) = tokio::join!(lease.attempt(), async {
            server.expect("GET", LEASE).await.fail(404, "NotFound");
            server.expect("POST", LEASES).await.written(version);
        });
        assert_eq!(standing.unwrap(), Standing::Holder);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_differs_gives_the_lease_up_until_its_clock_is_right() {
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
    assert!(!leads(&seen), "it still led when it gave the lease up");
    assert_eq!(call.body["spec"]["holderIdentity"], "");
    call.written("2");
    // The other replica is free to take it, and this one does not try.
    server.expect_silence().await;
    clock.move_ahead(time::Duration::ZERO);
    server.expect("GET", LEASE).await.ok(held_by("", "3"));
    server.expect("PUT", LEASE).await.written("4");
    seen.wait_for(Option::is_some).await.unwrap();
    campaign.abort();
}

#[tokio::test]
async fn the_fence_is_asked_before_each_attempt_and_nothing_below_it_repeats_one() {
    let api = crate::testing::RefusingServer::start("503 Service Unavailable").await;
    let client = crate::api::client(api.config()).unwrap();
    let (terms, term) = watch::channel(Some(Instant::now() + RENEW_WITHIN));
    let secrets = crate::secrets::Secrets::new(fenced(client, term), "shop");
    let content = crate::secrets::NewContent { kind: "Opaque", data: Vec::new() };
    let busy = secrets.create("a", Default::default(), &content).await.unwrap_err();
    assert!(matches!(busy.fault(), crate::api::Fault::Busy), "{busy}");
    terms.send_replace(None);
    let refused = secrets.create("a", Default::default(), &content).await.unwrap_err();
    assert!(matches!(refused.fault(), crate::api::Fault::NotLeading(_)), "{refused}");
    assert_eq!(api.requests(), ["POST"]);
}
