//! `cargo xtask cluster …`: starts, enters, ends and lists local clusters.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};
use certmint_docs_tests::book::{self, HOW_TOS};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::cluster::directory::ClusterDirectory;
use certmint_local_cluster::cluster::{Addresses, Cluster, ClusterOptions, addons, supervisor};
use certmint_local_cluster::components::COMPONENTS;
use certmint_local_cluster::{images, progress};
use clap::Subcommand;

const NAME: &str = "local";

/// Subcommands for local clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts a cluster that runs until `down`.
    Up {
        /// Name of the cluster; clusters with different names can run side by side.
        #[arg(long, default_value = NAME)]
        name: String,
        /// Start only the API, its controllers and the scheduler, without a node.
        #[arg(long)]
        control_plane_only: bool,
        /// Also run metrics-server, for kubectl top and autoscaling.
        #[arg(long, conflicts_with = "control_plane_only")]
        metrics_server: bool,
        /// Also load the images that the documentation names, Certmint's included, so that its commands run unchanged.
        #[arg(long, conflicts_with = "control_plane_only")]
        images: bool,
        /// Address families: ipv4, ipv6, or dual-stack.
        #[arg(long, default_value = "ipv4", value_parser = parse_addresses)]
        addresses: Addresses,
    },
    /// Runs a command inside a cluster, for example: exec -- kubectl get pods
    Exec {
        /// Name of the cluster.
        #[arg(long, default_value = NAME)]
        name: String,
        /// Command with its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Ends a cluster and removes its files.
    Down {
        /// Name of the cluster.
        #[arg(long, default_value = NAME)]
        name: String,
    },
    /// Lists the running clusters.
    List,
    /// Rewrites go.mod and go.sum of every component for the versions in crates/local-cluster/src/components.rs.
    Pin,
}

/// Runs `command`.
pub(crate) fn run(command: Command) -> Result<()> {
    let cache = Cache::open()?;
    match command {
        Command::Up { name, control_plane_only, metrics_server, images, addresses } => {
            let cluster = up(&cache, &ClusterOptions { name: name.clone(), control_plane_only }, addresses)?;
            if metrics_server {
                addons::install_metrics_server(&cluster)?;
            }
            if images {
                book::provide_images(&cluster)?;
                HOW_TOS.iter().try_for_each(|page| page.provide_images(&cluster))?;
            }
            keep(&cluster, &name)
        }
        Command::Exec { name, command } => {
            let cluster = Cluster::running(&cache, &name)?;
            let (program, arguments) = command.split_first().context("no command")?;
            Err(cluster.command(program).args(arguments).exec()).context("cannot run nsenter")
        }
        Command::Down { name } => {
            let directory = ClusterDirectory::of(&cache, &name);
            ensure!(
                directory.root().exists(),
                "cluster {name} does not exist; see `cargo xtask cluster list`"
            );
            supervisor::stop(&directory)?;
            progress::note(&format!("removed cluster {name}"));
            Ok(())
        }
        Command::List => {
            ClusterDirectory::all(&cache)?
                .iter()
                .filter(|directory| directory.is_supervised())
                .for_each(|directory| println!("{}", directory.name()));
            Ok(())
        }
        Command::Pin => COMPONENTS.iter().try_for_each(|component| {
            progress::step(&format!("pinning {} {}", component.name, component.version), || component.pin())
        }),
    }
}

fn parse_addresses(text: &str) -> Result<Addresses, String> {
    match text {
        "ipv4" => Ok(Addresses::Ipv4),
        "ipv6" => Ok(Addresses::Ipv6),
        "dual-stack" => Ok(Addresses::DualStack),
        _ => Err("write ipv4, ipv6 or dual-stack".to_owned()),
    }
}

fn up(cache: &Cache, options: &ClusterOptions, addresses: Addresses) -> Result<Cluster> {
    let cluster = Cluster::start_with(cache, options, addresses)?;
    if !options.control_plane_only {
        for image in [images::nginx(cache)?, images::tools(cache)?] {
            progress::note(&format!("image for pods: {}", cluster.provide(&image)?));
        }
    }
    Ok(cluster)
}

fn keep(cluster: &Cluster, name: &str) -> Result<()> {
    cluster.keep()?;
    progress::note(&format!(
        "to use it: cargo xtask cluster exec --name {name} -- kubectl get pods --all-namespaces"
    ));
    progress::note(&format!("to end it: cargo xtask cluster down --name {name}"));
    Ok(())
}
