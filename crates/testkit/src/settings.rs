//! Settings of the injection for tests.

use certmint_contract::TrustBundle;
use certmint_injection::{InjectionSettings, Quantity, ResourceDefaults, RunAsUser};

/// Returns the settings of an installation with the default values of the chart.
#[must_use]
pub fn settings() -> InjectionSettings {
    InjectionSettings {
        image: "registry.example.com/certmint-fetch:1".into(),
        pull_policy: "IfNotPresent".into(),
        api_url: "https://certmint-controller.certmint-system.svc:8443".into(),
        trust_bundle: TrustBundle::first("-----BEGIN CERTIFICATE-----\n"),
        resources: ResourceDefaults {
            cpu_request: quantity("5m"),
            memory_request: quantity("8Mi"),
            cpu_limit: quantity("200m"),
            memory_limit: quantity("32Mi"),
            guaranteed_cpu: quantity("50m"),
        },
        run_as_user: RunAsUser::Set,
        deadline_seconds: 30,
        version: "certmint/1.0.0".into(),
    }
}

fn quantity(text: &str) -> Quantity {
    text.parse().expect("a quantity")
}
