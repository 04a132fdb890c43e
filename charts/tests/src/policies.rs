//! Checks that the chart and the programs (the webhook and the controller) accept the same policies.

use anyhow::{Context as _, Result, ensure};
use certmint_contract::Policy;
use serde_json::{Value, json};

use crate::chart::Chart;

/// Returns a policy with this longest duration and these lifetimes of the CA's certificates.
fn with_ca(longest: &str, issuing: &str, root: &str) -> Value {
    json!({ "longestDuration": longest, "ca": { "issuingLifetime": issuing, "rootLifetime": root } })
}

/// Returns changes of the default policy, each with whether the changed policy is valid. The chart has the values of
/// `ca` in a group of their own.
fn cases() -> Vec<(Value, bool)> {
    let label = "a".repeat(63);
    let names = |count: usize| -> Vec<String> {
        (0..count).map(|number| format!("{number:018}.example.com")).collect()
    };
    let domain = |length: usize| format!("{}a", "a.".repeat(length / 2));
    let extra = |names: Value| json!({ "extraDnsNames": { "shop": names } });
    vec![
        (json!({ "longestDuration": "12h" }), false),
        (json!({ "longestDuration": "24h" }), true),
        (json!({ "shortestDuration": "25h" }), false),
        (json!({ "shortestDuration": "23h59m60s" }), true),
        (json!({ "defaultDuration": "9m59s" }), false),
        (json!({ "defaultDuration": "0s", "shortestDuration": "0s" }), false),
        (json!({ "shortestDuration": "0d1s" }), true),
        (with_ca("49711d", "49710d", "49710d"), false),
        (with_ca("16571d", "49710d", "49710d"), false),
        (with_ca("16570d", "49710d", "49710d"), true),
        (with_ca("30d", "90d", "90d"), true),
        (with_ca("30d", "90d", "89d23h59m59s"), false),
        (with_ca("30d", "89d23h59m59s", "90d"), false),
        (with_ca("30d1s", "90d3s", "49710d"), true),
        (with_ca("30d1s", "90d2s", "49710d"), false),
        (with_ca("30d", "90d", "49711d"), false),
        (json!({ "ca": { "rootLifetime": "10y" } }), false),
        (json!({ "ca": { "issuingLifetime": null } }), false),
        (
            json!({ "shortestDuration": "1s", "defaultDuration": "1s", "longestDuration": "1s", "ca": { "issuingLifetime": "1h" } }),
            true,
        ),
        (
            json!({ "shortestDuration": "1s", "defaultDuration": "1s", "longestDuration": "1s", "ca": { "issuingLifetime": "59m59s" } }),
            false,
        ),
        (json!({ "longestDuration": "9999999999d9999999999d" }), false),
        (json!({ "clusterDomain": domain(249) }), true),
        (json!({ "clusterDomain": domain(251) }), false),
        (json!({ "clusterDomain": "10.96.0.10" }), false),
        (json!({ "clusterDomain": format!("{label}.example") }), true),
        (json!({ "clusterDomain": format!("{label}a.example") }), false),
        (json!({ "trustDomain": "Example.org" }), false),
        (json!({ "trustDomain": "example_org.-" }), true),
        (extra(json!(["1.2.3.4"])), false),
        (extra(json!(["4.example"])), true),
        (extra(json!(["-a.example"])), false),
        (extra(json!([format!("{label}a.example")])), false),
        (extra(json!(names(226))), true),
        (extra(json!(names(227))), false),
        (json!({ "extraDnsNames": { "shop": names(150), "bank": names(150) } }), true),
        (json!({ "extraDnsNames": { "shop": names(1_000), "bank": ["example.com"] } }), true),
        (json!({ "extraDnsNames": { "shop": names(1_000) }, "nameConstraints": false }), true),
        (json!({ "extraDnsNames": { "shop": names(1_000) }, "shortNames": true }), true),
        (json!({ "extraDnsNames": { "Shop": [] } }), false),
        (json!({ "keyAlgorithms": ["ecdsa-p521"] }), false),
        (json!({ "keyAlgorithms": null }), false),
        (json!({ "excludedNamespaces": ["a.b"] }), false),
        (json!({ "nameConstraints": "no" }), false),
    ]
}

/// Number of random policies.
const RANDOM_POLICIES: usize = 60;

/// Checks that the programs accept every policy that the chart stores, and that the chart rejects no valid policy.
pub(crate) fn chart_and_programs_agree(chart: &Chart) -> Result<()> {
    for (policy, is_valid) in cases() {
        let stored = stored(chart, &policy)?;
        ensure!(
            stored.is_some() == is_valid,
            "the chart {} the policy {policy}",
            if is_valid { "rejects" } else { "accepts" }
        );
    }
    let mut random = RandomNumbers(0x9E37_79B9_7F4A_7C15);
    for _ in 0..RANDOM_POLICIES {
        let policy = json!({
            "shortestDuration": random.one_of(&["0s", "1s", "59m60s", "1h", "23h", "2d"]),
            "defaultDuration": random.one_of(&["1h", "60m", "3600s", "24h", "1d", "99999d"]),
            "longestDuration": random.one_of(&["1s", "59m", "1h0m1s", "24h", "1440m", "30d", "5000000000s"]),
            "clusterDomain": random.one_of(&["cluster.local", "a", "7", "a.7", "a..b", "a-.b", "x7"]),
            "ca": {
                "issuingLifetime": random.one_of(&["59m", "1h", "3h", "72h", "3d", "90d", "2160h", "9999999999d"]),
                "rootLifetime": random.one_of(&["0s", "1h", "90d", "2160h1s", "3650d", "49710d"]),
            },
        });
        let is_accepted = stored(chart, &policy)?.is_some();
        let read = Policy::from_json(policy.to_string().as_bytes());
        ensure!(is_accepted == read.is_ok(), "the chart and the programs differ about {policy}: {read:?}");
    }
    Ok(())
}

/// Returns the policy that the chart stores with these values, or `None` when the chart rejects them.
fn stored(chart: &Chart, policy: &Value) -> Result<Option<Policy>> {
    let mut values = policy.clone();
    let ca = values.as_object_mut().and_then(|values| values.remove("ca")).unwrap_or_else(|| json!({}));
    let (values, ca) = (format!("policy={values}"), format!("ca={ca}"));
    let Ok(manifest) = chart.render(&[&values, &ca]) else { return Ok(None) };
    let text = &manifest.object("ConfigMap", "certmint-policy")?["data"]["policy.json"];
    let read = Policy::from_json(text.as_str().unwrap_or_default().as_bytes());
    read.map(Some).with_context(|| format!("the chart accepts {policy}, but the programs reject it"))
}

/// Pseudo-random numbers from a seed (xorshift64).
struct RandomNumbers(u64);

impl RandomNumbers {
    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let choice = usize::try_from(self.0 >> 33).unwrap_or_default() % texts.len().max(1);
        texts.get(choice).copied().unwrap_or_default()
    }
}
