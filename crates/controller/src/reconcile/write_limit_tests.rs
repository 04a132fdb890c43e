//! Tests of the limit for writes of one Secret.

use certmint_contract::WorkloadKind;

use super::fixture::{SECRET, fixture, replaced, seen, workload};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_damaged_repeatedly_is_written_less_often() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    for round in 1.. {
        secret["metadata"]["resourceVersion"] = (10 * round).to_string().into();
        secret["data"]["tls.key"] = "aHVzaA==".into();
        fixture.cache.insert_secret(&seen(&secret));
        let now = Instant::now();
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            if round < write_limit::BURST {
                fixture.server.expect("GET", SECRET).await.ok(secret.clone());
                replaced(fixture.server.expect("PATCH", SECRET).await);
            }
        });
        if round == write_limit::BURST {
            assert_eq!(outcome, WorkOutcome::CheckAt(now + write_limit::INTERVAL));
            break;
        }
    }
    assert_eq!(*fixture.reasons().last().unwrap(), "WrittenTooOften");
    // Until the time of the next write, nothing is read, written or reported, even if the Secret changes.
    let until = Instant::now() + write_limit::INTERVAL;
    let name = fixture.known().facts.name;
    secret["metadata"]["resourceVersion"] = "1000".into();
    fixture.cache.insert_secret(&seen(&secret));
    assert_eq!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(until));
    fixture.cache.recheck(&fixture.key, Some(&name));
    assert_eq!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(until));
    assert_eq!(fixture.reasons(), [] as [&str; 0]);
    fixture.server.expect_no_call().await;
    // At that time one write repairs the Secret.
    tokio::time::advance(until - Instant::now()).await;
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        replaced(fixture.server.expect("PATCH", SECRET).await);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["SecretDamaged", "Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_changes_back_and_forth_gets_one_warning() {
    let mut fixture = fixture();
    fixture.issue().await;
    let algorithms = ["ed25519", "ecdsa-p256"].into_iter().cycle();
    let mut reasons = Vec::new();
    for (round, algorithm) in (1..write_limit::BURST + 5).zip(algorithms) {
        let mut changed = workload();
        changed["metadata"]["annotations"]["certmint.dev/key-algorithm"] = algorithm.into();
        fixture.cache.insert_workload(WorkloadKind::Deployment, &seen(&changed));
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            if round < write_limit::BURST {
                replaced(fixture.server.expect("PATCH", SECRET).await);
            }
        });
        assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
        reasons.extend(fixture.reasons());
    }
    assert_eq!(reasons.iter().filter(|reason| **reason == "WrittenTooOften").count(), 1);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &fixture.registry).unwrap();
    assert!(page.contains("certmint_refusals_total{code=\"WrittenTooOften\"} 3\n"), "{page}");
}
