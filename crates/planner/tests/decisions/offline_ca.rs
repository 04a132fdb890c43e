//! Tests of the plan for a CA whose root is offline.

use certmint_contract::{ErrorCode, Policy};
use certmint_planner::ca::offline::{
    ImportUrgency, OfflineObserved, OfflinePlan, RequestReason, import_urgency, needed_dns, plan_offline_ca,
};
use certmint_planner::{CaFacts, CaObserved, CaSecret, PublishedTrust};
use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

use crate::fixtures::{NOW, texts};

fn nothing() -> CaObserved {
    CaObserved {
        secret: CaSecret::Absent,
        published: PublishedTrust::Absent,
        evidence_of_earlier_ca: None,
        request: None,
        last_request: None,
    }
}

/// Returns a CA for a year from now on, with these name constraints.
fn usable(permitted: &[&str]) -> CaObserved {
    let facts = CaFacts {
        root_not_after: NOW + Duration::days(3_650),
        issuing_not_before: NOW,
        issuing_not_after: NOW + Duration::days(360),
        permitted_dns: permitted.iter().map(|name| name.parse().unwrap()).collect(),
    };
    CaObserved { secret: CaSecret::Usable(facts), published: PublishedTrust::Current, ..nothing() }
}

fn requested(has_valid_import: bool) -> OfflineObserved {
    OfflineObserved { requested_dns: Some(Policy::default().permitted_dns()), has_valid_import }
}

fn plan_at(observed: &CaObserved, offline: &OfflineObserved, now: OffsetDateTime) -> OfflinePlan {
    plan_offline_ca(observed, offline, &Policy::default(), now)
}

fn plan(observed: &CaObserved, offline: &OfflineObserved) -> OfflinePlan {
    plan_at(observed, offline, NOW)
}

#[test]
fn the_first_certificate_is_requested_awaited_and_imported() {
    let none = OfflineObserved::default();
    assert_eq!(plan(&nothing(), &none), OfflinePlan::Request(RequestReason::First));
    assert_eq!(plan(&nothing(), &requested(false)), OfflinePlan::AwaitCertificate);
    assert_eq!(plan(&nothing(), &requested(true)), OfflinePlan::Import);
}

#[test]
fn no_request_replaces_an_earlier_ca() {
    let evidence = CaObserved { evidence_of_earlier_ca: Some("Secret shop/a".into()), ..nothing() };
    let differs = CaObserved { published: PublishedTrust::Differs, ..usable(&[]) };
    let damaged = CaObserved { secret: CaSecret::Unusable("it is damaged".into()), ..nothing() };
    for (observed, words) in [
        (evidence, "Secret shop/a still exists"),
        (differs, "other roots than the published trust bundle"),
        (damaged, "it is damaged"),
    ] {
        for offline in [OfflineObserved::default(), requested(false), requested(true)] {
            let OfflinePlan::Refuse(refusal) = plan(&observed, &offline) else { panic!("{observed:?}") };
            assert_eq!(refusal.code, ErrorCode::CaUnavailable);
            assert!(refusal.message.contains(words), "{}", refusal.message);
        }
    }
}

#[test]
fn a_lost_ca_is_requested_again_below_the_published_root() {
    let evidence_of_earlier_ca = Some("Secret shop/a".to_owned());
    let lost = CaObserved { published: PublishedTrust::Current, evidence_of_earlier_ca, ..nothing() };
    assert_eq!(plan(&lost, &OfflineObserved::default()), OfflinePlan::Request(RequestReason::First));
    assert_eq!(plan(&lost, &requested(false)), OfflinePlan::AwaitCertificate);
    assert_eq!(plan(&lost, &requested(true)), OfflinePlan::Import);
}

#[test]
fn the_next_certificate_is_requested_after_a_third_of_the_lifetime() {
    let (observed, none) = (usable(&["svc", "svc.cluster.local"]), OfflineObserved::default());
    let OfflinePlan::Keep { until } = plan(&observed, &none) else { panic!() };
    assert!((until - NOW - Duration::days(120)).abs() < Duration::HOUR, "{until}");
    assert_eq!(plan_at(&observed, &none, until), OfflinePlan::Request(RequestReason::Due));
    assert_eq!(plan_at(&observed, &requested(false), until), OfflinePlan::AwaitCertificate);
    assert_eq!(plan_at(&observed, &requested(true), until), OfflinePlan::Import);
    let unusable = CaObserved { secret: CaSecret::IssuingUnusable("it expired".into()), ..observed };
    let reason = RequestReason::Unusable("it expired".into());
    assert_eq!(plan(&unusable, &none), OfflinePlan::Request(reason));
    assert_eq!(plan(&unusable, &requested(false)), OfflinePlan::AwaitCertificate);
}

#[test]
fn a_name_that_the_ca_does_not_permit_is_requested() {
    let none = OfflineObserved::default();
    let names = OfflinePlan::Request(RequestReason::NamesChanged);
    for (permitted, is_kept) in [
        (&[][..], true),
        (&["svc", "svc.cluster.local"], true),
        (&["svc", "cluster.local", "corp.example"], true),
        (&["svc"], false),
    ] {
        let plan = plan(&usable(permitted), &none);
        assert_eq!(matches!(plan, OfflinePlan::Keep { .. }), is_kept, "{permitted:?}");
        assert_eq!(plan == names, !is_kept, "{permitted:?}");
    }
    let changed = Policy::from_json(br#"{"extraDnsNames":{"shop":["pay.example.com"]}}"#).unwrap();
    let plan_changed = |observed: &CaObserved, offline| plan_offline_ca(observed, &offline, &changed, NOW);
    assert_eq!(plan_changed(&usable(&["svc", "cluster.local"]), none), names);
    assert_eq!(plan_changed(&nothing(), requested(false)), names, "the request lacks the name");
    assert_eq!(plan_changed(&nothing(), requested(true)), OfflinePlan::Import);
}

#[test]
fn short_names_need_a_ca_without_constraints() {
    let policy = Policy { short_names: true, ..Policy::default() };
    assert!(needed_dns(&policy).is_empty());
    let none = OfflineObserved::default();
    let plan = plan_offline_ca(&usable(&["svc", "cluster.local"]), &none, &policy, NOW);
    assert_eq!(plan, OfflinePlan::Request(RequestReason::NamesChanged));
    let unconstrained = Policy { name_constraints: false, ..Policy::default() };
    assert_eq!(texts(&needed_dns(&unconstrained)), ["svc", "svc.cluster.local"]);
}

#[test]
fn the_urgency_of_an_import_rises_at_four_times() {
    use ImportUrgency::{Day, Sixth, Third, Week};
    let urgency = |days: i64, left: Duration| {
        let end = NOW + Duration::days(days);
        import_urgency(NOW, end, end - left)
    };
    for (days, left, expected) in [
        (360, Duration::days(121), ImportUrgency::None),
        (360, Duration::days(120), Third),
        (360, Duration::days(61), Third),
        (360, Duration::days(60), Sixth),
        (360, Duration::days(8), Sixth),
        (360, Duration::days(7), Week),
        (360, Duration::hours(25), Week),
        (360, Duration::hours(24), Day),
        (360, Duration::hours(-1), Day),
        (30, Duration::days(7), Third),
        (30, Duration::days(5), Week),
        (3, Duration::hours(12), Day),
    ] {
        assert_eq!(urgency(days, left), expected, "{left} of {days} days");
    }
}

proptest! {
    #[test]
    fn the_urgency_never_falls(seconds in 3_600_i64..100_000_000, first in 0.0..1.0, second in 0.0..1.0) {
        let at = |part: f64| NOW + Duration::seconds(seconds) * part.min(1.0);
        let end = NOW + Duration::seconds(seconds);
        let (early, late) = (at(f64::min(first, second)), at(f64::max(first, second)));
        prop_assert!(import_urgency(NOW, end, early) <= import_urgency(NOW, end, late));
    }
}
