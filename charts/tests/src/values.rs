//! Tests of the chart's values: each has a type and an effect.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::chart::{Chart, read};
use crate::value_tables;

/// Value that helm reads when the chart is a dependency. The templates use this value only to reject `false`.
const PARENT_CONDITION: &str = "enabled";

/// Every value that is not specific to a component, with another value than the default.
const GENERAL_VALUES: &[(&str, &str)] = &[
    (PARENT_CONDITION, "false"),
    ("nameOverride", r#""pki""#),
    ("fullnameOverride", r#""pki""#),
    ("commonLabels", r#"{"team":"pki"}"#),
    ("image.registry", r#""registry.example""#),
    ("image.repository", r#""server""#),
    ("image.tag", r#""1.2.3""#),
    ("image.digest", r#""sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#),
    ("image.pullPolicy", r#""Always""#),
    ("imagePullSecrets", r#"[{"name":"pull"}]"#),
    ("service.ipFamilyPolicy", r#""PreferDualStack""#),
    ("service.ipFamilies", r#"["IPv6"]"#),
    ("logLevel", r#""debug""#),
    ("logFormat", r#""text""#),
    ("namespaces", r#"["shop"]"#),
    ("rbac.create", "false"),
    ("policy.clusterDomain", r#""k8s.example""#),
    ("policy.trustDomain", r#""prod.example""#),
    ("policy.extraDnsNames", r#"{"shop":["pay.example.com"]}"#),
    ("policy.shortNames", "true"),
    ("policy.nameConstraints", "false"),
    ("policy.defaultDuration", r#""1h30m""#),
    ("policy.shortestDuration", r#""5m""#),
    ("policy.longestDuration", r#""48h""#),
    ("policy.keyAlgorithms", r#"["ed25519"]"#),
    ("policy.excludedNamespaces", r#"["legacy"]"#),
    ("policy.largestResources", r#"{"cpu":"500m","memory":"128Mi"}"#),
    ("ca.root", r#""offline""#),
    ("ca.rootLifetime", r#""7300d""#),
    ("ca.issuingLifetime", r#""180d""#),
    ("webhook.port", "10250"),
    ("webhook.metricsPort", "9403"),
    ("webhook.hostNetwork", "true"),
    ("webhook.failurePolicy", r#""Ignore""#),
    ("webhook.workloadFailurePolicy", r#""Ignore""#),
    ("webhook.timeoutSeconds", "3"),
    ("webhook.namespaceSelector", r#"{"matchLabels":{"tier":"prod"}}"#),
    ("webhook.objectSelector", r#"{"matchLabels":{"tier":"prod"}}"#),
    ("webhook.matchConditions", r#"[{"name":"more","expression":"true"}]"#),
    ("fetch.image.registry", r#""registry.example""#),
    ("fetch.image.repository", r#""certmint-fetch-fork""#),
    ("fetch.image.tag", r#""1.2.3""#),
    ("fetch.image.digest", r#""sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#),
    ("fetch.image.pullPolicy", r#""Always""#),
    ("fetch.resources", r#"{"limits":{"memory":"64Mi"}}"#),
    ("fetch.guaranteedCpu", r#""100m""#),
    ("fetch.runAsUser", r#""unset""#),
    ("fetch.deadlineSeconds", "60"),
    ("networkPolicy.enabled", "true"),
    ("networkPolicy.metricsFrom", r#"[{"podSelector":{}}]"#),
    ("networkPolicy.issuanceFrom", r#"[{"ipBlock":{"cidr":"198.51.100.0/24"}}]"#),
    ("networkPolicy.apiServer", r#"[{"ipBlock":{"cidr":"198.51.100.1/32"}}]"#),
    ("networkPolicy.apiServerPorts", "[8443]"),
    ("serviceMonitor.enabled", "true"),
    ("serviceMonitor.labels", r#"{"release":"prometheus"}"#),
    ("serviceMonitor.interval", r#""30s""#),
    ("serviceMonitor.scrapeTimeout", r#""10s""#),
    ("serviceMonitor.relabelings", r#"[{"targetLabel":"cluster","replacement":"one"}]"#),
    ("serviceMonitor.metricRelabelings", r#"[{"targetLabel":"cluster","replacement":"one"}]"#),
    ("prometheusRule.enabled", "true"),
    ("prometheusRule.labels", r#"{"release":"prometheus"}"#),
    ("prometheusRule.runbookUrl", r#""https://book.example/runbooks.html""#),
    ("prometheusRule.additionalRules", r#"[{"record":"certmint:due","expr":"sum(certmint_queue_depth)"}]"#),
    ("grafanaDashboard.enabled", "true"),
    ("grafanaDashboard.labels", r#"{"dashboards":"yes"}"#),
    ("grafanaDashboard.annotations", r#"{"grafana_folder":"Security"}"#),
    ("test.namespace", r#""shop""#),
    ("test.nodeSelector", r#"{"disk":"ssd"}"#),
];

/// Every value that webhook and controller both have, with another value than the default.
const COMPONENT_VALUES: &[(&str, &str)] = &[
    ("replicas", "3"),
    ("revisionHistoryLimit", "2"),
    ("resources", r#"{"requests":{"cpu":1}}"#),
    ("priorityClassName", r#""high""#),
    ("affinity", r#"{"podAntiAffinity":{}}"#),
    (
        "topologySpreadConstraints",
        r#"[{"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"ScheduleAnyway"}]"#,
    ),
    ("nodeSelector", r#"{"disk":"ssd"}"#),
    ("tolerations", r#"[{"operator":"Exists"}]"#),
    ("podLabels", r#"{"network":"trusted"}"#),
    ("podAnnotations", r#"{"example.com/scan":"yes"}"#),
    ("podSecurityContext", r#"{"runAsUser":1000}"#),
    ("securityContext", r#"{"runAsUser":1000}"#),
    ("readinessProbe", r#"{"periodSeconds":5}"#),
    ("livenessProbe", r#"{"periodSeconds":5}"#),
    ("extraArgs", r#"["--more"]"#),
    ("extraEnv", r#"[{"name":"A","value":"b"}]"#),
    ("extraVolumes", r#"[{"name":"more","emptyDir":{}}]"#),
    ("extraVolumeMounts", r#"[{"name":"more","mountPath":"/more"}]"#),
    ("serviceAccount.create", "false"),
    ("serviceAccount.name", r#""other""#),
    ("serviceAccount.annotations", r#"{"example.com/role":"none"}"#),
    ("serviceAccount.automount", "true"),
    ("podDisruptionBudget.enabled", "false"),
    ("podDisruptionBudget.maxUnavailable", r#""50%""#),
    ("podDisruptionBudget.minAvailable", "1"),
];

/// Values that the chart must reject, with words of the error.
const BAD_VALUES: &[(&str, &[&str])] = &[
    ("replicas=3", &["additional properties 'replicas' not allowed"]),
    ("webhook.replica=3", &["at '/webhook'", "additional properties 'replica' not allowed"]),
    ("webhook.replicas=null", &["at '/webhook'", "missing property 'replicas'"]),
    ("fetch.resources.limits=null", &["at '/fetch/resources'", "missing property 'limits'"]),
    ("rbac.create=null", &["at '/rbac'", "missing property 'create'"]),
    ("policy=null,namespaces=null", &["missing properties 'namespaces', 'policy'"]),
    ("webhook.replicas=0", &["at '/webhook/replicas'", "minimum: got 0, want 1"]),
    (r#"webhook.replicas="2""#, &["at '/webhook/replicas'", "got string, want integer"]),
    ("webhook.timeoutSeconds=31", &["at '/webhook/timeoutSeconds'", "want 30"]),
    (r#"webhook.workloadFailurePolicy="fail""#, &["at '/webhook/workloadFailurePolicy'", "'Fail', 'Ignore'"]),
    (r#"webhook.failurePolicy="ignore""#, &["at '/webhook/failurePolicy'", "'Fail', 'Ignore'"]),
    (
        r#"webhook.matchConditions=[{"name":"certmint-keys","expression":"true"}]"#,
        &["at '/webhook/matchConditions/0/name'"],
    ),
    (r#"webhook.resources={"limit":{}}"#, &["at '/webhook/resources'", "'limit' not allowed"]),
    (r#"webhook.affinity={"podAffinty":{}}"#, &["at '/webhook/affinity'", "'podAffinty' not allowed"]),
    (r#"webhook.podLabels={"app.kubernetes.io/name":"x"}"#, &["at '/webhook/podLabels/app.kubernetes.io"]),
    (r#"commonLabels={"certmint.dev/managed":"true"}"#, &["at '/commonLabels/certmint.dev"]),
    (
        "webhook.podSecurityContext.runAsNonRoot=false",
        &["at '/webhook/podSecurityContext/runAsNonRoot'", "true"],
    ),
    (
        "controller.podSecurityContext.runAsUser=0",
        &["at '/controller/podSecurityContext/runAsUser'", "want 1"],
    ),
    ("webhook.podSecurityContext.seccompProfile=null", &["missing property 'seccompProfile'"]),
    ("webhook.securityContext=null", &["at '/webhook'", "missing property 'securityContext'"]),
    ("controller.podSecurityContext=null", &["at '/controller'", "missing property 'podSecurityContext'"]),
    // POD_NAME is the identity of a replica in the Lease. With equal names, both replicas would lead.
    (r#"controller.extraEnv=[{"name":"POD_NAME","value":"same"}]"#, &["at '/controller/extraEnv/0/name'"]),
    (r#"fetch.image.repository="a: b""#, &["at '/fetch/image/repository'"]),
    (
        r#"controller.podSecurityContext.seccompProfile.type="Unconfined""#,
        &["at '/controller/podSecurityContext/seccompProfile/type'"],
    ),
    ("webhook.securityContext.privileged=true", &["at '/webhook/securityContext/privileged'", "false"]),
    (
        "controller.securityContext.allowPrivilegeEscalation=true",
        &["at '/controller/securityContext/allowPrivilegeEscalation'"],
    ),
    ("webhook.securityContext.readOnlyRootFilesystem=null", &["missing property 'readOnlyRootFilesystem'"]),
    (
        r#"controller.securityContext.capabilities={"add":["NET_ADMIN"]}"#,
        &["at '/controller/securityContext/capabilities'", "'add' not allowed"],
    ),
    (
        r#"controller.extraVolumes=[{"name":"host","hostPath":{"path":"/"}}]"#,
        &["at '/controller/extraVolumes/0'", "'hostPath' not allowed"],
    ),
    (
        "webhook.serviceAccount.create=false",
        &["webhook.serviceAccount.name: name a service account", "serviceAccount.create is false"],
    ),
    (
        r#"webhook.serviceAccount.name="certmint-controller""#,
        &["certmint-controller is also the controller's service account", "different accounts"],
    ),
    (
        r#"webhook.podDisruptionBudget.minAvailable="half""#,
        &["at '/webhook/podDisruptionBudget/minAvailable'"],
    ),
    ("fetch.runAsUser=65532", &["at '/fetch/runAsUser'", "'auto', 'set', 'unset'"]),
    (
        r#"policy.largestResources.memory="lots""#,
        &["at '/policy/largestResources/memory'", "does not match pattern"],
    ),
    ("policy.largestResources.cpu=-1", &["at '/policy/largestResources/cpu'", "minimum: got -1, want 0"]),
    ("fetch.deadlineSeconds=0", &["at '/fetch/deadlineSeconds'", "minimum: got 0, want 1"]),
    (r#"image.pullPolicy="Sometimes""#, &["at '/image/pullPolicy'", "'Always', 'IfNotPresent', 'Never'"]),
    (r#"image.digest="sha256:abc""#, &["at '/image/digest'", "does not match pattern"]),
    (r#"policy.clusterDomain="Cluster.Local""#, &["at '/policy/clusterDomain'", "does not match pattern"]),
    (
        r#"policy.defaultDuration="banana""#,
        &["at '/policy/defaultDuration'", "'banana' does not match pattern"],
    ),
    (r#"ca.root="vault""#, &["at '/ca/root'", "'generated', 'offline'"]),
    (r#"ca.rootLifetime="10y""#, &["at '/ca/rootLifetime'", "'10y' does not match pattern"]),
    (
        r#"policy.longestDuration="60d""#,
        &["ca.issuingLifetime: 90d", "three times policy.longestDuration (60d)", "raise ca.issuingLifetime"],
    ),
    (
        r#"ca.rootLifetime="30d""#,
        &["ca.rootLifetime: 30d is shorter than ca.issuingLifetime (90d)", "raise ca.rootLifetime"],
    ),
    (
        r#"policy.defaultDuration="10m",policy.longestDuration="10m",ca.issuingLifetime="59m""#,
        &["ca.issuingLifetime: 59m is shorter than the minimum of 1h"],
    ),
    (r#"ca.rootLifetime="49711d""#, &["ca.rootLifetime: 49711d is too short or too long"]),
    ("policy.keyAlgorithms=[]", &["at '/policy/keyAlgorithms'", "minItems: got 0, want 1"]),
    (r#"policy.keyAlgorithms=["rsa-1024"]"#, &["at '/policy/keyAlgorithms/0'", "'ecdsa-p256'"]),
    (r#"policy.extraDnsNames={"shop":["*.example.com"]}"#, &["at '/policy/extraDnsNames/shop/0'"]),
    (r#"networkPolicy.metricsFrom=[{}]"#, &["at '/networkPolicy/metricsFrom/0'", "minProperties"]),
    (r#"serviceMonitor.interval="often""#, &["at '/serviceMonitor/interval'", "does not match pattern"]),
    (r#"prometheusRule.additionalRules=[{"alert":"A"}]"#, &["missing property 'expr'"]),
    (
        r#"prometheusRule.additionalRules=[{"alert":"A","expr":"1","For":"1m"}]"#,
        &["at '/prometheusRule/additionalRules/0'", "'For' not allowed"],
    ),
    (
        r#"grafanaDashboard.labels={"certmint.dev/managed":"true"}"#,
        &["at '/grafanaDashboard/labels/certmint.dev"],
    ),
    ("enabled=false", &["enabled: false", "write condition: certmint.enabled"]),
    (r#"service.ipFamilies=["IPv5"]"#, &["at '/service/ipFamilies/0'", "'IPv4', 'IPv6'"]),
    (
        r#"service={"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4","IPv6"]}"#,
        &["service.ipFamilies: lists two families", "SingleStack allows one"],
    ),
    ("webhook.port=443", &["at '/webhook/port'", "minimum: got 443"]),
    ("webhook.port=9402", &["webhook.metricsPort: 9402 is also webhook.port"]),
    (
        r#"prometheusRule.runbookUrl="docs/src/runbooks.md""#,
        &["at '/prometheusRule/runbookUrl'", "does not match pattern"],
    ),
    (r#"namespaces=["kube-system"]"#, &["at '/namespaces/0'"]),
    (r#"namespaces=["certmint-system"]"#, &["certmint-system is the release's own namespace", "remove it"]),
    (
        r#"namespaces=["shop"],test.namespace="bank""#,
        &["test.namespace: bank is not in namespaces (shop)", "choose one of these"],
    ),
    (r#"test.namespace="certmint-system""#, &["certmint-system is the release's own namespace"]),
];

/// Checks that every value in `values.yaml` has a comment and is in these lists.
pub(crate) fn every_value_is_tested() -> Result<()> {
    let documented: BTreeSet<String> = value_tables::values()?.into_iter().map(|value| value.path).collect();
    let tested: BTreeSet<String> = changed_values().map(|(path, _)| path).collect();
    ensure!(
        documented == tested,
        "values.yaml and the tested values differ in {:?}",
        documented.symmetric_difference(&tested).collect::<Vec<_>>()
    );
    Ok(())
}

/// Checks that the schema rejects unknown properties everywhere.
pub(crate) fn schema_is_closed() -> Result<()> {
    fn visit(schema: &Value, path: &str) -> Result<()> {
        let is_closed = schema["properties"].is_null() || schema["additionalProperties"] == false;
        ensure!(is_closed, "values.schema.json accepts unknown keys at {path}");
        let children = schema.as_object().into_iter().flatten().map(|(key, child)| (key.clone(), child));
        let elements = schema.as_array().into_iter().flatten().enumerate();
        let elements = elements.map(|(index, child)| (index.to_string(), child));
        children.chain(elements).try_for_each(|(key, child)| visit(child, &format!("{path}/{key}")))
    }
    visit(&serde_json::from_str(&read("values.schema.json")?).context("values.schema.json is not JSON")?, "")
}

/// Checks that each changed value changes the rendered objects.
pub(crate) fn every_value_has_an_effect(chart: &Chart) -> Result<()> {
    let mut bases = HashMap::new();
    for (path, other) in changed_values().filter(|(path, _)| path != PARENT_CONDITION) {
        let base = needed_by(&path);
        let argument = format!("{path}={other}");
        let base: Vec<&str> = base.iter().map(String::as_str).collect();
        let rendered = chart.template(&[base.as_slice(), &[&argument]].concat())?;
        let before = match bases.entry(base.join(",")) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(chart.template(&base)?),
        };
        ensure!(rendered != *before, "the value {path} does not change the rendered objects");
    }
    Ok(())
}

/// Checks that wrong types, unknown keys and values out of range are rejected, and that the error names the value.
pub(crate) fn bad_values_are_rejected(chart: &Chart) -> Result<()> {
    let unknown: Vec<String> =
        changed_values().map(|(path, _)| format!(r#"{path}={{"No such key":1}}"#)).collect();
    let pointers: Vec<String> =
        changed_values().map(|(path, _)| format!("at '/{}", path.replace('.', "/"))).collect();
    let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
    expect_rejected(chart, &unknown.join(","), &pointers)?;
    BAD_VALUES.iter().try_for_each(|(bad, words)| expect_rejected(chart, bad, words))
}

fn expect_rejected(chart: &Chart, bad: &str, words: &[&str]) -> Result<()> {
    let Err(error) = chart.template(&[bad]) else { bail!("the chart accepts --set-json {bad}") };
    let error = error.to_string();
    match words.iter().find(|word| !error.contains(**word)) {
        Some(word) => bail!("--set-json {bad} is rejected, but not with \"{word}\": {error}"),
        None => Ok(()),
    }
}

fn changed_values() -> impl Iterator<Item = (String, &'static str)> {
    let of_components = ["webhook", "controller"].into_iter().flat_map(|component| {
        COMPONENT_VALUES.iter().map(move |(name, other)| (format!("{component}.{name}"), *other))
    });
    GENERAL_VALUES.iter().map(|(path, other)| ((*path).to_owned(), *other)).chain(of_components)
}

/// Returns the argument that sets another value, without which the value at `path` has no effect.
fn needed_by(path: &str) -> Option<String> {
    let (group, rest) = path.split_once('.')?;
    if rest == "serviceAccount.create" {
        // If the chart does not create the account, the values must name one. The test uses the chart's default name.
        return Some(format!(r#"{group}.serviceAccount.name="certmint-{group}""#));
    }
    let switch = format!("{group}.enabled");
    let switched = GENERAL_VALUES.iter().any(|(other, on)| *other == switch && *on == "true");
    (switched && path != switch).then(|| format!("{switch}=true"))
}
