//! A local Kubernetes, container images and the end-to-end scenarios, all without a container engine.
//!
//! `cargo xtask` is the way in. [`cluster::Cluster`] is either a local cluster, built from the pinned Go
//! modules in `components/` and run in Linux namespaces of its own, or one that exists already.

#![expect(clippy::indexing_slicing, reason = "serde_json answers null for a field that is not there")]

pub mod book;
pub mod cache;
pub mod charts;
pub mod cluster;
pub mod command;
pub mod components;
pub mod demo;
mod document;
pub mod error_page;
pub mod images;
pub mod kubectl;
pub mod machine;
pub mod packages;
pub mod progress;
pub mod prometheus;
pub mod reference;
pub mod report;
pub mod repository;
pub mod scenarios;
pub mod story;
pub mod wait;
