//! Flags of `certmint controller`. Each can be given as an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;

use certmint_contract::Namespace;
use certmint_server::PolicyFile;

use crate::ca::{CaNames, ExchangeNames};
use crate::events::InvolvedObject;
use crate::leadership::LeaseParams;
use crate::own_certificates::{OwnService, WebhookNames};

/// Holds the CA, issues and renews certificates, serves the issuance API.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Namespace of the controller.
    #[arg(long, env = "CERTMINT_NAMESPACE")]
    pub namespace: Namespace,
    /// Name of this replica in the Lease: the name of its pod.
    #[arg(long, env = "CERTMINT_IDENTITY")]
    pub identity: String,
    /// Service account of the controller.
    #[arg(long, env = "CERTMINT_SERVICE_ACCOUNT", default_value = "certmint-controller")]
    pub service_account: String,
    /// Deployment of the controller. Events about the CA refer to it.
    #[arg(long, env = "CERTMINT_DEPLOYMENT", default_value = "certmint-controller")]
    pub deployment: String,
    /// JSON file with the policy. The program reloads it when it changes, and ignores it while it is not valid.
    #[arg(long, env = "CERTMINT_POLICY")]
    pub policy: PathBuf,
    /// File with the last valid policy, which the controller keeps. The program starts with it while the policy is
    /// not valid.
    #[arg(long, env = "CERTMINT_LAST_VALID_POLICY")]
    pub last_valid_policy: Option<PathBuf>,
    /// ConfigMap in which the controller keeps the last valid policy.
    #[arg(long, env = "CERTMINT_LAST_VALID_POLICY_CONFIGMAP", default_value = "certmint-last-valid-policy")]
    pub last_valid_policy_configmap: String,
    /// Address on which the controller serves the issuance API over TLS. `[::]` means every address, including IPv4.
    #[arg(long, env = "CERTMINT_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Address on which the program serves /healthz, /readyz and /metrics over plain HTTP. `[::]` means every
    /// address, including IPv4.
    #[arg(long, env = "CERTMINT_HEALTH_LISTEN", default_value = "[::]:9402")]
    pub health_listen: SocketAddr,
    /// Service of the issuance API.
    #[arg(long, env = "CERTMINT_CONTROLLER_SERVICE", default_value = "certmint-controller")]
    pub controller_service: String,
    /// Secret with the keys of the CA.
    #[arg(long, env = "CERTMINT_CA_SECRET", default_value = "certmint-ca")]
    pub ca_secret: String,
    /// Public ConfigMap with the root certificates.
    #[arg(long, env = "CERTMINT_TRUST_BUNDLE_CONFIGMAP", default_value = "certmint-trust-bundle")]
    pub trust_bundle_configmap: String,
    /// ConfigMap in which an operator requests a new issuing CA.
    #[arg(
        long,
        env = "CERTMINT_ISSUING_CA_REQUEST_CONFIGMAP",
        default_value = "certmint-issuing-ca-request"
    )]
    pub issuing_ca_request_configmap: String,
    /// Where the root comes from.
    #[arg(long, env = "CERTMINT_CA_ROOT", default_value = "generated")]
    pub ca_root: RootSource,
    /// Public ConfigMap in which the controller writes the request for an issuing CA below an offline root.
    #[arg(long, env = "CERTMINT_CA_REQUEST_CONFIGMAP", default_value = "certmint-ca-request")]
    pub ca_request_configmap: String,
    /// ConfigMap from which the controller imports an issuing CA below an offline root.
    #[arg(long, env = "CERTMINT_CA_IMPORT_CONFIGMAP", default_value = "certmint-ca-import")]
    pub ca_import_configmap: String,
    /// Secret with the webhook's serving certificate.
    #[arg(long, env = "CERTMINT_WEBHOOK_SECRET", default_value = "certmint-webhook-tls")]
    pub webhook_secret: String,
    /// MutatingWebhookConfiguration whose caBundle the controller keeps up to date.
    #[arg(long, env = "CERTMINT_WEBHOOK_CONFIGURATION", default_value = "certmint")]
    pub webhook_configuration: String,
    /// Service of the webhook.
    #[arg(long, env = "CERTMINT_WEBHOOK_SERVICE", default_value = "certmint-webhook")]
    pub webhook_service: String,
    /// Service account of the webhook.
    #[arg(long, env = "CERTMINT_WEBHOOK_SERVICE_ACCOUNT", default_value = "certmint-webhook")]
    pub webhook_service_account: String,
    /// Lease that decides which replica leads.
    #[arg(long, env = "CERTMINT_LEASE", default_value = "certmint-controller")]
    pub lease: String,
    /// Number of workloads that the controller processes at one time.
    #[arg(long, env = "CERTMINT_CONCURRENCY", default_value_t = 16,
          value_parser = clap::value_parser!(u16).range(1..=512))]
    pub concurrency: u16,
    /// Comma-separated namespaces that the controller serves. Without this flag it serves all namespaces.
    #[arg(long, env = "CERTMINT_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<Namespace>,
}

/// Where the root comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RootSource {
    /// The controller generates the root, and holds its key.
    Generated,
    /// The root's key is outside the cluster. An operator imports each issuing CA.
    Offline,
}

/// Flags, grouped by the part of the controller that needs them.
pub(crate) struct ControllerSettings {
    pub(crate) policy: PolicyFile,
    pub(crate) last_valid_policy: String,
    pub(crate) listen: SocketAddr,
    pub(crate) health_listen: SocketAddr,
    pub(crate) identity: String,
    pub(crate) concurrency: usize,
    pub(crate) watch_namespaces: Vec<Namespace>,
    pub(crate) ca: CaNames,
    /// ConfigMaps of request and import, if the root is offline.
    pub(crate) offline_root: Option<ExchangeNames>,
    pub(crate) lease: LeaseParams,
    pub(crate) api: OwnService,
    pub(crate) webhook: OwnService,
    pub(crate) webhook_names: WebhookNames,
    pub(crate) own_deployment: InvolvedObject,
}

impl From<Args> for ControllerSettings {
    fn from(args: Args) -> Self {
        let Args {
            namespace,
            identity,
            service_account,
            deployment,
            policy,
            last_valid_policy,
            last_valid_policy_configmap,
            listen,
            health_listen,
            controller_service,
            ca_secret,
            trust_bundle_configmap,
            issuing_ca_request_configmap,
            ca_root,
            ca_request_configmap,
            ca_import_configmap,
            webhook_secret,
            webhook_configuration,
            webhook_service,
            webhook_service_account,
            lease,
            concurrency,
            watch_namespaces,
        } = args;
        let own_service =
            |name, service_account| OwnService { name, service_account, namespace: namespace.clone() };
        Self {
            policy: PolicyFile { path: policy, last_valid: last_valid_policy },
            last_valid_policy: last_valid_policy_configmap,
            listen,
            health_listen,
            concurrency: concurrency.into(),
            watch_namespaces,
            ca: CaNames {
                namespace: namespace.to_string(),
                secret: ca_secret,
                bundle: trust_bundle_configmap,
                issuing_request: issuing_ca_request_configmap,
            },
            offline_root: (ca_root == RootSource::Offline).then(|| ExchangeNames {
                namespace: namespace.to_string(),
                request: ca_request_configmap,
                import: ca_import_configmap,
            }),
            lease: LeaseParams { namespace: namespace.to_string(), name: lease, identity: identity.clone() },
            identity,
            api: own_service(controller_service, service_account),
            webhook: own_service(webhook_service, webhook_service_account),
            webhook_names: WebhookNames { secret: webhook_secret, configuration: webhook_configuration },
            own_deployment: InvolvedObject {
                api_version: "apps/v1",
                kind: "Deployment",
                namespace: namespace.as_str().into(),
                name: deployment.into(),
                uid: None,
            },
        }
    }
}
