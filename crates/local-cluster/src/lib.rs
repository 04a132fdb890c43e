//! A local Kubernetes cluster, container images without a container engine, and Certmint installed there.
//!
//! The scenarios, the benchmarks, the tests of chart and book, and `cargo xtask` all use this crate. A
//! [`Cluster`](cluster::Cluster) is either a local cluster, which is built from the pinned Go modules in `components/` and
//! runs in Linux namespaces of its own, or a cluster that exists already.

#![expect(clippy::indexing_slicing, reason = "serde_json returns null for a field that does not exist")]

pub mod cache;
pub mod cluster;
pub mod command;
pub mod components;
pub mod images;
pub mod installation;
pub mod kubectl;
pub mod machine;
pub mod namespaces;
pub mod packages;
pub mod policy_file;
pub mod progress;
pub mod prometheus;
pub mod repository;
pub mod tools;
pub mod wait;
pub mod workload;
