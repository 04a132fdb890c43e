//! Where the first certificate comes from, with `certmint-fetch once`.

use crate::fixtures::api::{Api, ok, refusal};
use crate::fixtures::ca::with_root_of;
use crate::fixtures::{Ca, NOWHERE, Pod};
use certmint_contract::{ErrorCode, issuance::MAX_RESPONSE_BYTES, pod_layout};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn not_yet() -> crate::fixtures::api::Answer {
    refusal(503, ErrorCode::NotYetIssued, "Deployment/payments has no certificate yet; ask again")
}

#[test]
fn a_valid_secret_is_published_with_the_controller_down() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, NOWHERE);
    let bundle = ca.bundle();
    pod.write_secret(&bundle);
    let (status, log) = pod.start(&["once"]).end();
    assert!(status.success(), "{log}");
    assert_eq!(pod.published(), Some(bundle.clone()));
    assert_eq!(pod.termination_message(), "");
    let file = |name: &str| pod.paths.tls_dir.join(name);
    let combined = fs::read_to_string(file(pod_layout::COMBINED_FILE)).unwrap();
    assert_eq!(combined, format!("{}{}", bundle.private_key, bundle.certificate));
    let mode = |name: &str| fs::metadata(file(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(pod_layout::KEY_FILE), 0o440);
    assert_eq!(mode("..data"), 0o750, "those who may read the files may reach them, and nobody else");
}

#[test]
fn without_a_secret_the_api_is_asked_until_it_has_one() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let given = bundle.clone();
    let api = Api::start(&ca, move |_, number| if number < 2 { not_yet() } else { ok(&given) });
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let (status, log) = pod.start(&["once"]).end();
    assert!(status.success(), "{log}");
    assert_eq!(pod.published(), Some(bundle));
    assert_eq!(api.requests().len(), 3);
    let head = api.requests()[0].to_lowercase();
    assert!(head.starts_with("post /v1/bundle http/1.1\r\n"), "{head}");
    assert!(head.contains("authorization: bearer a-token\r\n"), "{head}");
    assert!(log.contains("NotYetIssued"), "{log}");
    assert_eq!(pod.termination_message(), "", "what was overcome is no reason for a later end");
}

#[test]
fn a_secret_that_is_not_usable_is_passed_over_for_the_api() {
    let ca = Ca::new();
    let mut mixed = ca.bundle();
    mixed.private_key = ca.bundle().private_key.clone();
    for secret in [ca.expired_bundle(), ca.bundle_of_another(), mixed, Ca::new().bundle()] {
        let bundle = ca.bundle();
        let given = bundle.clone();
        let api = Api::start(&ca, move |_, _| ok(&given));
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        pod.write_secret(&secret);
        let (status, log) = pod.start(&["once"]).end();
        assert!(status.success(), "{log}");
        assert_eq!(pod.published(), Some(bundle));
    }
}

#[test]
fn the_secret_of_another_workload_is_not_used_although_it_is_of_the_same_account() {
    let ca = Ca::new();
    let pod = Pod::new(&ca).with(pod_layout::ENV_WORKLOAD, "StatefulSet/web");
    pod.write_secret_of("Deployment/web", &ca.bundle());
    let message = "StatefulSet/web: Secret web-certmint-tls belongs to Deployment/web";
    let api = Api::start(&ca, move |_, _| refusal(403, ErrorCode::SecretClaimed, message));
    let pod = pod.with(pod_layout::ENV_API, api.origin());
    let (status, log) = pod.start(&["once"]).end();
    assert_eq!(status.code(), Some(78), "{log}");
    assert_eq!(pod.published(), None);
    let told = pod.termination_message();
    assert!(told.starts_with("SecretClaimed: StatefulSet/web: Secret web-certmint-tls"), "{told}");
    assert!(
        told.contains(
            "it was made for Deployment/web, and this pod belongs to StatefulSet/web; give one of the two another certmint.dev/secret-name"
        ),
        "{told}"
    );
}

#[test]
fn the_secret_of_the_pods_own_workload_is_used_and_so_is_one_that_does_not_say_whose_it_is() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let injected_before = Pod::new(&ca);
    injected_before.write_secret_of("Deployment/web", &bundle);
    let own = Pod::new(&ca).with(pod_layout::ENV_WORKLOAD, "Deployment/web");
    own.write_secret_of("Deployment/web", &bundle);
    let written_before = Pod::new(&ca).with(pod_layout::ENV_WORKLOAD, "Deployment/web");
    written_before.write_secret(&bundle);
    for pod in [injected_before, own, written_before] {
        let (status, log) = pod.start(&["once"]).end();
        assert!(status.success(), "{log}");
        assert_eq!(pod.published(), Some(bundle.clone()));
    }
}

#[test]
fn a_root_slipped_into_the_secret_is_not_believed() {
    let (ca, other) = (Ca::new(), Ca::new());
    let pod = Pod::new(&ca);
    pod.write_secret(&with_root_of(&ca.bundle(), &other));
    let process = pod.start(&["once"]);
    process.until_logged("holds a root that is not known in this pod");
    assert_eq!(pod.published(), None);
}

#[test]
fn a_new_root_comes_by_the_api_and_is_known_from_then_on() {
    let (ca, next) = (Ca::new(), Ca::new());
    let rotating = with_root_of(&ca.bundle_of_age(60), &next);
    let given = rotating.clone();
    let api = Api::start(&ca, move |_, _| ok(&given));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    pod.write_secret(&rotating);
    assert!(pod.start(&["once"]).end().0.success());
    assert_eq!(pod.published(), Some(rotating));

    let rotated = next.bundle();
    pod.write_secret(&rotated);
    let pod = pod.with(pod_layout::ENV_API, NOWHERE);
    assert!(pod.start(&["once"]).end().0.success());
    assert_eq!(pod.published(), Some(rotated));

    pod.write_secret(&with_root_of(&ca.bundle(), &ca));
    assert!(pod.start(&["once"]).end().0.success());
    assert!(
        pod.published().unwrap().trust_bundle == next.trust_bundle(),
        "the retired root is known no longer"
    );
}

#[test]
fn a_server_of_another_ca_is_refused_in_so_many_words() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let api = Api::start(&Ca::new(), move |_, _| ok(&bundle));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let process = pod.start(&["once"]);
    process.until_logged("did not prove to be the issuance API");
    pod.until_told("kubectl rollout restart");
    assert!(pod.termination_message().starts_with("Unreachable: "), "{}", pod.termination_message());
    assert!(api.requests().is_empty(), "it got the token");
}

#[test]
fn a_server_without_tls_1_3_is_refused() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let api = Api::start_with(&ca, &rustls::version::TLS12, move |_, _| ok(&bundle));
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let process = pod.start(&["once"]);
    process.until_logged("cannot be reached");
    assert!(api.requests().is_empty(), "it got the token");
}

#[test]
fn the_token_is_read_at_each_attempt() {
    let ca = Ca::new();
    let bundle = ca.bundle();
    let api = Api::start(&ca, move |head, _| {
        if head.contains("Bearer replaced") {
            ok(&bundle)
        } else {
            refusal(401, ErrorCode::Unauthenticated, "the token has expired; a new one is on its way")
        }
    });
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
    let process = pod.start(&["once"]);
    process.until_logged("the token has expired");
    pod.write_token("replaced\n");
    let (status, log) = process.end();
    assert!(status.success(), "{log}");
}

#[test]
fn a_final_refusal_ends_it_at_once() {
    let ca = Ca::new();
    for (code, exit) in [(ErrorCode::NotOptedIn, 78), (ErrorCode::PodGone, 75), (ErrorCode::NotAllowed, 78)] {
        let api = Api::start(&ca, move |_, _| refusal(403, code, "because; do this"));
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        let (status, log) = pod.start(&["once"]).end();
        assert_eq!(status.code(), Some(exit), "{log}");
        assert_eq!(api.requests().len(), 1);
        assert_eq!(pod.termination_message(), format!("{code}: because; do this"));
    }
}

#[test]
fn what_may_pass_by_itself_is_waited_for_however_long_it_takes() {
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
        Some(code) => refusal(503, *code, "because; it is tried again"),
        None => ok(&bundle),
    });
    // The deadline is for `wait`.
    let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin()).with(pod_layout::ENV_DEADLINE, "1");
    let (status, log) = pod.start(&["once"]).end();
    assert!(status.success(), "{log}");
    assert_eq!(api.requests().len(), codes.len() + 1);
}

#[test]
fn a_name_that_does_not_resolve_is_told_of_the_dns() {
    // No DNS server needs to be asked: a label has at most 63 characters.
    let api = format!("https://{}.certmint-system.svc", "a".repeat(64));
    for domain in [None, Some("cluster.local")] {
        let mut pod = Pod::new(&Ca::new()).with(pod_layout::ENV_API, &api);
        if let Some(domain) = domain {
            pod = pod.with(pod_layout::ENV_CLUSTER_DOMAIN, domain);
        }
        let process = pod.start(&["once"]);
        process.until_logged("the DNS of this pod does not resolve the name");
        let log = process.log();
        assert!(log.contains("Unreachable") && log.contains("dnsPolicy ClusterFirst"), "{log}");
        assert!(!log.contains("NetworkPolicy"), "{log}");
        assert_eq!(log.contains("svc.cluster.local., aaa"), domain.is_some(), "{log}");
    }
}

#[test]
fn answers_that_are_none_are_not_used() {
    let ca = Ca::new();
    for (answer, says) in [
        ((200, b"{}".to_vec()), "answered 200 with something that is no answer"),
        ((502, b"<html>".to_vec()), "answered 502 with something that is no answer"),
        ((200, vec![b' '; MAX_RESPONSE_BYTES + 1]), "cannot be reached"),
        ((307, Vec::new()), "answered 307 with something"),
        (ok(&ca.bundle_of_another()), "answer was not used: the certificate is for"),
    ] {
        let api = Api::start(&ca, move |_, _| answer.clone());
        let pod = Pod::new(&ca).with(pod_layout::ENV_API, api.origin());
        let process = pod.start(&["once"]);
        process.until_logged(says);
        assert_eq!(pod.published(), None);
    }
}

#[test]
fn a_broken_environment_names_the_variable() {
    let pod = Pod::new(&Ca::new()).with(pod_layout::ENV_API, "http://plain:80");
    assert_eq!(pod.start(&["once"]).end().0.code(), Some(78));
    assert!(pod.termination_message().starts_with("InvalidSettings: the variable CERTMINT_API"));
}

#[test]
fn a_command_that_is_none_ends_with_how_to_use_it() {
    let pod = Pod::new(&Ca::new());
    let (status, log) = pod.start(&["twice"]).end();
    assert_eq!(status.code(), Some(78));
    assert!(log.contains("usage: certmint-fetch [once | wait]"), "{log}");
}
