//! Exact messages for wrong values of every annotation.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails with a panic")]

use certmint_contract::{annotations, keys};

/// A wrong value, and the message after `annotation KEY: `.
type Case = (&'static str, &'static str);

/// Returns the message for one annotation with one error.
fn message(key: &str, value: &str) -> String {
    let others = [(keys::INJECT, "true")].into_iter().filter(|(other, _)| *other != key);
    let errors = annotations::parse(others.chain([(key, value)])).unwrap_err();
    let [error] = &*errors else { panic!("{errors:?}") };
    error.to_string()
}

#[test]
fn wrong_values_get_allowed_values_and_a_suggestion() {
    for key in keys::USER_KEYS {
        let (_, cases) =
            WRONG.iter().find(|(known, _)| *known == key).unwrap_or_else(|| panic!("no case for {key}"));
        for (value, expected) in *cases {
            assert_eq!(message(key, value), format!("annotation {key}: {expected}"));
        }
    }
}

#[test]
fn unknown_keys_get_known_keys_and_a_suggestion() {
    for (key, hint) in UNKNOWN {
        assert_eq!(
            message(key, "true"),
            format!(
                "annotation {key} does not exist{hint}; known: inject, mode, secret-name, dns-names, duration, key-algorithm, mount-path, containers, renew, reload, order, resources"
            )
        );
    }
}

#[test]
fn long_values_are_truncated() {
    for key in keys::USER_KEYS {
        let message = message(key, &"Ä".repeat(100_000));
        assert!(message.len() < 600, "{key}: {} bytes", message.len());
    }
}

const UNKNOWN: [(&str, &str); 5] = [
    ("certmint.dev/injct", r#" (did you mean "certmint.dev/inject"?)"#),
    ("certmint.dev/Duration", r#" (did you mean "certmint.dev/duration"?)"#),
    ("certmint.dev/dns-name", r#" (did you mean "certmint.dev/dns-names"?)"#),
    ("certmint.dev/key", r#""#),
    ("certmint.dev/managed", ""),
];

const WRONG: [(&str, &[Case]); 12] = [
    (
        keys::INJECT,
        &[
            ("ture", r#""ture" is not allowed (did you mean "true"?); use one of true, false"#),
            ("True", r#""True" is not allowed (did you mean "true"?); use one of true, false"#),
            ("yes", r#""yes" is not allowed (did you mean "true"?); use one of true, false"#),
            ("0", r#""0" is not allowed (did you mean "false"?); use one of true, false"#),
            ("", r#""" is not allowed; use one of true, false"#),
            ("enabled", r#""enabled" is not allowed; use one of true, false"#),
        ],
    ),
    (
        keys::MODE,
        &[
            (
                "secrets",
                r#""secrets" is not allowed (did you mean "secret"?); use one of secret, pod, kubelet"#,
            ),
            ("Pod", r#""Pod" is not allowed (did you mean "pod"?); use one of secret, pod, kubelet"#),
            ("sidecar", r#""sidecar" is not allowed; use one of secret, pod, kubelet"#),
        ],
    ),
    (
        keys::SECRET_NAME,
        &[
            (
                "My_TLS",
                r#""My_TLS" is not a valid Secret name (did you mean "my-tls"?): use a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"#,
            ),
            (
                "-",
                r#""-" is not a valid Secret name: use a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, at most 253 characters"#,
            ),
        ],
    ),
    (
        keys::DNS_NAMES,
        &[
            (
                "Pay.example.com",
                r#""Pay.example.com" is not a DNS name (did you mean "pay.example.com"?): only a-z, 0-9, '-' and '.' are allowed; write a lowercase name like payments.shop.svc"#,
            ),
            (
                "https://pay.example.com/",
                r#""https://pay.example.com/" is not a DNS name (did you mean "pay.example.com"?): only a-z, 0-9, '-' and '.' are allowed; write a lowercase name like payments.shop.svc"#,
            ),
            (
                "*.example.com",
                r#""*.example.com" is not a DNS name: wildcards are not issued; write a lowercase name like payments.shop.svc"#,
            ),
            (
                "a.example.com,,b.example.com",
                r#""" is not a DNS name: it is empty; write a lowercase name like payments.shop.svc"#,
            ),
            (
                "10.0.0.1",
                r#""10.0.0.1" is not a DNS name: its last label is a number; write a lowercase name like payments.shop.svc"#,
            ),
            (
                "bücher.example.com",
                r#""bücher.example.com" is not a DNS name: only a-z, 0-9, '-' and '.' are allowed; write a lowercase name like payments.shop.svc"#,
            ),
            (
                "pay_eu.example.com",
                r#""pay_eu.example.com" is not a DNS name: only a-z, 0-9, '-' and '.' are allowed; write a lowercase name like payments.shop.svc"#,
            ),
        ],
    ),
    (
        keys::DURATION,
        &[
            (
                "banana",
                r#""banana" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
            (
                "24H",
                r#""24H" is not a duration (did you mean "24h"?): write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
            (
                "90 minutes",
                r#""90 minutes" is not a duration (did you mean "90m"?): write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
            (
                "24",
                r#""24" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
            (
                "0s",
                r#""0s" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
            (
                "1.5h",
                r#""1.5h" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
            (
                "-1h",
                r#""-1h" is not a duration: write a whole number with a unit, like 24h, 90m or 1h30m (units d, h, m, s)"#,
            ),
        ],
    ),
    (
        keys::KEY_ALGORITHM,
        &[
            (
                "ecdsa-p265",
                r#""ecdsa-p265" is not a key algorithm (did you mean "ecdsa-p256"?); use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
            ),
            (
                "RSA_2048",
                r#""RSA_2048" is not a key algorithm (did you mean "rsa-2048"?); use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
            ),
            (
                "P256",
                r#""P256" is not a key algorithm (did you mean "ecdsa-p256"?); use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
            ),
            (
                "rsa",
                r#""rsa" is not a key algorithm (did you mean "rsa-2048"?); use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
            ),
            (
                "rsa-1024",
                r#""rsa-1024" is not a key algorithm (did you mean "rsa-2048"?); use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
            ),
            (
                "dsa",
                r#""dsa" is not a key algorithm; use one of ecdsa-p256, ecdsa-p384, ed25519, rsa-2048, rsa-3072, rsa-4096"#,
            ),
        ],
    ),
    (
        keys::MOUNT_PATH,
        &[
            (
                "etc/tls",
                r#""etc/tls" is not a mount path (did you mean "/etc/tls"?); write an absolute path without ".." or ':', like /var/run/secrets/certmint.dev"#,
            ),
            (
                "/a/../b",
                r#""/a/../b" is not a mount path; write an absolute path without ".." or ':', like /var/run/secrets/certmint.dev"#,
            ),
            (
                "/",
                r#""/" is not a mount path; write an absolute path without ".." or ':', like /var/run/secrets/certmint.dev"#,
            ),
            (
                "/etc/tls:ro",
                r#""/etc/tls:ro" is not a mount path; write an absolute path without ".." or ':', like /var/run/secrets/certmint.dev"#,
            ),
            (
                "/proc/tls",
                r#""/proc/tls" is in /proc, a file system of the kernel; write another path, like /var/run/secrets/certmint.dev"#,
            ),
            (
                "/dev",
                r#""/dev" is in /dev, a file system of the kernel; write another path, like /var/run/secrets/certmint.dev"#,
            ),
        ],
    ),
    (
        keys::CONTAINERS,
        &[
            ("App", r#""App" is not a container name (did you mean "app"?); write names like app,proxy"#),
            ("app, ", r#""" is not a container name; write names like app,proxy"#),
            ("app;proxy", r#""app;proxy" is not a container name; write names like app,proxy"#),
        ],
    ),
    (
        keys::RENEW,
        &[
            ("never", r#""never" is not allowed; use one of true, false"#),
            ("off", r#""off" is not allowed (did you mean "false"?); use one of true, false"#),
        ],
    ),
    (
        keys::RELOAD,
        &[
            (
                "SIGHUP:nginx",
                r#""SIGHUP:nginx" is not a reload hook (did you mean "signal:SIGHUP:nginx"?): write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
            ),
            (
                "signal:hup:nginx",
                r#""signal:hup:nginx" is not a reload hook (did you mean "signal:SIGHUP:nginx"?): write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
            ),
            (
                "http://127.0.0.1:8080",
                r#""http://127.0.0.1:8080" is not a reload hook (did you mean "http://127.0.0.1:8080/"?): write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
            ),
            (
                "localhost:8080/reload",
                r#""localhost:8080/reload" is not a reload hook (did you mean "http://localhost:8080/reload"?): write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
            ),
            (
                "http://10.0.0.1:80/",
                r#""http://10.0.0.1:80/" is not a reload hook: write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
            ),
            (
                "signal:SIGKILL:nginx",
                r#""signal:SIGKILL:nginx" is not a reload hook: write http://127.0.0.1:PORT/PATH (https too) or signal:SIGHUP:PROCESS (SIGHUP, SIGUSR1 or SIGUSR2)"#,
            ),
        ],
    ),
    (
        keys::ORDER,
        &[
            ("frist", r#""frist" is not allowed (did you mean "first"?); use one of first, last"#),
            ("middle", r#""middle" is not allowed; use one of first, last"#),
        ],
    ),
    (
        keys::RESOURCES,
        &[
            (
                "64Mi",
                r#""64Mi" is not an amount; write "none", or amounts like requests.cpu=50m,requests.memory=64Mi,limits.memory=64Mi"#,
            ),
            (
                "limit.memory=64Mi",
                r#""limit.memory" is not known (did you mean "limits.memory"?); use requests.cpu, requests.memory, limits.cpu, limits.memory"#,
            ),
            ("limits.memory=64m", r#"limits.memory: "64m" is in thousandths of a byte; write Mi, like 64Mi"#),
        ],
    ),
];
