//! Tests of the plan for the CA.

use certmint_contract::lifetime::BACKDATE;
use certmint_contract::policy::CaLifetimes;
use certmint_contract::{ErrorCode, Lifetime, Policy, TrustGeneration};
use certmint_planner::{
    CaFacts, CaObserved, CaPlan, CaSecret, IssuingCaRequest, PublishedTrust, RotationReason, plan_ca,
};
use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use crate::fixtures::{NOW, texts};

/// Returns a CA that was created at `now` under the policy. Its root ends at `root_not_after`.
fn valid_ca(policy: &Policy, now: OffsetDateTime, root_not_after: OffsetDateTime) -> CaObserved {
    let facts = CaFacts {
        root_not_after,
        issuing_not_before: now - BACKDATE,
        issuing_not_after: (now + policy.ca.issuing_lifetime.duration()).min(root_not_after),
        permitted_dns: policy.permitted_dns(),
    };
    with_secret(CaSecret::Usable(facts))
}

/// Returns an observed CA with this Secret, whose trust bundle is published.
fn with_secret(secret: CaSecret) -> CaObserved {
    CaObserved {
        secret,
        published: PublishedTrust::Current,
        evidence_of_earlier_ca: None,
        request: None,
        last_request: None,
    }
}

/// Returns a policy with this longest duration, and with the shortest lifetime of the issuing CA that it permits.
fn with_longest_duration(seconds: u32) -> Policy {
    let issuing_lifetime = Lifetime::from_seconds(3 * seconds);
    let ca = CaLifetimes { root_lifetime: issuing_lifetime, issuing_lifetime };
    Policy { longest_duration: Lifetime::from_seconds(seconds), ca, ..Policy::default() }
}

fn in_ten_years() -> OffsetDateTime {
    NOW + Duration::days(3_650)
}

fn refusal(observed: &CaObserved) -> String {
    let CaPlan::Refuse(refusal) = plan_ca(observed, &Policy::default(), NOW) else { panic!("{observed:?}") };
    assert_eq!(refusal.code, ErrorCode::CaUnavailable);
    refusal.message
}

#[test]
fn creates_a_ca_only_without_evidence_of_an_earlier_one() {
    let nothing = CaObserved {
        secret: CaSecret::Absent,
        published: PublishedTrust::Absent,
        evidence_of_earlier_ca: None,
        request: None,
        last_request: None,
    };
    assert_eq!(plan_ca(&nothing, &Policy::default(), NOW), CaPlan::CreateAll);
    let evidence = Some("Secret shop/payments-certmint-tls".to_owned());
    for (published, evidence, named) in [
        (PublishedTrust::Differs, None, "its trust bundle"),
        (PublishedTrust::Absent, evidence.clone(), "Secret shop/payments-certmint-tls"),
        (PublishedTrust::Differs, evidence, "its trust bundle"),
    ] {
        let message = refusal(&CaObserved { published, evidence_of_earlier_ca: evidence, ..nothing.clone() });
        assert!(message.contains(&format!("{named} still exists; restore")), "{message}");
    }
}

#[test]
fn refuses_a_damaged_or_replaced_ca() {
    let ca = valid_ca(&Policy::default(), NOW, in_ten_years());
    let unusable = CaSecret::Unusable("the root CA's key does not fit".into());
    assert!(
        refusal(&CaObserved { secret: unusable, ..ca.clone() }).contains("the root CA's key does not fit")
    );
    let swapped = CaObserved { published: PublishedTrust::Differs, ..ca };
    assert!(refusal(&swapped).contains("other roots than the published trust bundle"));
    let expired = CaObserved { secret: CaSecret::IssuingUnusable("it expired".into()), ..swapped };
    assert!(refusal(&expired).contains("other roots"));
}

#[test]
fn published_roots_are_followed_by_roots_that_share_one() {
    let generation = |number: u64| -> TrustGeneration { number.to_string().parse().unwrap() };
    for (published, in_secret, expected) in [
        (("A", 1), ("A", 1), PublishedTrust::Current),
        (("AB", 2), ("BA", 2), PublishedTrust::Current),
        (("A", 1), ("A", 2), PublishedTrust::Outdated),
        (("A", 1), ("AB", 2), PublishedTrust::Outdated),
        (("AB", 2), ("B", 3), PublishedTrust::Outdated),
        // The Secret was restored, with the roots that are published.
        (("A", 3), ("A", 1), PublishedTrust::Current),
        // The Secret was restored, with roots that are not trusted any more.
        (("AB", 2), ("A", 1), PublishedTrust::Differs),
        // The Secret belongs to another CA, or a root was added without a new generation.
        (("A", 1), ("B", 1), PublishedTrust::Differs),
        (("A", 1), ("B", 2), PublishedTrust::Differs),
        (("A", 1), ("AB", 1), PublishedTrust::Differs),
        (("", 1), ("A", 2), PublishedTrust::Differs),
    ] {
        let bundle = |(roots, number): (&'static str, u64)| (roots.as_bytes(), generation(number));
        let found = PublishedTrust::compare(bundle(published), bundle(in_secret));
        assert_eq!(found, expected, "{published:?}, {in_secret:?}");
    }
}

#[test]
fn rotates_the_issuing_ca_for_each_reason() {
    let policy = Policy::default();
    let ca = valid_ca(&policy, NOW, in_ten_years());
    let rotated = |observed: &CaObserved, policy: &Policy, now| match plan_ca(observed, policy, now) {
        CaPlan::RotateIssuing { reason } => Some(reason),
        CaPlan::Keep { .. } => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(rotated(&ca, &policy, NOW + Duration::days(29)), None);
    assert_eq!(rotated(&ca, &policy, NOW + Duration::days(31)), Some(RotationReason::Due));
    let future = "the issuing CA is valid from 2030 only";
    let unusable = CaObserved { secret: CaSecret::IssuingUnusable(future.into()), ..ca.clone() };
    assert_eq!(rotated(&unusable, &policy, NOW), Some(RotationReason::Unusable(future.into())));
    let named = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
    assert_eq!(rotated(&ca, &named, NOW), Some(RotationReason::NamesChanged));
    let longer = Policy::from_json(br#"{"longestDuration":"60d","ca":{"issuingLifetime":"180d"}}"#).unwrap();
    assert_eq!(rotated(&ca, &longer, NOW), Some(RotationReason::TooShort));
}

#[test]
fn a_changed_lifetime_alone_replaces_no_ca() {
    let ca = valid_ca(&Policy::default(), NOW, in_ten_years());
    let before = plan_ca(&ca, &Policy::default(), NOW);
    for changed in [
        r#"{"issuingLifetime":"180d"}"#,
        r#"{"issuingLifetime":"91d"}"#,
        r#"{"rootLifetime":"90d"}"#,
        r#"{"rootLifetime":"7300d"}"#,
    ] {
        let policy = Policy::from_json(format!(r#"{{"ca":{changed}}}"#).as_bytes()).unwrap();
        assert_eq!(plan_ca(&ca, &policy, NOW), before, "{changed}");
    }
    // A shorter lifetime is valid only with a shorter longest duration.
    let shorter = Policy::from_json(br#"{"longestDuration":"10d","ca":{"issuingLifetime":"30d"}}"#).unwrap();
    assert_eq!(plan_ca(&ca, &shorter, NOW), before);
}

fn request(id: &str) -> IssuingCaRequest {
    IssuingCaRequest { id: id.into(), reason: "exercise".into(), reissue: false }
}

#[test]
fn a_request_replaces_a_usable_and_an_unusable_issuing_ca_once() {
    let policy = Policy::default();
    let with_request = |observed: &CaObserved, last: Option<&str>| CaObserved {
        request: Some(request("a")),
        last_request: last.map(str::to_owned),
        ..observed.clone()
    };
    let new = valid_ca(&policy, NOW, in_ten_years());
    let old = valid_ca(&policy, NOW - Duration::days(40), in_ten_years());
    let with_root = valid_ca(&policy, NOW, NOW + Duration::days(60));
    let unusable = with_secret(CaSecret::IssuingUnusable("broken".into()));
    for observed in [new, old, with_root, unusable] {
        for last in [None, Some("b")] {
            let plan = plan_ca(&with_request(&observed, last), &policy, NOW);
            assert_eq!(plan, CaPlan::RotateIssuing { reason: RotationReason::Requested(request("a")) });
        }
        let carried_out = plan_ca(&with_request(&observed, Some("a")), &policy, NOW);
        assert_eq!(carried_out, plan_ca(&observed, &policy, NOW));
    }
    assert_eq!(RotationReason::Requested(request("a")).to_string(), "request a (exercise) asks for it");
}

#[test]
fn a_request_does_not_change_a_refusal_or_the_first_ca() {
    let refused = with_secret(CaSecret::Unusable("broken".into()));
    let absent = CaObserved { published: PublishedTrust::Absent, ..with_secret(CaSecret::Absent) };
    let differs = CaObserved {
        published: PublishedTrust::Differs,
        ..valid_ca(&Policy::default(), NOW, in_ten_years())
    };
    for observed in [refused, absent, differs] {
        let plan = plan_ca(&observed, &Policy::default(), NOW);
        let requested = CaObserved { request: Some(request("a")), ..observed };
        assert_eq!(plan_ca(&requested, &Policy::default(), NOW), plan);
    }
}

#[test]
fn constraints_permit_names_of_services_and_of_the_policy() {
    let policy = Policy::from_json(
        br#"{"clusterDomain":"k8s.example.org","extraDnsNames":{"b":["z.example","a.example"],"c":["a.example"]}}"#,
    )
    .unwrap();
    assert_eq!(texts(&policy.permitted_dns()), ["a.example", "svc", "svc.k8s.example.org", "z.example"]);
    assert!(Policy { short_names: true, ..policy }.permitted_dns().is_empty());
}

proptest! {
    #[test]
    fn keeps_a_new_ca(
        longest in 86_400_u32..u32::MAX / 3,
        short_names: bool,
        root_days in 1_i64..4_000,
    ) {
        let policy = Policy { short_names, ..with_longest_duration(longest) };
        let ca = valid_ca(&policy, NOW, NOW + Duration::days(root_days));
        let kept = matches!(plan_ca(&ca, &policy, NOW), CaPlan::Keep { until } if until > NOW);
        prop_assert!(kept);
    }

    #[test]
    fn until_rotation_no_certificate_has_to_be_shortened(longest in 86_400_u32..10_000_000) {
        let policy = with_longest_duration(longest);
        let ca = valid_ca(&policy, NOW, NOW + Duration::days(36_500));
        let CaPlan::Keep { until } = plan_ca(&ca, &policy, NOW) else { panic!("{ca:?}") };
        let CaSecret::Usable(facts) = &ca.secret else { panic!("{ca:?}") };
        prop_assert!(until + policy.longest_duration.duration() <= facts.issuing_not_after);
    }

    #[test]
    fn rotations_do_not_accelerate_towards_the_roots_end(root_days in 1_i64..4_000) {
        let policy = Policy::default();
        let end = NOW + Duration::days(root_days);
        let (mut now, mut rotations) = (NOW, 0);
        loop {
            let CaPlan::Keep { until } = plan_ca(&valid_ca(&policy, now, end), &policy, now) else { panic!() };
            prop_assert!(until > now);
            now = until;
            if now >= end {
                break;
            }
            rotations += 1;
        }
        prop_assert!(rotations <= root_days / 29 + 1, "{rotations} rotations in {root_days} days");
    }

    #[test]
    fn an_existing_ca_is_never_recreated(
        unusable: bool,
        published in prop::sample::select(vec![PublishedTrust::Absent, PublishedTrust::Current, PublishedTrust::Differs]),
    ) {
        let ca = valid_ca(&Policy::default(), NOW, in_ten_years());
        let secret = if unusable { CaSecret::Unusable("broken".into()) } else { ca.secret };
        let observed = CaObserved { published, ..with_secret(secret) };
        let plan = plan_ca(&observed, &Policy::default(), NOW);
        prop_assert_ne!(plan, CaPlan::CreateAll);
    }
}
