use super::*;
use proptest::prelude::*;

fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
    parse(pairs.iter().copied()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_of_ours_is_no_opt_in() {
    assert_eq!(parse([("team", "checkout")]), Ok(OptIn::No));
    assert_eq!(parse([(keys::INJECT, "false"), (keys::DURATION, "banana")]), Ok(OptIn::No));
}

#[test]
fn inject_alone_asks_for_the_defaults() {
    assert_eq!(parse([(keys::INJECT, "true")]), Ok(OptIn::Yes(Box::default())));
}

#[test]
fn every_key_is_read() {
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
    let expected = Request {
        mode: Mode::Secret,
        secret_name: Some("tls".parse().unwrap()),
        dns_names: vec!["pay.example.com".parse().unwrap(), "api.example.com".parse().unwrap()],
        duration: Some(Lifetime::from_seconds(5400)),
        key_algorithm: Some(KeyAlgorithm::Ed25519),
        mount_path: "/etc/tls".parse().unwrap(),
        containers: Containers::Named(vec!["app".into(), "proxy".into()]),
        renew: Renew::Never,
        reload: Some("signal:SIGHUP:nginx".parse().unwrap()),
        order: Order::Last,
        resources: Some(ContainerResources::default()),
    };
    assert_eq!(parsed, Ok(OptIn::Yes(Box::new(expected))));
}

#[test]
fn a_wrong_value_names_key_value_and_what_is_allowed() {
    assert_eq!(
        faults(&[(keys::INJECT, "ture")]),
        [
            r#"annotation certmint.dev/inject: "ture" is not allowed (did you mean "true"?); use one of true, false"#
        ]
    );
    assert_eq!(
        faults(&[(keys::INJECT, "true"), (keys::DURATION, "banana"), (keys::MODE, "sidecar")]),
        [
            r#"annotation certmint.dev/duration: "banana" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            r#"annotation certmint.dev/mode: "sidecar" is not allowed; use one of secret, pod, kubelet"#,
        ]
    );
}

#[test]
fn an_unknown_key_is_met_with_the_nearest_known_one() {
    let known = "inject, mode, secret-name, dns-names, duration, key-algorithm, mount-path, containers, renew, reload, order, resources";
    assert_eq!(
        faults(&[("certmint.dev/injct", "true")]),
        [format!(
            "annotation certmint.dev/injct does not exist (did you mean \"certmint.dev/inject\"?); known: {known}"
        )]
    );
    assert_eq!(
        faults(&[("certmint.dev/something-else", "true")]),
        [format!("annotation certmint.dev/something-else does not exist; known: {known}")]
    );
}

#[test]
fn mount_paths_stay_inside() {
    for text in ["", "/", "etc", "/a/../b", "/a//b", "/a:b", "/a b", "/.", "//"] {
        assert!(text.parse::<MountPath>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(key in "certmint.dev/[a-z-]{0,20}", value in ".{0,200}") {
        let outcome = parse([(keys::INJECT, "true"), (&*key, &*value)]);
        let texts = outcome.err().unwrap_or_default();
        prop_assert!(texts.iter().all(|fault| fault.to_string().len() < 1000));
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_read() {
    let names = |count| (0..count).map(|number| format!("a{number}.b")).collect::<Vec<_>>().join(",");
    let told = |count| faults(&[(keys::INJECT, "true"), (keys::DNS_NAMES, &names(count))]);
    assert_eq!(told(MOST_NAMES + 1), ["annotation certmint.dev/dns-names: more than 100 names; write fewer"]);
    assert_eq!(
        told(300_000),
        ["annotation certmint.dev/dns-names: the value is longer than 8192 bytes; write a shorter one"]
    );
    assert!(parse([(keys::INJECT, "true"), (keys::DNS_NAMES, &*names(MOST_NAMES))]).is_ok());
    let containers = (0..=MOST_NAMES).map(|number| format!("a{number}")).collect::<Vec<_>>().join(",");
    assert_eq!(
        faults(&[(keys::INJECT, "true"), (keys::CONTAINERS, &containers)]),
        ["annotation certmint.dev/containers: more than 100 names; write fewer"]
    );
    assert_eq!("app,proxy,app".parse(), Ok(Containers::Named(vec!["app".into(), "proxy".into()])));
}

#[test]
fn a_flood_of_faults_is_told_in_part() {
    let unknown: Vec<String> = (0..100_000).map(|number| format!("certmint.dev/x{number}")).collect();
    let unknown: Vec<(&str, &str)> = unknown.iter().map(|key| (key.as_str(), "")).collect();
    assert_eq!(faults(&unknown).len(), MOST_FAULTS);
    assert_eq!(faults(&[[(keys::INJECT, "maybe")].repeat(1000), unknown].concat()).len(), MOST_FAULTS);
}

#[test]
fn modes_that_are_not_built_are_refused_in_so_many_words() {
    assert_eq!(Mode::Secret.check(), Ok(()));
    assert_eq!(
        Mode::Kubelet.check().unwrap_err().to_string(),
        "annotation certmint.dev/mode: mode \"kubelet\" is not supported yet; remove the annotation or write \"secret\""
    );
}

#[test]
fn the_secret_is_the_one_asked_for_or_the_default() {
    let workload = "Deployment/payments".parse().unwrap();
    let name_of = |request: Request| request.secret_name_for(&workload).unwrap().to_string();
    assert_eq!(name_of(Request::default()), "payments-certmint-tls");
    assert_eq!(name_of(Request { secret_name: Some("pay".parse().unwrap()), ..Request::default() }), "pay");
}
