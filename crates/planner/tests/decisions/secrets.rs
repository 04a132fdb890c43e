//! Tests of the plan for Secrets.

use std::collections::BTreeMap;

use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, TrustGeneration, keys};
use certmint_planner::{
    Hosts, IssueReason, MAX_NAMES, Owner, Plan, Record, RecordError, Refusal, SecretFacts, Service,
};
use time::Duration;

use crate::fixtures::{NOW, World, deployment, managed, owner, service, texts};

fn refusal(world: &World) -> Refusal {
    let decision = world.decide();
    let Plan::Refuse(refusal) = decision.plan else { panic!("{decision:?}") };
    assert!(decision.remove.is_empty());
    refusal
}

/// Returns the reason for which the settled world's Secret is reissued after a change.
fn reissue_reason(change: impl FnOnce(&mut World)) -> String {
    let mut world = World::default().settled();
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
    change(&mut world);
    let Plan::Reissue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    order.reason.to_string()
}

fn foreign(world: &World) -> SecretFacts {
    let name = world.workload.reference.default_secret_name().unwrap();
    SecretFacts::new(name, "foreign-1", &BTreeMap::new(), &BTreeMap::new(), None)
}

#[test]
fn the_first_order_is_complete() {
    let Plan::Issue(order) = World::default().decide().plan else { panic!() };
    assert_eq!(order.secret_name.as_str(), "payments-certmint-tls");
    assert_eq!(texts(&order.dns_names), ["payments.shop.svc", "payments.shop.svc.cluster.local"]);
    assert_eq!(order.spiffe_id.as_str(), "spiffe://cluster.local/ns/shop/sa/payments");
    assert_eq!(order.key_algorithm, KeyAlgorithm::EcdsaP256);
    assert_eq!(order.lifetime.to_string(), "24h");
    assert_eq!(order.reason.to_string(), "first issue");
}

#[test]
fn annotations_determine_the_order() {
    let world =
        World::default().with_policy(r#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).annotated(&[
            ("secret-name", "my-tls"),
            ("dns-names", "eu.pay.example.com"),
            ("duration", "90m"),
            ("key-algorithm", "rsa-3072"),
        ]);
    let Plan::Issue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(order.secret_name.as_str(), "my-tls");
    assert!(order.dns_names.contains(&"eu.pay.example.com".parse().unwrap()));
    assert_eq!((order.lifetime.to_string().as_str(), order.key_algorithm), ("1h30m", KeyAlgorithm::Rsa3072));
}

#[test]
fn a_fresh_certificate_is_kept_until_renewal_is_due() {
    let world = World::default().settled();
    let Plan::Keep { until } = world.decide().plan else { panic!("{:?}", world.decide()) };
    let recorded = world.secrets[0].record.as_ref().unwrap();
    assert_eq!(until, recorded.renew_at);
    assert!(until > NOW + Duration::hours(12) && until < NOW + Duration::hours(16));
}

#[test]
fn every_reason_has_a_text() {
    assert_eq!(reissue_reason(|world| world.now += Duration::hours(17)), "renewal due");
    let renamed = |world: &mut World| {
        world.services[0].name = "pay".into();
        world.hosts = Hosts::default();
    };
    assert_eq!(
        reissue_reason(renamed),
        "names changed: +pay.shop.svc +pay.shop.svc.cluster.local -payments.shop.svc -payments.shop.svc.cluster.local"
    );
    let account = |world: &mut World| world.workload.service_account = "clerk".into();
    assert_eq!(reissue_reason(account), "identity changed, was spiffe://cluster.local/ns/shop/sa/payments");
    let algorithm = |world: &mut World| *world = world.clone().annotated(&[("key-algorithm", "ed25519")]);
    assert_eq!(reissue_reason(algorithm), "key algorithm changed, was ecdsa-p256");
    let duration = |world: &mut World| *world = world.clone().annotated(&[("duration", "2h")]);
    assert_eq!(reissue_reason(duration), "duration changed, was 24h");
    let root = |world: &mut World| world.issuer.as_mut().unwrap().root = "cd02".into();
    assert_eq!(reissue_reason(root), "root changed");
    assert_eq!(reissue_reason(|world| world.workload.uid = "payments-2".into()), "owner changed");
    assert_eq!(reissue_reason(|world| world.secrets[0].owner = None), "owner changed");
    let damage = |world: &mut World| world.secrets[0].damage = Some("the key does not fit".into());
    assert_eq!(reissue_reason(damage), "damaged: the key does not fit");
    let label = |world: &mut World| world.secrets[0].managed = false;
    assert_eq!(reissue_reason(label), "damaged: label certmint.dev/managed is missing");
}

#[test]
fn another_issuing_ca_of_the_same_root_changes_nothing() {
    let mut world = World::default().settled();
    let record = world.secrets[0].record.as_mut().unwrap();
    record.issuer = "0dd1".into();
    let until = record.renew_at;
    assert_eq!(world.decide().plan, Plan::Keep { until });
}

#[test]
fn renews_nothing_that_would_end_no_later() {
    let mut world = World::default();
    let end = NOW + Duration::hours(6);
    world.issuer.as_mut().unwrap().not_after = end;
    let mut world = world.settled();
    for left in [5 * 3_600, 60, 2, 1] {
        world.now = end - Duration::seconds(left);
        assert_eq!(world.decide().plan, Plan::Keep { until: end });
    }
    world.now = end;
    assert_eq!(refusal(&world).code, ErrorCode::CaUnavailable);
    // A new issuing CA that ends later makes a renewal useful.
    world.now = end - Duration::hours(1);
    world.issuer.as_mut().unwrap().not_after = end + Duration::days(90);
    assert!(matches!(world.decide().plan, Plan::Reissue(_)));
}

#[test]
fn an_older_trust_bundle_is_refreshed_and_the_certificate_stays() {
    let mut world = World::default().settled();
    let issued = world.secrets[0].clone();
    let next = TrustGeneration::FIRST.next();
    world.issuer.as_mut().unwrap().trust_generation = next;
    let decision = world.decide();
    assert_eq!(decision.plan, Plan::RefreshTrust(issued.name.clone()));
    world.execute(&decision, 0);
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
    let record = |secret: &SecretFacts| secret.record.clone().unwrap();
    assert_eq!(
        record(&world.secrets[0]),
        Record { trust_generation: next, ..record(&issued) },
        "only the generation differs"
    );
}

#[test]
fn a_certificate_that_is_due_is_reissued_with_the_newer_trust_bundle() {
    let mut world = World::default().settled();
    world.issuer.as_mut().unwrap().trust_generation = TrustGeneration::FIRST.next();
    world.now += Duration::hours(23);
    let Plan::Reissue(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    assert_eq!(order.reason, IssueReason::RenewalDue);
}

#[test]
fn a_secret_of_a_newer_generation_is_not_refreshed() {
    let mut world = World::default().settled();
    world.secrets[0].record.as_mut().unwrap().trust_generation = TrustGeneration::FIRST.next();
    assert!(matches!(world.decide().plan, Plan::Keep { .. }), "this replica may not know the generation yet");
}

#[test]
fn a_missing_or_invalid_annotation_is_repaired() {
    let world = World::default().settled();
    let written = world.secrets[0].record.as_ref().unwrap().annotations();
    for key in written.keys() {
        let repair = |annotations: &BTreeMap<String, String>| {
            let mut world = world.clone();
            let own = Some(owner(&world.workload));
            let name = world.secrets[0].name.clone();
            world.secrets = vec![SecretFacts::new(name, "s", &managed(), annotations, own)];
            let Plan::Reissue(order) = world.decide().plan else { panic!("{key}: {:?}", world.decide()) };
            order.reason.to_string()
        };
        let mut annotations = written.clone();
        // Secrets of version 0.1.0 lack the generation.
        if key != keys::TRUST_GENERATION {
            annotations.remove(key);
            assert_eq!(repair(&annotations), format!("damaged: {}", RecordError::Missing(leak(key))));
        }
        // The planner accepts any serial number and issuer. The controller compares both with the certificate itself.
        if ![keys::SERIAL, keys::ISSUER].contains(&key.as_str()) {
            annotations.insert(key.clone(), "*spoiled*".into());
            repair(&annotations);
        }
    }
}

fn leak(key: &str) -> &'static str {
    Box::leak(key.into())
}

#[test]
fn rejects_a_list_of_too_many_names() {
    let world = World::default().settled();
    let mut annotations = world.secrets[0].record.as_ref().unwrap().annotations();
    annotations.insert(keys::DNS_NAMES.into(), "a,".repeat(MAX_NAMES));
    assert!(Record::parse(&annotations).is_ok());
    annotations.insert(keys::DNS_NAMES.into(), "a,".repeat(100_000));
    let error = Record::parse(&annotations).unwrap_err().to_string();
    assert_eq!(error, "annotation certmint.dev/dns-names is not readable: more than 500 names");
}

#[test]
fn the_text_of_a_reason_stays_short() {
    let many = |prefix: &str| -> Vec<_> {
        (0..MAX_NAMES / 2)
            .map(|index| Service { name: format!("{prefix}-{index}").into(), ..service("payments") })
            .collect()
    };
    let reason = reissue_reason(|world| {
        *world = World { services: many("blue"), ..World::default() }.settled();
        world.services = many("green");
    });
    assert!(reason.starts_with("names changed: +green-0.shop.svc "), "{reason}");
    assert!(reason.ends_with(" -480 more") && reason.len() < 2_000, "{reason}");
}

#[test]
fn an_edited_annotation_cannot_delay_renewal() {
    let mut world = World::default().settled();
    let record = world.secrets[0].record.as_mut().unwrap();
    record.renew_at = NOW + Duration::days(365);
    world.now += Duration::hours(16);
    assert!(matches!(world.decide().plan, Plan::Reissue(_)));
}

#[test]
fn reissues_a_certificate_that_is_not_valid_yet() {
    let reason = reissue_reason(|world| world.now -= Duration::hours(1));
    assert_eq!(reason, "damaged: the certificate is not valid yet");
}

#[test]
fn a_foreign_secret_is_never_changed() {
    let mut world = World::default();
    world.secrets.push(foreign(&world));
    let Refusal { code, message } = refusal(&world);
    assert_eq!(code, ErrorCode::ForeignSecret);
    assert_eq!(
        message,
        "Deployment/payments in shop: Secret payments-certmint-tls exists and was not created by Certmint, so Certmint does not change it; delete it, or set another certmint.dev/secret-name"
    );
    // An owner reference alone is not proof that Certmint created the Secret.
    world.secrets[0].owner = Some(owner(&world.workload));
    assert_eq!(refusal(&world).code, ErrorCode::ForeignSecret);
    // Certmint's label alone is not proof either.
    world.secrets[0] = SecretFacts { managed: true, owner: None, ..foreign(&world) };
    assert_eq!(refusal(&world).code, ErrorCode::ForeignSecret);
}

#[test]
fn two_workloads_cannot_share_a_secret() {
    let mut world = World { workload: deployment("orders"), ..World::default() }
        .annotated(&[("secret-name", "payments-certmint-tls")]);
    world.secrets = World::default().settled().secrets;
    let refused = refusal(&world);
    assert_eq!(refused.code, ErrorCode::SecretClaimed);
    assert!(refused.message.contains("belongs to Deployment/payments"), "{}", refused.message);
    // The annotation names the workload when the owner reference is missing.
    world.secrets[0].owner = None;
    assert_eq!(refusal(&world).code, ErrorCode::SecretClaimed);
    // An owner of an unsupported kind counts, too.
    world.secrets[0].owner = Some(Owner { reference: "Rollout/orders".into(), uid: "r".into() });
    assert_eq!(refusal(&world).code, ErrorCode::SecretClaimed);
}

#[test]
fn the_old_secret_is_removed_after_the_new_one_exists() {
    let mut world = World::default().settled().annotated(&[("secret-name", "my-tls")]);
    let first = world.decide();
    assert!(matches!(first.plan, Plan::Issue(_)) && first.remove.is_empty(), "{first:?}");
    world.execute(&first, 0);
    let second = world.decide();
    assert!(matches!(second.plan, Plan::Keep { .. }), "{second:?}");
    assert_eq!(second.remove[0].name.as_str(), "payments-certmint-tls");
    assert_eq!(second.remove.len(), 1);
    world.execute(&second, 0);
    assert!(world.decide().remove.is_empty());
}

#[test]
fn opting_out_removes_only_the_workloads_own_secret() {
    let mut world = World::default().settled().opted_out();
    let decision = world.decide();
    assert_eq!(decision.plan, Plan::NotWanted);
    assert_eq!(decision.remove[0].name.as_str(), "payments-certmint-tls");
    for secret in [
        foreign(&world),
        SecretFacts { owner: Some(owner(&deployment("orders"))), ..world.secrets[0].clone() },
        SecretFacts { managed: false, ..world.secrets[0].clone() },
        // A foreign Secret with Certmint's label and the Deployment as its owner.
        SecretFacts { record: foreign(&world).record, ..world.secrets[0].clone() },
    ] {
        world.secrets = vec![secret];
        assert!(world.decide().remove.is_empty(), "{world:?}");
    }
}

#[test]
fn a_refusal_lists_every_violation() {
    let world = World::default().with_policy(r#"{"keyAlgorithms":["ecdsa-p256"]}"#).annotated(&[
        ("duration", "365d"),
        ("key-algorithm", "rsa-4096"),
        ("dns-names", "bank.example.com"),
    ]);
    let Refusal { code, message } = refusal(&world);
    assert_eq!(code, ErrorCode::NotAllowed);
    assert_eq!(
        message,
        "Deployment/payments in shop: annotation certmint.dev/duration: 8760h is not allowed; the policy allows 10m to 720h; annotation certmint.dev/key-algorithm: rsa-4096 is not allowed; the policy allows ecdsa-p256; annotation certmint.dev/dns-names: bank.example.com is not allowed in namespace shop; ask your platform engineer to add it to extraDnsNames, or remove it (names of Services are always allowed)"
    );
    let world = World::default().with_policy(r#"{"excludedNamespaces":["shop"]}"#);
    assert!(refusal(&world).message.contains("namespace shop is excluded by the policy"));
}

#[test]
fn refuses_unsupported_modes() {
    for mode in ["pod", "kubelet"] {
        let Refusal { code, message } = refusal(&World::default().annotated(&[("mode", mode)]));
        assert_eq!(code, ErrorCode::UnsupportedMode);
        assert!(message.contains(&format!("mode \"{mode}\" is not supported yet")), "{message}");
    }
}

#[test]
fn an_unsupported_mode_changes_no_secret() {
    let secret_name = ("secret-name", "my-tls");
    let world = World::default().annotated(&[secret_name]).settled();
    let world = world.annotated(&[secret_name, ("mode", "pod")]);
    assert_eq!(refusal(&world).code, ErrorCode::UnsupportedMode);
}

#[test]
fn a_refusal_lists_every_annotation_error() {
    let refused = refusal(&World::default().annotated(&[("duration", "banana"), ("mdoe", "secret")]));
    assert_eq!(refused.code, ErrorCode::UnknownAnnotation);
    assert!(refused.message.contains("banana") && refused.message.contains("certmint.dev/mdoe"));
}

#[test]
fn without_a_ca_certificates_are_kept_and_none_is_ordered() {
    let mut world = World::default().settled();
    world.issuer = None;
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
    world.now += Duration::hours(20);
    assert_eq!(refusal(&world).code, ErrorCode::CaUnavailable);
    let mut world = World::default();
    world.issuer.as_mut().unwrap().not_after = NOW;
    assert!(refusal(&world).message.contains("expired at 2026-03-01T12:00:00Z"));
}

#[test]
fn an_empty_list_of_names_can_be_read_back() {
    let mut world = World::default();
    world.services.clear();
    let world = world.settled();
    assert_eq!(world.secrets[0].record.as_ref().unwrap().dns_names, Vec::<DnsName>::new());
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
}
