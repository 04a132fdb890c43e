//! Network of a cluster: one node in its own network namespace.
//!
//! Addresses are from the ranges for benchmarks and documentation (RFC 2544, RFC 5737, RFC 3849), so that they
//! cannot collide with those of a real network.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command;

/// Address families of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addresses {
    /// IPv4 only.
    #[default]
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// IPv4 and IPv6, IPv4 first.
    DualStack,
}

/// Addresses of a cluster in one family.
#[derive(Debug)]
pub(super) struct Family {
    /// Address of the node.
    pub(super) node: &'static str,
    /// Prefix length of the node's network.
    prefix: u8,
    /// Unused address in the node's network, which serves as the gateway of the default route.
    gateway: &'static str,
    /// Address range of pods.
    pub(super) pods: &'static str,
    /// Address range of Services.
    pub(super) services: &'static str,
    /// Address of the Service `kubernetes`, always the first of `services`.
    pub(super) api_service: &'static str,
    /// Address of the cluster's DNS server.
    pub(super) dns_service: &'static str,
    /// Range of all addresses, the destination of the default route.
    any: &'static str,
    /// File that turns on IP forwarding when it contains `1`.
    forwarding: &'static str,
    /// Name of the family in nft.
    pub(super) nft: &'static str,
}

const IPV4: Family = Family {
    node: "198.51.100.1",
    prefix: 24,
    gateway: "198.51.100.254",
    pods: "198.18.0.0/16",
    services: "198.19.0.0/16",
    api_service: "198.19.0.1",
    dns_service: "198.19.0.10",
    any: "0.0.0.0/0",
    forwarding: "/proc/sys/net/ipv4/ip_forward",
    nft: "ip",
};

const IPV6: Family = Family {
    node: "2001:db8:1::1",
    prefix: 64,
    gateway: "2001:db8:1::fe",
    pods: "2001:db8:2::/64",
    services: "2001:db8:3::/112",
    api_service: "2001:db8:3::1",
    dns_service: "2001:db8:3::a",
    any: "::/0",
    forwarding: "/proc/sys/net/ipv6/conf/all/forwarding",
    nft: "ip6",
};

impl Addresses {
    /// Returns the families. The API server uses the first one.
    pub(super) fn families(self) -> &'static [Family] {
        const BOTH: [Family; 2] = [IPV4, IPV6];
        match self {
            Self::Ipv4 => &[IPV4],
            Self::Ipv6 => &[IPV6],
            Self::DualStack => &BOTH,
        }
    }

    /// Returns the family of the API server.
    pub(super) fn primary(self) -> &'static Family {
        match self {
            Self::Ipv4 | Self::DualStack => &IPV4,
            Self::Ipv6 => &IPV6,
        }
    }

    /// Returns the address or range that `select` returns for each family, separated by commas. The flags of Kubernetes
    /// expect this form.
    pub(super) fn comma_separated(self, select: impl Fn(&Family) -> &'static str) -> String {
        self.families().iter().map(select).collect::<Vec<_>>().join(",")
    }

    /// Returns the URL of the API server.
    pub(super) fn api_server(self) -> String {
        let node = self.primary().node;
        let host = match node.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => node.to_owned(),
        };
        format!("https://{host}:6443")
    }
}

/// Configures loopback, the node's addresses and default routes inside the cluster's namespaces.
///
/// # Errors
/// When an interface cannot be created.
pub(super) fn up(host_name: &str, addresses: Addresses) -> Result<()> {
    // A veth pair replaces a network card, because some kernels have no dummy interfaces. No machine has the address of
    // the gateway. The default route only gives the node a source address, and makes Service addresses routable.
    for arguments in
        ["link set lo up", "link add node type veth peer name wire", "link set wire up", "link set node up"]
    {
        command::output(Command::new("ip").args(arguments.split(' ')))?;
    }
    for Family { node, prefix, gateway, any, forwarding, .. } in addresses.families() {
        // IPv6 addresses are unusable during duplicate address detection; `nodad` turns the detection off.
        let nodad = if node.contains(':') { " nodad" } else { "" };
        for arguments in [
            format!("address add {node}/{prefix} dev node{nodad}"),
            format!("route add {any} via {gateway} dev node"),
        ] {
            command::output(Command::new("ip").args(arguments.split(' ')))?;
        }
        fs::write(forwarding, "1").context("cannot turn on forwarding")?;
    }
    fs::write("/proc/sys/kernel/hostname", host_name).context("cannot set the host name")
}

/// Writes the configuration of the pod network for the container runtime.
///
/// Each pod has its own link to the node (`ptp`). So all its traffic is routed, and translated for Services
/// without bridge filtering in the kernel.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write_pod_network(directory: &Path, addresses: Addresses) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("10-pods.conflist"), pod_network(addresses).to_string())
        .context("cannot write the pod network's configuration")
}

fn pod_network(addresses: Addresses) -> Value {
    let families = addresses.families();
    let ranges: Vec<_> = families.iter().map(|family| json!([{ "subnet": family.pods }])).collect();
    let routes: Vec<_> = families.iter().map(|family| json!({ "dst": family.any })).collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni/addresses",
                    "ranges": ranges,
                    "routes": routes,
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_include_the_api_server_and_dns() {
        for Family { services, api_service, dns_service, .. } in Addresses::DualStack.families() {
            let network = services.split_once('/').map(|(network, _)| network).unwrap();
            let number = |address: &str| match address.parse().unwrap() {
                IpAddr::V4(address) => u128::from(u32::from(address)),
                IpAddr::V6(address) => u128::from(address),
            };
            assert_eq!(number(api_service), number(network) + 1);
            assert_eq!(number(dns_service), number(network) + 10);
        }
    }

    #[test]
    fn ipv6_addresses_are_in_brackets_before_a_port() {
        assert_eq!(Addresses::DualStack.api_server(), "https://198.51.100.1:6443");
        assert_eq!(Addresses::Ipv6.api_server(), "https://[2001:db8:1::1]:6443");
        assert_eq!(Addresses::DualStack.comma_separated(|family| family.node), "198.51.100.1,2001:db8:1::1");
    }
}
