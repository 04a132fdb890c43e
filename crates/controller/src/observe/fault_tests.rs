//! Watches that fail in the ways that API servers, networks and whatever is between them know.

use super::*;
use crate::{
    metrics::Metrics,
    queue::{Outcome, Queue},
    testing::{ApiServer, RefusingServer, api_server},
};
use certmint_contract::{WorkloadKind, WorkloadRef};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";

fn deployment(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "resourceVersion": version,
            "annotations": { "certmint.dev/inject": "true" },
        },
        "spec": { "template": { "metadata": {}, "spec": {} } },
    })
}

fn added(name: &str, version: &str) -> String {
    format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", deployment(name, version))
}

fn key(name: &str) -> WorkloadKey {
    let workload = WorkloadRef::new(WorkloadKind::Deployment, name);
    WorkloadKey { namespace: "shop".parse().unwrap(), workload }
}

/// A watch of Deployments after its first list, which was empty.
async fn watching() -> (Arc<Queue<WorkloadKey>>, ApiServer) {
    let (client, mut server) = api_server();
    let queue = Arc::new(Queue::default());
    let observed = Observed::new(Arc::clone(&queue), 1);
    let source = sources(&[]).swap_remove(0);
    tokio::spawn(watch(client, source, observed, Metrics::default()));
    let list =
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "3" }, "items": [] });
    server.expect("GET", DEPLOYMENTS).await.ok(list);
    (queue, server)
}

/// Passes when the next workload that the queue hands out is that one.
async fn is_next(queue: &Queue<WorkloadKey>, name: &str) {
    let next = tokio::time::timeout(Duration::from_secs(600), queue.next()).await;
    let next = next.unwrap_or_else(|_| panic!("nobody was told of {name}"));
    assert_eq!(next, key(name));
    queue.done(next, Outcome::Settled);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_goes_on_where_it_was_within_minutes() {
    let (queue, mut server) = watching().await;
    server.expect("GET", DEPLOYMENTS).await.unfinished(&added("payments", "4"), false);
    is_next(&queue, "payments").await;
    let silent = Instant::now();
    let call = server.expect("GET", DEPLOYMENTS).await;
    assert!(silent.elapsed() < Duration::from_secs(120), "{:?}", silent.elapsed());
    assert!(call.path.contains("resourceVersion=4"), "{}", call.path);
    call.events(&[("ADDED", deployment("orders", "5"))]);
    is_next(&queue, "orders").await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_in_the_middle_of_an_object_goes_on() {
    let (queue, mut server) = watching().await;
    let half = added("orders", "5");
    let half = format!("{}{}", added("payments", "4"), &half[..half.len() / 2]);
    server.expect("GET", DEPLOYMENTS).await.unfinished(&half, true);
    is_next(&queue, "payments").await;
    // Whether it lists or follows again, what it has missed arrives.
    answer_with(&mut server, "orders", "5").await;
    is_next(&queue, "orders").await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_reset_is_made_anew() {
    let (queue, mut server) = watching().await;
    server.expect("GET", DEPLOYMENTS).await.unfinished(&added("payments", "4"), true);
    is_next(&queue, "payments").await;
    answer_with(&mut server, "orders", "5").await;
    is_next(&queue, "orders").await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_broken_or_busy_is_asked_again_with_patience() {
    let (queue, mut server) = watching().await;
    let start = Instant::now();
    for (code, reason) in [(500, "InternalError"), (503, "ServiceUnavailable"), (429, "TooManyRequests")] {
        server.expect("GET", DEPLOYMENTS).await.fail(code, reason);
    }
    answer_with(&mut server, "orders", "5").await;
    is_next(&queue, "orders").await;
    assert!(start.elapsed() > Duration::from_secs(2), "three failures cost {:?} only", start.elapsed());
}

/// Tells of a workload, by whatever way it is asked.
async fn answer_with(server: &mut ApiServer, name: &str, version: &str) {
    let call = server.expect("GET", DEPLOYMENTS).await;
    if call.path.contains("watch=true") {
        call.events(&[("ADDED", deployment(name, version))]);
    } else {
        let metadata = json!({ "resourceVersion": version });
        let items = [deployment(name, version)];
        call.ok(json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }));
    }
}

#[tokio::test]
async fn after_503_answers_a_watch_waits_as_long_as_its_own_patience_says_and_no_longer() {
    let server = RefusingServer::start("503 Service Unavailable").await;
    let client = crate::api::client(server.config()).unwrap();
    let observed = Observed::new(Arc::new(Queue::default()), 1);
    let source = sources(&[]).swap_remove(0);
    let watching = tokio::spawn(watch(client, source, observed, Metrics::default()));
    let third = async {
        while server.requests().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), third).await.expect("three attempts take 1.5 s");
    let slack = Duration::from_millis(400);
    for (wait, own) in server.waits().into_iter().zip([500, 1_000].map(Duration::from_millis)) {
        assert!(wait + slack / 4 >= own && wait < own + slack, "{wait:?} instead of {own:?}");
    }
    watching.abort();
}
