//! The sources of the first certificate, with `certmint-fetch once`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use certmint_contract::issuance::MAX_RESPONSE_BYTES;
use certmint_contract::{ErrorCode, TrustGeneration, pod_layout};

use crate::fixtures::api::{Answer, Api, failure, ok};
use crate::fixtures::ca::{of_generation, with_root_of};
use crate::fixtures::{CLOSED_PORT, Ca, Pod};

fn not_yet_issued() -> Answer {
    failure(503, ErrorCode::NotYetIssued, "Deployment/payments has no certificate yet; ask again")
}

#[test]
fn publishes_a_valid_secret_without_the_controller() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, CLOSED_PORT);
    let bundle = ca.bundle();
    pod.write_secret(&bundle);
    let (status, log) = pod.start(&["once"]).wait_for_exit();
    assert!(status.success(), "{log}");
    assert_eq!(pod.published(), Some(bundle.clone()));
    assert_eq!(pod.termination_message(), "");
    let file = |name: &str| pod.paths.tls_dir.join(name);
    let combined = fs::read_to_string(file(pod_layout::COMBINED_FILE)).unwrap();
    assert_eq!(combined, format!("{}{}", bundle.private_key, bundle.certificate));
    let mode = |name: &str| fs::metadata(file(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(pod_layout::KEY_FILE), 0o440);
    assert_eq!(mode("..data"), 0o750, "exactly the users who may read the files may search the directory");
}

#[test]
fn asks_the_api_until_it_has_a_bundle() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let given = bundle.clone();
    let api = Api::start(&ca, move |_, number| if number < 2 { not_yet_issued() } else { ok(&given) });
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let (status, log) = pod.start(&["once"]).wait_for_exit();
    assert!(status.success(), "{log}");
    assert_eq!(pod.published(), Some(bundle));
    assert_eq!(api.requests().len(), 3);
    let head = api.requests()[0].to_lowercase();
    assert!(head.starts_with("post /v1/bundle http/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: bearer a-token\r\n"), "{head}");
    assert!(log.contains("NotYetIssued"), "{log}");
    assert_eq!(pod.termination_message(), "", "a failure before the success is not the cause of a later end");
}

#[test]
fn asks_the_api_if_the_secret_is_not_usable() {
    let ca = Ca::new();
    let mut mixed = ca.bundle();
    mixed.private_key = ca.bundle().private_key.clone();
    for secret in [ca.expired_bundle(), ca.bundle_of_another_account(), mixed, Ca::new().bundle()] {
        let bundle = ca.bundle();
        let given = bundle.clone();
        let api = Api::start(&ca, move |_, _| ok(&given));
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        pod.write_secret(&secret);
        let (status, log) = pod.start(&["once"]).wait_for_exit();
        assert!(status.success(), "{log}");
        assert_eq!(pod.published(), Some(bundle));
    }
}

#[test]
fn rejects_the_secret_of_another_workload() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_WORKLOAD, "StatefulSet/web");
    pod.write_secret_of("Deployment/web", &ca.bundle());
    let message = "StatefulSet/web: Secret web-certmint-tls belongs to Deployment/web";
    let api = Api::start(&ca, move |_, _| failure(403, ErrorCode::SecretClaimed, message));
    let pod = pod.with(pod_layout::ENV_API, api.origin());
    let (status, log) = pod.start(&["once"]).wait_for_exit();
    assert_eq!(status.code(), Some(78), "{log}");
    assert_eq!(pod.published(), None);
    let message = pod.termination_message();
    assert!(message.starts_with("SecretClaimed: StatefulSet/web: Secret web-certmint-tls"), "{message}");
    assert!(
        message.contains(
            "it was issued for Deployment/web, and this pod belongs to StatefulSet/web; give one of the two another certmint.dev/secret-name"
        ),
        "{message}"
    );
}

#[test]
fn uses_a_secret_of_its_own_workload_or_of_an_unnamed_one() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let injected_before = Pod::new(&ca);
    injected_before.write_secret_of("Deployment/web", &bundle);
    let own = Pod::new(&ca).with(pod_layout::ENV_WORKLOAD, "Deployment/web");
    own.write_secret_of("Deployment/web", &bundle);
    let written_before = Pod::new(&ca).with(pod_layout::ENV_WORKLOAD, "Deployment/web");
    written_before.write_secret(&bundle);
    for pod in [injected_before, own, written_before] {
        let (status, log) = pod.start(&["once"]).wait_for_exit();
        assert!(status.success(), "{log}");
        assert_eq!(pod.published(), Some(bundle.clone()));
    }
}

#[test]
fn rejects_a_root_that_was_added_to_the_secret() {
    let (ca, other) = (Ca::new(), Ca::new());
    let pod = Pod::new(&ca);
    pod.write_secret(&with_root_of(&ca.bundle(), &other));
    let process = pod.start(&["once"]);
    process.wait_for_log("contains a root that is not known in this pod");
    assert_eq!(pod.published(), None);
}

#[test]
fn learns_a_new_root_from_the_api() {
    let (ca, next) = (Ca::new(), Ca::new());
    let rotating = with_root_of(&ca.bundle_of_age(60), &next);
    let given = rotating.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&rotating);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(rotating));

    let rotated = next.bundle();
    pod.write_secret(&rotated);
    let pod = pod.with(pod_layout::ENV_API, CLOSED_PORT);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(rotated));

    pod.write_secret(&with_root_of(&ca.bundle(), &ca));
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert!(
        pod.published().unwrap().trust_bundle.roots == next.trust_bundle(),
        "the retired root is not trusted any more"
    );
}

#[test]
fn a_lagging_secret_does_not_bring_back_older_roots() {
    let (ca, next) = (Ca::new(), Ca::new());
    let (first, second) = (ca.bundle_of_age(60), ca.bundle());
    let newest = of_generation(2, &with_root_of(&first, &next));
    let given = newest.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&newest);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(newest.clone()), "the pod learned the new root from the API");

    // The volume has the first generation again, with the same certificate and then with a newer one.
    let pod = pod.with(pod_layout::ENV_API, CLOSED_PORT);
    pod.write_secret(&first);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(newest.clone()));
    pod.write_secret(&second);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    let mut expected = second.clone();
    expected.trust_bundle = newest.trust_bundle.clone();
    assert_eq!(pod.published(), Some(expected), "the newer certificate is used with the newer roots");
}

#[test]
fn a_lagging_controller_does_not_bring_back_older_roots() {
    let (ca, next) = (Ca::new(), Ca::new());
    let lagging = ca.bundle();
    let given = lagging.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let trusted = with_root_of(&lagging, &next).trust_bundle.roots.clone();
    let pod = Pod::new(&ca)
        .with(pod_layout::ENV_API, api.origin())
        .with(pod_layout::ENV_TRUST_BUNDLE, trusted.clone())
        .with(pod_layout::ENV_TRUST_GENERATION, "2");
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    let published = pod.published().unwrap();
    assert_eq!(
        (&published.trust_bundle.roots, published.certificate.clone()),
        (&trusted, lagging.certificate.clone())
    );
    assert_eq!(published.trust_bundle.generation, TrustGeneration::FIRST.next());
}

#[test]
fn a_secret_under_a_retired_root_is_not_used() {
    let (retired, ca) = (Ca::new(), Ca::new());
    let bundle = of_generation(3, &ca.bundle());
    let given = bundle.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod =
        Pod::new(&ca).with(pod_layout::ENV_API, api.origin()).with(pod_layout::ENV_TRUST_GENERATION, "3");
    pod.write_secret(&of_generation(2, &with_root_of(&retired.bundle(), &ca)));
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(bundle));
}

#[test]
fn newer_roots_are_published_without_a_new_certificate() {
    let (ca, next) = (Ca::new(), Ca::new());
    let both = of_generation(2, &with_root_of(&ca.bundle(), &next));
    let pod = Pod::new(&ca)
        .with(pod_layout::ENV_TRUST_BUNDLE, both.trust_bundle.roots.clone())
        .with(pod_layout::ENV_TRUST_GENERATION, "2");
    pod.write_secret(&both);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    // The other root is retired. The Secret keeps its certificate.
    let mut retired = of_generation(3, &both);
    retired.trust_bundle.roots = ca.trust_bundle().into();
    pod.write_secret(&retired);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(retired));
}

#[test]
fn rejects_a_server_of_another_ca() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let api = Api::start(&Ca::new(), move |_, _| ok(&bundle));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let process = pod.start(&["once"]);
    process.wait_for_log("did not prove to be the issuance API");
    pod.wait_for_termination_message("kubectl rollout restart");
    assert!(pod.termination_message().starts_with("Unreachable: "), "{}", pod.termination_message());
    assert!(api.requests().is_empty(), "the server received the token");
}

#[test]
fn rejects_a_server_without_tls_1_3() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let api = Api::start_with(&ca, &rustls::version::TLS12, move |_, _| ok(&bundle));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let process = pod.start(&["once"]);
    process.wait_for_log("cannot be reached");
    assert!(api.requests().is_empty(), "the server received the token");
}

#[test]
fn reads_the_token_at_each_attempt() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let api = Api::start(&ca, move |head, _| {
        if head.contains("Bearer replaced") {
            ok(&bundle)
        } else {
            failure(401, ErrorCode::Unauthenticated, "the token has expired; a new one is on its way")
        }
    });
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let process = pod.start(&["once"]);
    process.wait_for_log("the token has expired");
    pod.write_token("replaced\n");
    let (status, log) = process.wait_for_exit();
    assert!(status.success(), "{log}");
}

#[test]
fn ends_at_once_after_a_final_failure() {
    let ca = Ca::new();
    for (code, exit) in [(ErrorCode::NotOptedIn, 78), (ErrorCode::PodGone, 75), (ErrorCode::NotAllowed, 78)] {
        let api = Api::start(&ca, move |_, _| failure(403, code, "because; do this"));
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        let (status, log) = pod.start(&["once"]).wait_for_exit();
        assert_eq!(status.code(), Some(exit), "{log}");
        assert_eq!(api.requests().len(), 1);
        assert_eq!(pod.termination_message(), format!("{code}: because; do this"));
    }
}

#[test]
fn retries_after_temporary_failures_without_a_limit() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let codes = [
        ErrorCode::NotYetIssued,
        ErrorCode::CaUnavailable,
        ErrorCode::Unauthenticated,
        ErrorCode::CallRefused,
        ErrorCode::TooManyRequests,
    ];
    let api = Api::start(&ca, move |_, number| match codes.get(number) {
        Some(code) => failure(503, *code, "because; it is tried again"),
        None => ok(&bundle),
    });
    // The deadline applies to the command `wait` only.
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin()).with(pod_layout::ENV_DEADLINE, "1");
    let (status, log) = pod.start(&["once"]).wait_for_exit();
    assert!(status.success(), "{log}");
    assert_eq!(api.requests().len(), codes.len() + 1);
}

#[test]
fn explains_a_name_that_does_not_resolve() {
    // The look-up fails without a DNS server, because a label has at most 63 characters.
    let api = format!("https://{}.certmint-system.svc", "a".repeat(64));
    for domain in [None, Some("cluster.local")] {
        let mut pod = Pod::new(&Ca::new()).with(pod_layout::ENV_API, &api);
        if let Some(domain) = domain {
            pod = pod.with(pod_layout::ENV_CLUSTER_DOMAIN, domain);
        }
        let process = pod.start(&["once"]);
        process.wait_for_log("the DNS of this pod does not resolve the name");
        let log = process.log();
        assert!(log.contains("Unreachable") && log.contains("dnsPolicy ClusterFirst"), "{log}");
        assert!(!log.contains("NetworkPolicy"), "{log}");
        assert_eq!(log.contains("svc.cluster.local., aaa"), domain.is_some(), "{log}");
    }
}

#[test]
fn rejects_invalid_answers() {
    let ca = Ca::new();
    for (answer, message) in [
        ((200, b"{}".to_vec()), "answered 200, but not in the format of the issuance API"),
        ((502, b"<html>".to_vec()), "answered 502, but not in the format of the issuance API"),
        ((200, vec![b' '; MAX_RESPONSE_BYTES + 1]), "cannot be reached"),
        ((307, Vec::new()), "answered 307, but not in the format"),
        (ok(&ca.bundle_of_another_account()), "answer was not used: the certificate is for"),
    ] {
        let api = Api::start(&ca, move |_, _| answer.clone());
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        let process = pod.start(&["once"]);
        process.wait_for_log(message);
        assert_eq!(pod.published(), None);
    }
}

#[test]
fn an_invalid_environment_names_its_variable() {
    let pod = Pod::new(&Ca::new()).with(pod_layout::ENV_API, "http://plain:80");
    assert_eq!(pod.start(&["once"]).wait_for_exit().0.code(), Some(78));
    assert!(pod.termination_message().starts_with("InvalidSettings: the variable CERTMINT_API"));
}

#[test]
fn an_unknown_command_prints_the_usage() {
    let pod = Pod::new(&Ca::new());
    let (status, log) = pod.start(&["twice"]).wait_for_exit();
    assert_eq!(status.code(), Some(78));
    assert!(log.contains("usage: certmint-fetch [once | wait]"), "{log}");
}
