//! A cluster's network: one node in a network namespace of its own, addresses that are nobody's.
//!
//! Addresses are from the ranges set aside for benchmarks and documentation (RFC 2544, RFC 5737), so that
//! they cannot collide with a real network's.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::command;

/// The node's address.
pub(super) const NODE: &str = "198.51.100.1";
/// The addresses of pods.
pub(super) const PODS: &str = "198.18.0.0/16";
/// The addresses of Services.
pub(super) const SERVICES: &str = "198.19.0.0/16";
/// The address of Service `kubernetes`: always the first of [`SERVICES`].
pub(super) const API_SERVICE: &str = "198.19.0.1";
/// The address of the cluster's name service.
pub(super) const DNS_SERVICE: &str = "198.19.0.10";

/// Brings up the loopback, the node's address and a default route, inside the cluster's namespaces.
///
/// # Errors
/// When an interface cannot be made.
pub(super) fn up(host_name: &str) -> Result<()> {
    // A veth pair stands in for a network card: some kernels have no dummy interfaces. Nothing answers at
    // the gateway; the route makes the node have an address of its own and Service addresses routable.
    for arguments in [
        "link set lo up",
        "link add node type veth peer name wire",
        "link set wire up",
        "link set node up",
        &format!("address add {NODE}/24 dev node"),
        "route add default via 198.51.100.254 dev node",
    ] {
        command::output(Command::new("ip").args(arguments.split(' ')))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot turn on forwarding")?;
    fs::write("/proc/sys/kernel/hostname", host_name).context("cannot set the host name")
}

/// Writes the configuration by which the container runtime connects pods.
///
/// Each pod has a link of its own to the node (`ptp`): all its traffic is routed, and so translated for
/// Services, without bridge filtering in the kernel.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_pod_network(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("10-pods.conflist"), pod_network().to_string())
        .context("cannot write the pod network's configuration")
}

fn pod_network() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni/addresses",
                    "ranges": [[{ "subnet": PODS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}
