//! Configuration and command lines of the node's services: container runtime, kubelet and kube-proxy.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::network::{self, Addresses};
use super::pki::Pki;
use super::service::Service;
use crate::machine;

/// Name of the node.
pub(super) const NAME: &str = "node";
/// Socket of the container runtime.
pub(super) const RUNTIME_SOCKET: &str = "/run/containerd/containerd.sock";

/// Returns the container runtime.
///
/// # Errors
/// When its configuration cannot be written, or a required package is not installed.
pub(super) fn containerd(directory: &Path, pause_image: &str, addresses: Addresses) -> Result<Service> {
    let pod_network = directory.join("pod-network");
    network::write_pod_network(&pod_network, addresses)?;
    let plugins = machine::installed_path("containernetworking-plugins").and_then(Path::parent);
    let plugins = plugins.context("the Debian package containernetworking-plugins is not installed")?;
    let runc = machine::installed_path("runc").context("the Debian package runc is not installed")?;
    // restrict_oom_score_adj: the kernel does not let a process without CAP_SYS_RESOURCE lower an OOM score.
    let config = format!(
        r#"version = 3
root = "{root}"
state = "/run/containerd"
[grpc]
address = "{RUNTIME_SOCKET}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause_image}"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{plugins}"]
conf_dir = "{pod_network}"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#,
        root = directory.join("containerd").display(),
        plugins = plugins.display(),
        pod_network = pod_network.display(),
        runc = runc.display(),
    );
    let path = write(directory, "containerd.toml", &config)?;
    Ok(Service { program: "containerd", arguments: vec![format!("--config={}", path.display())] })
}

/// Returns the kubelet, which uses the cgroup `cgroup`. Two kubelets in one cgroup would remove each other's pods.
///
/// # Errors
/// When its configuration cannot be written.
pub(super) fn kubelet(directory: &Path, pki: &Pki, cgroup: &str, addresses: Addresses) -> Result<Service> {
    // The file has no name server, so pods cannot resolve names outside the cluster.
    let resolver = write(directory, "resolv.conf", "")?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki.certificate("ca") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "clusterDNS": [addresses.primary().dns_service],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{RUNTIME_SOCKET}"),
        "enforceNodeAllocatable": ["none"],
        // Tests must not fail because disk or memory of the machine are nearly full.
        "evictionHard": {
            "imagefs.available": "0%", "imagefs.inodesFree": "0%", "memory.available": "0%",
            "nodefs.available": "0%", "nodefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "resolvConf": resolver,
        "tlsCertFile": pki.certificate("kubelet"),
        "tlsPrivateKeyFile": pki.key("kubelet"),
        "volumePluginDir": directory.join("volume-plugins"),
    });
    let config = write(directory, "kubelet.json", &config.to_string())?;
    Ok(Service {
        program: "kubelet",
        arguments: vec![
            format!("--config={}", config.display()),
            format!("--hostname-override={NAME}"),
            format!("--kubeconfig={}", pki.kubeconfig_of("node").display()),
            format!("--node-ip={}", addresses.comma_separated(|family| family.node)),
            format!("--root-dir={}", directory.join("kubelet").display()),
        ],
    })
}

/// Returns kube-proxy.
///
/// # Errors
/// When its configuration cannot be written.
pub(super) fn kube_proxy(directory: &Path, pki: &Pki, addresses: Addresses) -> Result<Service> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": pki.kubeconfig_of("proxy") },
        "clusterCIDR": addresses.comma_separated(|family| family.pods),
        // Zero leaves the machine-wide limits unchanged, which cannot be written from a network namespace.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s",
            "udpStreamTimeout": "0s", "udpTimeout": "0s",
        },
        "hostnameOverride": NAME,
        "mode": "nftables",
        "oomScoreAdj": 0,
    });
    let config = write(directory, "kube-proxy.json", &config.to_string())?;
    Ok(Service { program: "kube-proxy", arguments: vec![format!("--config={}", config.display())] })
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
