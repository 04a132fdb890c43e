//! Property tests for any observed state: after a plan was executed, the next plan is to keep, or to refuse or skip as
//! before.

use std::collections::BTreeMap;

use certmint_contract::{Lifetime, TrustGeneration, keys};
use certmint_planner::{IssuerFacts, Owner, Plan, SecretFacts};
use proptest::prelude::*;
use time::Duration;

use crate::fixtures::{NOW, World, deployment, issuer_below, managed, owner, service};

fn any_annotations() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let one = |key: &'static str, values: &'static [&'static str]| {
        prop::option::of(prop::sample::select(values)).prop_map(move |value| value.map(|value| (key, value)))
    };
    (
        one("secret-name", &["my-tls", "payments-certmint-tls"]),
        one("duration", &["10m", "1h", "30d", "31d", "1m", "x"]),
        one("key-algorithm", &["ed25519", "rsa-2048", "dsa"]),
        one("dns-names", &["pay.example.com", "a.pay.example.com,pay.example.com", "evil.example.com"]),
        one("mode", &["secret", "pod"]),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
}

/// Generates a Secret with this name: the workload's own, a predecessor's, another workload's, a foreign or a damaged
/// one.
fn any_secret(name: &'static str) -> impl Strategy<Value = Option<SecretFacts>> {
    let owners = prop::sample::select(vec![
        None,
        Some(owner(&deployment("payments"))),
        Some(owner(&deployment("orders"))),
        Some(Owner { reference: "Deployment/payments".into(), uid: "gone".into() }),
    ]);
    let secret = (any::<bool>(), owners, any::<bool>(), any::<bool>(), 0_i64..40).prop_map(
        move |(label, owner, damaged, spoiled, age)| {
            let mut before = World { now: NOW - Duration::hours(age), ..World::default() };
            let Plan::Issue(order) = before.decide().plan else { unreachable!() };
            before.execute(&before.decide(), 0);
            let mut annotations = before.secrets[0].record.as_ref().unwrap().annotations();
            if spoiled {
                annotations.insert(keys::NOT_AFTER.into(), "soon".into());
            }
            let labels = if label { managed() } else { BTreeMap::new() };
            let mut secret = SecretFacts::new(order.secret_name, name, &labels, &annotations, owner);
            secret.name = name.parse().unwrap();
            secret.damage = damaged.then(|| "the key does not fit".into());
            secret
        },
    );
    prop::option::of(secret)
}

fn any_world() -> impl Strategy<Value = World> {
    let secrets = (any_secret("payments-certmint-tls"), any_secret("my-tls"), any_secret("old-tls"));
    let issuer = prop::option::of((
        prop::sample::select(vec!["ab01", "cd02"]),
        prop::sample::select(vec!["1551", "2662"]),
        -1_i64..2_000,
        prop::option::of(-100_i64..100),
    ));
    let opted = any_annotations();
    (opted, any::<bool>(), secrets, issuer, any::<bool>()).prop_map(
        |(annotations, opted_in, (one, two, three), issuer, has_service)| {
            let world = World {
                services: has_service.then(|| service("payments")).into_iter().collect(),
                secrets: [one, two, three].into_iter().flatten().collect(),
                issuer: issuer.map(|(root, key_identifier, hours, replaced)| IssuerFacts {
                    trust_generation: TrustGeneration::FIRST.next(),
                    key_identifier: key_identifier.into(),
                    reissue_since: replaced.map(|hours| NOW + Duration::hours(hours)),
                    ..issuer_below(root, NOW + Duration::hours(hours))
                }),
                ..World::default()
            }
            .with_policy(r#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#)
            .annotated(&annotations);
            if opted_in { world } else { world.opted_out() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn decisions_are_deterministic(world in any_world()) {
        prop_assert_eq!(world.decide(), world.decide());
    }

    #[test]
    fn after_execution_the_next_plan_is_to_keep(world in any_world(), jitter: u8) {
        let mut world = world;
        let first = world.decide();
        world.execute(&first, jitter);
        let second = world.decide();
        match first.plan {
            Plan::Issue(_) | Plan::Reissue(_) | Plan::RefreshTrust(_) | Plan::Keep { .. } => {
                prop_assert!(matches!(second.plan, Plan::Keep { .. }), "{second:?}");
            }
            settled => prop_assert_eq!(&second.plan, &settled),
        }
        world.execute(&second, jitter);
        let third = world.decide();
        prop_assert_eq!(third.plan, second.plan);
        prop_assert!(third.remove.is_empty());
    }

    #[test]
    fn a_kept_secret_is_valid_and_as_desired(world in any_world()) {
        if let Plan::Keep { until } = world.decide().plan {
            let issuer = world.issuer.clone().or(World::default().issuer);
            let without_secret = World { secrets: Vec::new(), issuer, ..world.clone() }.decide().plan;
            let wanted = if let Plan::Issue(order) = without_secret { order } else { panic!("{without_secret:?}") };
            let kept = world.secrets.iter().find(|secret| secret.name == wanted.secret_name).unwrap();
            prop_assert!(kept.managed && kept.damage.is_none());
            prop_assert_eq!(&kept.owner, &Some(owner(&world.workload)));
            let record = kept.record.as_ref().unwrap();
            prop_assert!(record.not_before <= NOW && NOW < until && until <= record.not_after);
            prop_assert_eq!(&record.dns_names, &wanted.dns_names);
            prop_assert_eq!(&*record.spiffe_id, wanted.spiffe_id.as_str());
            prop_assert_eq!((record.key_algorithm, record.lifetime), (wanted.key_algorithm, wanted.lifetime));
            prop_assert!(world.issuer.is_none_or(|issuer| *issuer.root == *record.root));
        }
    }

    #[test]
    fn foreign_secrets_are_neither_written_nor_removed(world in any_world(), jitter: u8) {
        let others = |world: &World| -> Vec<_> {
            let is_own = |secret: &&SecretFacts| secret.was_made_for(&world.workload)
                || secret.managed && secret.owner.as_ref().is_none_or(|owner| {
                    &*owner.reference == "Deployment/payments"
                });
            world.secrets.iter().filter(|secret| !is_own(secret)).cloned().collect()
        };
        let mut after = world.clone();
        for _ in 0..3 {
            let decision = after.decide();
            after.execute(&decision, jitter);
        }
        prop_assert_eq!(others(&after), others(&world));
    }

    #[test]
    fn renewal_is_between_half_and_two_thirds_of_the_lifetime(seconds in 600_u32..2_592_000, jitter: u8) {
        let mut world = World::default();
        world.policy.default_duration = Lifetime::from_seconds(seconds);
        world.execute(&world.decide(), jitter);
        let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide()) };
        let lifetime = Duration::seconds(seconds.into());
        prop_assert!(until >= NOW + lifetime / 2 && until <= NOW + lifetime * 2 / 3);
        world.now = until - Duration::SECOND;
        let kept = matches!(world.decide().plan, Plan::Keep { .. });
        prop_assert!(kept);
        world.now = until;
        let renewed = matches!(world.decide().plan, Plan::Reissue(_));
        prop_assert!(renewed);
    }
}
