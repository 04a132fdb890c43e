//! Sets of chart values. The tests render the chart with each set.

/// Chart values for one rendering.
pub(crate) struct ValueSet {
    pub(crate) name: &'static str,
    /// Arguments of `--set-json`: `path=JSON`.
    pub(crate) arguments: &'static [&'static str],
    /// Content of the value `namespaces`; empty for the whole cluster.
    pub(crate) namespaces: &'static [&'static str],
}

impl ValueSet {
    /// Returns whether the set contains exactly this argument.
    pub(crate) fn has_argument(&self, argument: &str) -> bool {
        self.arguments.contains(&argument)
    }

    /// Returns whether one of the arguments contains this text.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        self.arguments.iter().any(|value| value.contains(text))
    }
}

macro_rules! all_of {
    ($component:literal) => {
        concat!(
            $component,
            r#".priorityClassName="system-cluster-critical","#,
            $component,
            r#".nodeSelector={"disk":"ssd","kubernetes.io/arch":null},"#,
            $component,
            r#".tolerations=[{"key":"a","operator":"Exists"}],"#,
            $component,
            r#".affinity={"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"disk","operator":"In","values":["ssd"]}]}]}}},"#,
            $component,
            r#".topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"ScheduleAnyway"}],"#,
            $component,
            r#".podLabels={"network":"trusted","team":"payments"},"#,
            $component,
            r#".podAnnotations={"example.com/scan":"yes"},"#,
            $component,
            r#".podSecurityContext={"runAsUser":1000,"fsGroupChangePolicy":"OnRootMismatch"},"#,
            $component,
            r#".securityContext={"seccompProfile":{"type":"RuntimeDefault"}},"#,
            $component,
            r#".extraArgs=["--listen=0.0.0.0:8443"],"#,
            $component,
            r#".extraEnv=[{"name":"GREETING","value":"hello"}],"#,
            $component,
            r#".extraVolumes=[{"name":"more","emptyDir":{}}],"#,
            $component,
            r#".extraVolumeMounts=[{"name":"more","mountPath":"/more"}],"#,
            $component,
            r#".serviceAccount={"name":"own-"#,
            $component,
            r#"","annotations":{"example.com/role":"none"},"automount":true}"#,
        )
    };
}

/// Settings of the webhook, for the chart values that both webhook and controller have.
const ALL_OF_WEBHOOK: &str = all_of!("webhook");
/// Settings of the controller, for the same chart values.
const ALL_OF_CONTROLLER: &str = all_of!("controller");

/// The set without values.
pub(crate) const DEFAULTS: ValueSet = ValueSet { name: "the defaults", arguments: &[], namespaces: &[] };

/// All sets. Together they use every branch of every template.
pub(crate) const SETS: &[ValueSet] = &[
    DEFAULTS,
    ValueSet {
        name: "everything switched on",
        arguments: &[
            r#"commonLabels={"team":"pki"}"#,
            r#"image={"registry":"registry.example:5000/pki","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#,
            r#"fetch.image={"registry":"registry.example:5000/pki","tag":"1.2.3","pullPolicy":"Always"}"#,
            r#"imagePullSecrets=[{"name":"pull"}]"#,
            r#"policy={"extraDnsNames":{"shop":["pay.example.com"]},"excludedNamespaces":["legacy"],"shortNames":true}"#,
            r#"service={"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv6","IPv4"]}"#,
            r#"networkPolicy={"enabled":true,"metricsFrom":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}},"podSelector":{"matchLabels":{"app":"prometheus"}}}],"issuanceFrom":[{"ipBlock":{"cidr":"198.51.100.0/24","except":["198.51.100.9/32"]}}],"apiServer":[{"ipBlock":{"cidr":"198.51.100.1/32"}}]}"#,
            r#"serviceMonitor={"enabled":true,"labels":{"release":"prometheus"},"interval":"30s","scrapeTimeout":"10s","relabelings":[{"sourceLabels":["__meta_kubernetes_pod_node_name"],"targetLabel":"node"}],"metricRelabelings":[{"action":"drop","sourceLabels":["__name__"],"regex":"go_.*"}]}"#,
            r#"prometheusRule={"enabled":true,"labels":{"release":"prometheus"},"runbookUrl":"https://book.example/runbooks.html","additionalRules":[{"alert":"CertmintBusy","expr":"sum(certmint_queue_depth) > 100","for":"10m","labels":{"severity":"info"},"annotations":{"summary":"{{ $value }} workloads wait."}}]}"#,
            r#"grafanaDashboard={"enabled":true,"annotations":{"grafana_folder":"Security"}}"#,
            r#"webhook={"replicas":3,"failurePolicy":"Ignore","workloadFailurePolicy":"Ignore","namespaceSelector":{"matchLabels":{"tier":"prod"},"matchExpressions":[{"key":"legacy","operator":"DoesNotExist"}]},"objectSelector":{"matchExpressions":[{"key":"team","operator":"In","values":["a","b"]}]},"matchConditions":[{"name":"not-debug","expression":"!has(object.metadata.labels) || !('debug' in object.metadata.labels)"}]}"#,
            ALL_OF_WEBHOOK,
            "controller.replicas=3",
            ALL_OF_CONTROLLER,
        ],
        namespaces: &[],
    },
    ValueSet {
        name: "one replica under another name",
        arguments: &[
            r#"fullnameOverride="pki""#,
            r#"webhook={"replicas":1,"affinity":{"podAntiAffinity":{}},"podDisruptionBudget":{"enabled":false}}"#,
            r#"controller={"replicas":1,"affinity":{"podAntiAffinity":{}},"podDisruptionBudget":{"minAvailable":"50%"}}"#,
        ],
        namespaces: &[],
    },
    ValueSet {
        name: "two namespaces",
        arguments: &[
            r#"namespaces=["default","kube-public"]"#,
            r#"networkPolicy={"enabled":true,"metricsFrom":[]}"#,
        ],
        namespaces: &["default", "kube-public"],
    },
    ValueSet {
        name: "the webhook on its host's network",
        arguments: &[
            r#"webhook={"hostNetwork":true,"port":10250,"metricsPort":10251}"#,
            "networkPolicy.enabled=true",
            "prometheusRule.enabled=true",
        ],
        namespaces: &[],
    },
    ValueSet {
        name: "accounts and permissions created elsewhere",
        arguments: &[
            "rbac.create=false",
            r#"webhook.serviceAccount={"create":false,"name":"admission"}"#,
            r#"controller.serviceAccount={"create":false,"name":"issuer"}"#,
            // `null` removes the chart's default, for platforms that choose user and group.
            r#"webhook.podSecurityContext={"runAsUser":null,"runAsGroup":null,"fsGroup":null}"#,
        ],
        namespaces: &[],
    },
];
