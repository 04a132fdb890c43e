//! After the first certificate: renewal from the Secret and from the API.

use crate::fixtures::api::{Api, ok, refusal};
use crate::fixtures::ca::with_root_of;
use crate::fixtures::{Ca, Pod};
use certmint_contract::{ErrorCode, pod_layout};

#[test]
fn a_renewed_secret_is_published_and_an_older_one_is_not() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    pod.write_secret(&ca.bundle_of_age(120));
    let process = pod.start(&[]);
    // The first look, at what was published at the start: the renewed one is to be for the second.
    process.until_logged("holds nothing newer");
    let renewed = ca.bundle_of_age(60);
    pod.write_secret(&renewed);
    process.until("the renewed one", || pod.published().as_ref() == Some(&renewed));

    pod.write_secret(&ca.bundle_of_age(90));
    process.until("a look at the older one", || process.log().matches("holds nothing newer").count() == 2);
    assert_eq!(pod.published(), Some(renewed));
    let newest = ca.bundle();
    pod.write_secret(&newest);
    process.until("the newest one", || pod.published().as_ref() == Some(&newest));
    process.until("the news in the log", || process.log().matches("valid until").count() == 3);
}

#[test]
fn a_secret_with_an_unknown_root_makes_it_ask_the_api() {
    let (ca, next) = (Ca::new(), Ca::new());
    let first = ca.bundle_of_age(60);
    let rotating = with_root_of(&first, &next);
    let given = rotating.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&first);
    let process = pod.start(&[]);
    process.until_logged("valid until");
    assert!(api.requests().is_empty());
    pod.write_secret(&rotating);
    process.until("the new root", || pod.published().as_ref() == Some(&rotating));
    assert_eq!(api.requests().len(), 1);
}

#[test]
fn an_overdue_certificate_is_asked_for_until_a_newer_one_is_there() {
    let ca = Ca::new();
    // Past its two thirds, with a quarter of a minute to go.
    let first = ca.bundle_of_age_and_life(25, 40);
    let (same, renewed) = (first.clone(), ca.bundle());
    let given = renewed.clone();
    let api = Api::start(&ca, move |_, number| match number {
        0 => ok(&same),
        1 => refusal(503, ErrorCode::Unavailable, "the API server could not be asked; ask again"),
        _ => ok(&given),
    });
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&first);
    let process = pod.start(&[]);
    process.until("the renewed one", || pod.published().as_ref() == Some(&renewed));
    assert_eq!(api.requests().len(), 3);
    let log = process.log();
    assert!(log.contains("is overdue") && log.contains("could not be asked"), "{log}");
    process.until("the clean slate", || pod.termination_message().is_empty());
}

#[test]
fn a_secret_that_goes_away_or_breaks_takes_nothing_with_it() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let bundle = ca.bundle_of_age(60);
    pod.write_secret(&bundle);
    let process = pod.start(&[]);
    process.until_logged("valid until");
    let mut broken = ca.bundle();
    broken.certificate = "banana".into();
    pod.write_secret(&broken);
    process.until_logged("InvalidBundle");
    std::fs::remove_file(pod.paths.secret_dir.join("..data")).unwrap();
    process.until_logged("the workload's Secret is not there");
    assert_eq!(pod.published(), Some(bundle));
}

#[test]
fn sigterm_ends_it_with_success_even_while_it_waits() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let waiting = pod.start(&[]);
    waiting.until_logged("cannot be reached");
    waiting.terminate();
    assert_eq!(waiting.end().0.code(), Some(0));
    pod.write_secret(&ca.bundle());
    let staying = pod.start(&[]);
    staying.until_logged("valid until");
    staying.terminate();
    assert_eq!(staying.end().0.code(), Some(0));
}

#[test]
fn sigterm_ends_what_runs_once_without_the_success_that_would_start_the_app() {
    let pod = Pod::new(&Ca::new());
    let waiting = pod.start(&["once"]);
    waiting.until_logged("cannot be reached");
    waiting.terminate();
    assert_eq!(waiting.end().0.code(), Some(128 + 15));
}

#[test]
fn no_restart_goes_back_to_older_files() {
    let ca = Ca::new();
    let older = ca.bundle_of_age(90);
    let lagging = ca.bundle();
    let newest = with_root_of(&lagging, &Ca::new());
    let given = newest.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    // From the API; the Secret volume lags behind from then on.
    assert!(pod.start(&["once"]).end().0.success());
    for (restart, secret) in [&older, &lagging, &older].into_iter().enumerate() {
        pod.write_secret(secret);
        let process = pod.start(&[]);
        process.until_logged("valid until");
        assert_eq!(pod.published(), Some(newest.clone()), "restart {restart}");
        assert!(pod.start(&["wait"]).end().0.success());
    }
}
