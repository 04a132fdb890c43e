//! Tests of watches that an API server, a network or a proxy interrupts.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::testing::UnavailableApiServer;

fn added(name: &str, version: &str) -> String {
    format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", deployment(name, version, template(name)))
}

/// Starts a watch of Deployments, whose first list is empty.
async fn start_empty_watch() -> (Arc<Queue<WorkloadKey>>, MockApiServer) {
    let (_cache, queue, mut server) = start_watch(WatchedKind::Workload(WorkloadKind::Deployment));
    server.expect("GET", DEPLOYMENTS).await.ok(list(&[], "3"));
    (queue, server)
}

/// Asserts that the queue hands out this workload next.
async fn expect_next(queue: &Queue<WorkloadKey>, name: &str) {
    let next = tokio::time::timeout(Duration::from_secs(600), queue.next()).await;
    let next = next.unwrap_or_else(|_| panic!("{name} is not in the queue"));
    assert_eq!(next, key(name));
    queue.done(next, WorkOutcome::Settled);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_continues_within_minutes() {
    let (queue, mut server) = start_empty_watch().await;
    server.expect("GET", DEPLOYMENTS).await.unfinished(&added("payments", "4"), false);
    expect_next(&queue, "payments").await;
    let silent_since = Instant::now();
    let call = server.expect("GET", DEPLOYMENTS).await;
    assert!(silent_since.elapsed() < Duration::from_secs(120), "{:?}", silent_since.elapsed());
    assert!(call.path.contains("resourceVersion=4"), "{}", call.path);
    call.events(&[("ADDED", deployment("orders", "5", template("orders")))]);
    expect_next(&queue, "orders").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_within_an_object_continues() {
    let (queue, mut server) = start_empty_watch().await;
    let half = added("orders", "5");
    let half = format!("{}{}", added("payments", "4"), &half[..half.len() / 2]);
    server.expect("GET", DEPLOYMENTS).await.unfinished(&half, true);
    expect_next(&queue, "payments").await;
    // The watch may list again or continue; in both cases it gets the changes that it has missed.
    answer_with(&mut server, "orders", "5").await;
    expect_next(&queue, "orders").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_connection_is_reset_continues() {
    let (queue, mut server) = start_empty_watch().await;
    server.expect("GET", DEPLOYMENTS).await.unfinished(&added("payments", "4"), true);
    expect_next(&queue, "payments").await;
    answer_with(&mut server, "orders", "5").await;
    expect_next(&queue, "orders").await;
}

#[tokio::test(start_paused = true)]
async fn waits_before_it_retries_a_failing_api_server() {
    let (queue, mut server) = start_empty_watch().await;
    let start = Instant::now();
    for (code, reason) in [(500, "InternalError"), (503, "ServiceUnavailable"), (429, "TooManyRequests")] {
        server.expect("GET", DEPLOYMENTS).await.fail(code, reason);
    }
    answer_with(&mut server, "orders", "5").await;
    expect_next(&queue, "orders").await;
    assert!(start.elapsed() > Duration::from_secs(2), "only waited {:?} for three failures", start.elapsed());
}

/// Answers a list or a watch with one Deployment.
async fn answer_with(server: &mut MockApiServer, name: &str, version: &str) {
    let call = server.expect("GET", DEPLOYMENTS).await;
    if call.path.contains("watch=true") {
        call.events(&[("ADDED", deployment(name, version, template(name)))]);
    } else {
        call.ok(list(&[deployment(name, version, template(name))], version));
    }
}

#[tokio::test]
async fn only_the_backoff_decides_the_waits_after_503() {
    let server = UnavailableApiServer::start("503 Service Unavailable").await;
    let client = crate::api::client(server.config()).unwrap();
    let cache = Cache::new(Arc::new(Queue::default()), 1);
    let source = source_of(WatchedKind::Workload(WorkloadKind::Deployment));
    let task = tokio::spawn(watch(client, source, cache, Metrics::default()));
    let third = async {
        while server.requests().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), third).await.expect("three attempts take 1.5 s");
    let slack = Duration::from_millis(400);
    for (wait, expected) in server.waits().into_iter().zip([500, 1_000].map(Duration::from_millis)) {
        assert!(wait + slack / 4 >= expected && wait < expected + slack, "{wait:?} instead of {expected:?}");
    }
    task.abort();
}
