//! Command lines of etcd, the API server, the controller manager and the scheduler.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::directory::AUDIT_LOG;
use super::network::Addresses;
use super::pki::Pki;
use super::service::Service;

const AUDIT_POLICY: &str = include_str!("audit-policy.yaml");

/// Returns etcd, the API server's store. It does not sync to disk: in a power failure it would lose data, but the test
/// cluster would end anyway.
#[must_use]
pub(super) fn etcd(directory: &Path) -> Service {
    Service {
        program: "etcd",
        arguments: vec![
            format!("--data-dir={}", directory.join("etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ],
    }
}

/// Returns the API server, with the aggregation layer that metrics-server needs. It logs the requests of
/// Certmint's accounts in [`AUDIT_LOG`].
///
/// # Errors
/// When the audit policy cannot be written.
pub(super) fn api_server(directory: &Path, pki: &Pki, addresses: Addresses) -> Result<Service> {
    let audit_policy = directory.join("audit-policy.yaml");
    fs::write(&audit_policy, AUDIT_POLICY).context("cannot write the audit policy")?;
    let certificate = |name: &str| pki.certificate(name).display().to_string();
    let key = |name: &str| pki.key(name).display().to_string();
    let options = [
        ("advertise-address", addresses.primary().node.to_owned()),
        ("allow-privileged", "true".to_owned()),
        // The unit is MB. By default, the API server rotates the log at 100 MB, and readers would miss earlier
        // requests.
        ("audit-log-maxsize", "10000".to_owned()),
        ("audit-log-path", directory.join(AUDIT_LOG).display().to_string()),
        ("audit-policy-file", audit_policy.display().to_string()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("client-ca-file", certificate("ca")),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("enable-aggregator-routing", "true".to_owned()),
        ("etcd-servers", "http://127.0.0.1:2379".to_owned()),
        ("kubelet-certificate-authority", certificate("ca")),
        ("kubelet-client-certificate", certificate("apiserver-kubelet-client")),
        ("kubelet-client-key", key("apiserver-kubelet-client")),
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ("proxy-client-cert-file", certificate("front-proxy-client")),
        ("proxy-client-key-file", key("front-proxy-client")),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-client-ca-file", certificate("front-proxy-ca")),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", key("service-accounts")),
        ("service-account-signing-key-file", key("service-accounts")),
        ("service-cluster-ip-range", addresses.comma_separated(|family| family.services)),
        ("tls-cert-file", certificate("apiserver")),
        ("tls-private-key-file", key("apiserver")),
    ];
    Ok(service("kube-apiserver", options))
}

/// Returns the controller manager. The caller starts it after the API server is ready: until then, the RBAC roles of
/// the controller manager do not exist.
#[must_use]
pub(super) fn controller_manager(pki: &Pki) -> Service {
    let kubeconfig = pki.kubeconfig_of("controller-manager").display().to_string();
    let options = [
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("cluster-signing-cert-file", pki.certificate("ca").display().to_string()),
        ("cluster-signing-key-file", pki.key("ca").display().to_string()),
        // With the default of 20 requests a second, the last controller starts after four seconds.
        ("kube-api-burst", "400".to_owned()),
        ("kube-api-qps", "200".to_owned()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "false".to_owned()),
        // A test disconnects the node from the API server for a minute. The controller manager must not mark it as
        // unhealthy.
        ("node-monitor-grace-period", "3m".to_owned()),
        ("root-ca-file", pki.certificate("ca").display().to_string()),
        ("service-account-private-key-file", pki.key("service-accounts").display().to_string()),
        ("use-service-account-credentials", "true".to_owned()),
    ];
    service("kube-controller-manager", options)
}

/// Returns the scheduler. The caller starts it after the API server is ready.
#[must_use]
pub(super) fn scheduler(pki: &Pki) -> Service {
    let kubeconfig = pki.kubeconfig_of("scheduler").display().to_string();
    let options = [
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "false".to_owned()),
    ];
    service("kube-scheduler", options)
}

fn service<const N: usize>(program: &'static str, options: [(&str, String); N]) -> Service {
    Service { program, arguments: options.map(|(name, value)| format!("--{name}={value}")).to_vec() }
}
