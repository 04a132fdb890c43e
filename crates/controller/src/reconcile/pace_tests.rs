use super::{
    fixture::{SECRET, fixture, replaced, seen, workload},
    *,
};
use certmint_contract::WorkloadKind;

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_damaged_again_and_again_is_written_less_often() {
    let mut fixture = fixture();
    let mut secret = fixture.issue().await;
    for round in 1.. {
        secret["metadata"]["resourceVersion"] = (10 * round).to_string().into();
        secret["data"]["tls.key"] = "aHVzaA==".into();
        fixture.cache.insert_secret(&seen(&secret));
        let now = Instant::now();
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            if round < pace::BURST {
                fixture.server.expect("GET", SECRET).await.ok(secret.clone());
                replaced(fixture.server.expect("PATCH", SECRET).await);
            }
        });
        if round == pace::BURST {
            assert_eq!(outcome, WorkOutcome::CheckAt(now + pace::INTERVAL));
            break;
        }
    }
    assert_eq!(*fixture.reasons().last().unwrap(), "WrittenTooOften");
    // Whatever happens until then, and whoever asks, nothing is read, written or told.
    let until = Instant::now() + pace::INTERVAL;
    let name = fixture.known().facts.name;
    secret["metadata"]["resourceVersion"] = "1000".into();
    fixture.cache.insert_secret(&seen(&secret));
    assert_eq!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(until));
    fixture.cache.recheck(&fixture.key, Some(&name));
    assert_eq!(fixture.reconciler.reconcile(&fixture.key).await, WorkOutcome::CheckAt(until));
    assert_eq!(fixture.reasons(), [] as [&str; 0]);
    fixture.server.expect_silence().await;
    // When the time has come, one write mends it.
    tokio::time::advance(until - Instant::now()).await;
    let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
        fixture.server.expect("GET", SECRET).await.ok(secret.clone());
        replaced(fixture.server.expect("PATCH", SECRET).await);
    });
    assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
    assert_eq!(fixture.reasons(), ["SecretDamaged", "Renewed"]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_changed_to_and_fro_is_told_so_once() {
    let mut fixture = fixture();
    fixture.issue().await;
    let algorithms = ["ed25519", "ecdsa-p256"].into_iter().cycle();
    let mut told = Vec::new();
    for (round, algorithm) in (1..pace::BURST + 5).zip(algorithms) {
        let mut changed = workload();
        changed["metadata"]["annotations"]["certmint.dev/key-algorithm"] = algorithm.into();
        fixture.cache.insert_workload(WorkloadKind::Deployment, &seen(&changed));
        let (outcome, ()) = tokio::join!(fixture.reconciler.reconcile(&fixture.key), async {
            if round < pace::BURST {
                replaced(fixture.server.expect("PATCH", SECRET).await);
            }
        });
        assert!(matches!(outcome, WorkOutcome::CheckAt(_)), "{outcome:?}");
        told.extend(fixture.reasons());
    }
    assert_eq!(told.iter().filter(|reason| **reason == "WrittenTooOften").count(), 1);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &fixture.registry).unwrap();
    assert!(page.contains("certmint_refusals_total{code=\"WrittenTooOften\"} 3\n"), "{page}");
}
