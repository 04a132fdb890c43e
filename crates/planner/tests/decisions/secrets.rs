//! What happens with Secrets.

use crate::fixtures::{NOW, World, deployment, managed, owner, service, texts};
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, keys};
use certmint_planner::{Hosts, MAX_NAMES, Owner, Plan, Record, RecordError, Refusal, SecretFacts, Service};
use std::collections::BTreeMap;
use time::Duration;

fn refusal(world: &World) -> Refusal {
    let decision = world.decide();
    let Plan::Refuse(refusal) = decision.plan else { panic!("{decision:?}") };
    assert!(decision.remove.is_empty());
    refusal
}

/// Why the settled world's Secret is replaced after a change.
fn renewal(change: impl FnOnce(&mut World)) -> String {
    let mut world = World::default().settled();
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
    change(&mut world);
    let Plan::Renew(order) = world.decide().plan else { panic!("{:?}", world.decide()) };
    order.reason.to_string()
}

fn foreign(world: &World) -> SecretFacts {
    let name = world.workload.reference.default_secret_name().unwrap();
    SecretFacts::new(name, "foreign-1", &BTreeMap::new(), &BTreeMap::new(), None)
}

#[test]
fn the_first_certificate_is_ordered_with_everything_in_it() {
    let Plan::Issue(order) = World::default().decide().plan else { panic!() };
    assert_eq!(order.secret_name.as_str(), "payments-certmint-tls");
    assert_eq!(texts(&order.dns_names), ["payments.shop.svc", "payments.shop.svc.cluster.local"]);
    assert_eq!(order.spiffe_id.as_str(), "spiffe://cluster.local/ns/shop/sa/payments");
    assert_eq!(order.key_algorithm, KeyAlgorithm::EcdsaP256);
    assert_eq!(order.lifetime.to_string(), "24h");
    assert_eq!(order.reason.to_string(), "first issue");
}

#[test]
fn annotations_shape_the_order() {
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
fn every_reason_is_told_in_words() {
    assert_eq!(renewal(|world| world.now += Duration::hours(17)), "renewal due");
    let renamed = |world: &mut World| {
        world.services[0].name = "pay".into();
        world.hosts = Hosts::default();
    };
    assert_eq!(
        renewal(renamed),
        "names changed: +pay.shop.svc +pay.shop.svc.cluster.local -payments.shop.svc -payments.shop.svc.cluster.local"
    );
    let account = |world: &mut World| world.workload.service_account = "clerk".into();
    assert_eq!(renewal(account), "identity changed, was spiffe://cluster.local/ns/shop/sa/payments");
    let algorithm = |world: &mut World| *world = world.clone().annotated(&[("key-algorithm", "ed25519")]);
    assert_eq!(renewal(algorithm), "key algorithm changed, was ecdsa-p256");
    let duration = |world: &mut World| *world = world.clone().annotated(&[("duration", "2h")]);
    assert_eq!(renewal(duration), "duration changed, was 24h");
    let root = |world: &mut World| world.issuer.as_mut().unwrap().root = "cd02".into();
    assert_eq!(renewal(root), "root changed");
    assert_eq!(renewal(|world| world.workload.uid = "payments-2".into()), "owner changed");
    assert_eq!(renewal(|world| world.secrets[0].owner = None), "owner changed");
    let damage = |world: &mut World| world.secrets[0].damage = Some("the key does not fit".into());
    assert_eq!(renewal(damage), "damaged: the key does not fit");
    let label = |world: &mut World| world.secrets[0].managed = false;
    assert_eq!(renewal(label), "damaged: label certmint.dev/managed is missing");
}

#[test]
fn another_issuing_ca_of_the_same_root_changes_nothing_until_renewal_is_due() {
    let mut world = World::default().settled();
    let record = world.secrets[0].record.as_mut().unwrap();
    record.issuer = "0dd1".into();
    let until = record.renew_at;
    assert_eq!(world.decide().plan, Plan::Keep { until });
}

#[test]
fn towards_the_end_of_the_ca_nothing_is_renewed_that_would_end_no_later() {
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
    // A successor is worth one.
    world.now = end - Duration::hours(1);
    world.issuer.as_mut().unwrap().not_after = end + Duration::days(90);
    assert!(matches!(world.decide().plan, Plan::Renew(_)));
}

#[test]
fn any_annotation_of_ours_that_is_lost_or_spoiled_is_repaired() {
    let world = World::default().settled();
    let written = world.secrets[0].record.as_ref().unwrap().annotations();
    for key in written.keys() {
        let repair = |annotations: &BTreeMap<String, String>| {
            let mut world = world.clone();
            let own = Some(owner(&world.workload));
            let name = world.secrets[0].name.clone();
            world.secrets = vec![SecretFacts::new(name, "s", &managed(), annotations, own)];
            let Plan::Renew(order) = world.decide().plan else { panic!("{key}: {:?}", world.decide()) };
            order.reason.to_string()
        };
        let mut annotations = written.clone();
        annotations.remove(key);
        assert_eq!(repair(&annotations), format!("damaged: {}", RecordError::Missing(leak(key))));
        // These are compared with the certificate itself, when somebody else wrote the Secret.
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
fn a_list_of_more_names_than_there_can_be_is_not_read() {
    let world = World::default().settled();
    let mut annotations = world.secrets[0].record.as_ref().unwrap().annotations();
    annotations.insert(keys::DNS_NAMES.into(), "a,".repeat(MAX_NAMES));
    assert!(Record::parse(&annotations).is_ok());
    annotations.insert(keys::DNS_NAMES.into(), "a,".repeat(100_000));
    let error = Record::parse(&annotations).unwrap_err().to_string();
    assert_eq!(error, "annotation certmint.dev/dns-names is not readable: more than 500 names");
}

#[test]
fn a_reason_that_names_hundreds_stays_short() {
    let many = |prefix: &str| -> Vec<_> {
        (0..MAX_NAMES / 2)
            .map(|index| Service { name: format!("{prefix}-{index}").into(), ..service("payments") })
            .collect()
    };
    let reason = renewal(|world| {
        *world = World { services: many("blue"), ..World::default() }.settled();
        world.services = many("green");
    });
    assert!(reason.starts_with("names changed: +green-0.shop.svc "), "{reason}");
    assert!(reason.ends_with(" -480 more") && reason.len() < 2_000, "{reason}");
}

#[test]
fn a_renewal_annotation_set_by_hand_defers_nothing() {
    let mut world = World::default().settled();
    let record = world.secrets[0].record.as_mut().unwrap();
    record.renew_at = NOW + Duration::days(365);
    world.now += Duration::hours(16);
    assert!(matches!(world.decide().plan, Plan::Renew(_)));
}

#[test]
fn a_certificate_of_a_clock_that_was_ahead_is_replaced() {
    let reason = renewal(|world| world.now -= Duration::hours(1));
    assert_eq!(reason, "damaged: the certificate is not valid yet");
}

#[test]
fn a_foreign_secret_is_never_touched() {
    let mut world = World::default();
    world.secrets.push(foreign(&world));
    let Refusal { code, message } = refusal(&world);
    assert_eq!(code, ErrorCode::ForeignSecret);
    assert_eq!(
        message,
        "Deployment/payments in shop: Secret payments-certmint-tls exists and was not made by Certmint, so it stays as it is; remove it, or write another certmint.dev/secret-name"
    );
    // Not even with the right owner: without our label nothing says that we made it.
    world.secrets[0].owner = Some(owner(&world.workload));
    assert_eq!(refusal(&world).code, ErrorCode::ForeignSecret);
    // Nor with our label alone.
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
    // An annotation alone speaks for its workload when the owner was lost.
    world.secrets[0].owner = None;
    assert_eq!(refusal(&world).code, ErrorCode::SecretClaimed);
    // An owner of a kind we do not know is somebody all the same.
    world.secrets[0].owner = Some(Owner { reference: "Rollout/orders".into(), uid: "r".into() });
    assert_eq!(refusal(&world).code, ErrorCode::SecretClaimed);
}

#[test]
fn a_renamed_secret_goes_once_the_new_one_stands() {
    let mut world = World::default().settled().annotated(&[("secret-name", "my-tls")]);
    let first = world.decide();
    assert!(matches!(first.plan, Plan::Issue(_)) && first.remove.is_empty(), "{first:?}");
    world.carry_out(&first, 0);
    let second = world.decide();
    assert!(matches!(second.plan, Plan::Keep { .. }), "{second:?}");
    assert_eq!(second.remove[0].name.as_str(), "payments-certmint-tls");
    assert_eq!(second.remove.len(), 1);
    world.carry_out(&second, 0);
    assert!(world.decide().remove.is_empty());
}

#[test]
fn opting_out_removes_what_is_the_workloads_own_and_nothing_else() {
    let mut world = World::default().settled().opted_out();
    let decision = world.decide();
    assert_eq!(decision.plan, Plan::NotWanted);
    assert_eq!(decision.remove[0].name.as_str(), "payments-certmint-tls");
    for secret in [
        foreign(&world),
        SecretFacts { owner: Some(owner(&deployment("orders"))), ..world.secrets[0].clone() },
        SecretFacts { managed: false, ..world.secrets[0].clone() },
        // A user's own, with our label and their Deployment as its owner.
        SecretFacts { record: foreign(&world).record, ..world.secrets[0].clone() },
    ] {
        world.secrets = vec![secret];
        assert!(world.decide().remove.is_empty(), "{world:?}");
    }
}

#[test]
fn what_is_not_allowed_is_refused_all_at_once() {
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
fn a_mode_that_is_not_built_yet_is_refused_by_name() {
    for mode in ["pod", "kubelet"] {
        let Refusal { code, message } = refusal(&World::default().annotated(&[("mode", mode)]));
        assert_eq!(code, ErrorCode::UnsupportedMode);
        assert!(message.contains(&format!("mode \"{mode}\" is not supported yet")), "{message}");
    }
}

#[test]
fn faulty_annotations_are_refused_with_every_fault() {
    let refused = refusal(&World::default().annotated(&[("duration", "banana"), ("mdoe", "secret")]));
    assert_eq!(refused.code, ErrorCode::UnknownAnnotation);
    assert!(refused.message.contains("banana") && refused.message.contains("certmint.dev/mdoe"));
}

#[test]
fn without_a_ca_what_is_there_is_kept_and_nothing_is_ordered() {
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
fn an_annotation_of_no_names_reads_back() {
    let mut world = World::default();
    world.services.clear();
    let world = world.settled();
    assert_eq!(world.secrets[0].record.as_ref().unwrap().dns_names, Vec::<DnsName>::new());
    assert!(matches!(world.decide().plan, Plan::Keep { .. }));
}
