//! A cluster's network: one node in a network namespace of its own, addresses that are nobody's.
//!
//! Addresses are from the ranges set aside for benchmarks and documentation (RFC 2544, RFC 5737, RFC 3849), so that
//! they cannot collide with a real network's.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command;

/// Of which families a cluster's addresses are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addresses {
    /// IPv4 alone.
    #[default]
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both, IPv4 first.
    DualStack,
}

/// A cluster's addresses of one family.
#[derive(Debug)]
pub(super) struct Family {
    /// The node's address.
    pub(super) node: &'static str,
    /// The length of the prefix of the node's network.
    prefix: u8,
    /// Nobody's address in the node's network, by which everything else is reached.
    gateway: &'static str,
    /// The addresses of pods.
    pub(super) pods: &'static str,
    /// The addresses of Services.
    pub(super) services: &'static str,
    /// The address of Service `kubernetes`: always the first of `services`.
    pub(super) api_service: &'static str,
    /// The address of the cluster's name service.
    pub(super) dns_service: &'static str,
    /// Every address.
    any: &'static str,
    /// What turns on forwarding.
    forwarding: &'static str,
    /// What the nft program calls the family.
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
    /// The families, the first of which is that of the API server.
    pub(super) fn families(self) -> &'static [Family] {
        const BOTH: [Family; 2] = [IPV4, IPV6];
        match self {
            Self::Ipv4 => &[IPV4],
            Self::Ipv6 => &[IPV6],
            Self::DualStack => &BOTH,
        }
    }

    /// The family of the API server.
    pub(super) fn primary(self) -> &'static Family {
        match self {
            Self::Ipv4 | Self::DualStack => &IPV4,
            Self::Ipv6 => &IPV6,
        }
    }

    /// One address or range of each family, as the flags of Kubernetes take several.
    pub(super) fn joined(self, of: impl Fn(&Family) -> &'static str) -> String {
        self.families().iter().map(of).collect::<Vec<_>>().join(",")
    }

    /// The API server's origin.
    pub(super) fn api_server(self) -> String {
        let node = self.primary().node;
        let host = match node.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => node.to_owned(),
        };
        format!("https://{host}:6443")
    }
}

/// Brings up the loopback, the node's addresses and default routes, inside the cluster's namespaces.
///
/// # Errors
/// When an interface cannot be made.
pub(super) fn up(host_name: &str, addresses: Addresses) -> Result<()> {
    // A veth pair stands in for a network card: some kernels have no dummy interfaces. Nothing answers at
    // the gateway; the route makes the node have an address of its own and Service addresses routable.
    for arguments in
        ["link set lo up", "link add node type veth peer name wire", "link set wire up", "link set node up"]
    {
        command::output(Command::new("ip").args(arguments.split(' ')))?;
    }
    for Family { node, prefix, gateway, any, forwarding, .. } in addresses.families() {
        // An address of IPv6 is of no use until it is known to be nobody else's (nodad: it is).
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

/// Writes the configuration by which the container runtime connects pods.
///
/// Each pod has a link of its own to the node (`ptp`): all its traffic is routed, and so translated for
/// Services, without bridge filtering in the kernel.
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
    fn the_first_addresses_of_services_are_the_api_servers_and_names_are_answered_among_them() {
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
    fn an_address_of_ipv6_is_in_brackets_where_a_port_follows() {
        assert_eq!(Addresses::DualStack.api_server(), "https://198.51.100.1:6443");
        assert_eq!(Addresses::Ipv6.api_server(), "https://[2001:db8:1::1]:6443");
        assert_eq!(Addresses::DualStack.joined(|family| family.node), "198.51.100.1,2001:db8:1::1");
    }
}
