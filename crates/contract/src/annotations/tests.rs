use proptest::prelude::*;

use super::*;

fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
    parse(pairs.iter().copied()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn without_inject_there_is_no_opt_in() {
    assert_eq!(parse([("team", "checkout")]), Ok(OptIn::No));
    assert_eq!(parse([(keys::INJECT, "false"), (keys::DURATION, "banana")]), Ok(OptIn::No));
}

#[test]
fn inject_without_options_has_the_defaults() {
    assert_eq!(parse([(keys::INJECT, "true")]), Ok(OptIn::Yes(Box::default())));
}

#[test]
fn every_key_is_parsed() {
    let parsed = parse([
        (keys::INJECT, "true"),
        (keys::MODE, "secret"),
        (keys::SECRET_NAME, "tls"),
        (keys::DNS_NAMES, "pay.example.com, pay.example.com,api.example.com"),
        (keys::DURATION, "90m"),
        (keys::KEY_ALGORITHM, "ed25519"),
        (keys::MOUNT_PATH, "/etc/tls/"),
        (keys::CONTAINERS, "app,proxy"),
        (keys::RENEW, "false"),
        (keys::RELOAD, "signal:SIGHUP:nginx"),
        (keys::ORDER, "last"),
        (keys::RESOURCES, "none"),
        (keys::WORKLOAD, "Deployment/payments"),
    ]);
    let expected = WorkloadOptions {
        mode: Mode::Secret,
        secret_name: Some("tls".parse().unwrap()),
        dns_names: vec!["pay.example.com".parse().unwrap(), "api.example.com".parse().unwrap()],
        duration: Some(Lifetime::from_seconds(5400)),
        key_algorithm: Some(KeyAlgorithm::Ed25519),
        mount_path: "/etc/tls".parse().unwrap(),
        containers: Containers::Named(vec!["app".into(), "proxy".into()]),
        renew: Renew::Never,
        reload: Some("signal:SIGHUP:nginx".parse().unwrap()),
        order: InitPosition::Last,
        resources: Some(ResourceOverrides::default()),
    };
    assert_eq!(parsed, Ok(OptIn::Yes(Box::new(expected))));
}

#[test]
fn errors_name_key_value_and_allowed_values() {
    assert_eq!(
        errors(&[(keys::INJECT, "ture")]),
        [
            r#"annotation certmint.dev/inject: "ture" is not allowed (did you mean "true"?); use one of true, false"#
        ]
    );
    assert_eq!(
        errors(&[(keys::INJECT, "true"), (keys::DURATION, "banana"), (keys::MODE, "sidecar")]),
        [
            r#"annotation certmint.dev/duration: "banana" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            r#"annotation certmint.dev/mode: "sidecar" is not allowed; use one of secret, pod, kubelet"#,
        ]
    );
}

#[test]
fn errors_name_the_nearest_known_key() {
    let known = "inject, mode, secret-name, dns-names, duration, key-algorithm, mount-path, containers, renew, reload, order, resources";
    assert_eq!(
        errors(&[("certmint.dev/injct", "true")]),
        [format!(
            "annotation certmint.dev/injct does not exist (did you mean \"certmint.dev/inject\"?); known: {known}"
        )]
    );
    assert_eq!(
        errors(&[("certmint.dev/something-else", "true")]),
        [format!("annotation certmint.dev/something-else does not exist; known: {known}")]
    );
}

#[test]
fn invalid_mount_paths_are_rejected() {
    for text in ["", "/", "etc", "/a/../b", "/a//b", "/a:b", "/a b", "/.", "//"] {
        assert!(text.parse::<MountPath>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(key in "certmint.dev/[a-z-]{0,20}", value in ".{0,200}") {
        let parsed = parse([(keys::INJECT, "true"), (&*key, &*value)]);
        let errors = parsed.err().unwrap_or_default();
        prop_assert!(errors.iter().all(|error| error.to_string().len() < 1000));
    }
}

#[test]
fn long_values_and_lists_are_rejected() {
    let names = |count| (0..count).map(|number| format!("a{number}.b")).collect::<Vec<_>>().join(",");
    let error = |count| errors(&[(keys::INJECT, "true"), (keys::DNS_NAMES, &names(count))]);
    assert_eq!(
        error(MAX_LIST_ENTRIES + 1),
        ["annotation certmint.dev/dns-names: more than 100 names; write fewer"]
    );
    assert_eq!(
        error(300_000),
        ["annotation certmint.dev/dns-names: the value is longer than 8192 bytes; write a shorter one"]
    );
    assert!(parse([(keys::INJECT, "true"), (keys::DNS_NAMES, &*names(MAX_LIST_ENTRIES))]).is_ok());
    let containers = (0..=MAX_LIST_ENTRIES).map(|number| format!("a{number}")).collect::<Vec<_>>().join(",");
    assert_eq!(
        errors(&[(keys::INJECT, "true"), (keys::CONTAINERS, &containers)]),
        ["annotation certmint.dev/containers: more than 100 names; write fewer"]
    );
    assert_eq!("app,proxy,app".parse(), Ok(Containers::Named(vec!["app".into(), "proxy".into()])));
}

#[test]
fn the_number_of_errors_is_limited() {
    let unknown: Vec<String> = (0..100_000).map(|number| format!("certmint.dev/x{number}")).collect();
    let unknown: Vec<(&str, &str)> = unknown.iter().map(|key| (key.as_str(), "")).collect();
    assert_eq!(errors(&unknown).len(), MAX_ERRORS);
    assert_eq!(errors(&[[(keys::INJECT, "maybe")].repeat(1000), unknown].concat()).len(), MAX_ERRORS);
}

#[test]
fn reserved_modes_are_rejected_with_their_own_code() {
    for mode in ["pod", "kubelet"] {
        let errors = parse([(keys::INJECT, "true"), (keys::MODE, mode)]).unwrap_err();
        assert_eq!(errors, [AnnotationError::UnsupportedMode(mode)]);
        assert_eq!(errors[0].code(), crate::ErrorCode::UnsupportedMode);
        assert_eq!(
            errors[0].to_string(),
            format!(
                "annotation certmint.dev/mode: mode \"{mode}\" is not supported yet; remove the annotation or write \"secret\""
            )
        );
    }
}

#[test]
fn the_secret_name_is_the_option_or_the_default() {
    let workload = "Deployment/payments".parse().unwrap();
    let name_of = |options: WorkloadOptions| options.secret_name_for(&workload).unwrap().to_string();
    assert_eq!(name_of(WorkloadOptions::default()), "payments-certmint-tls");
    assert_eq!(
        name_of(WorkloadOptions { secret_name: Some("pay".parse().unwrap()), ..WorkloadOptions::default() }),
        "pay"
    );
}
