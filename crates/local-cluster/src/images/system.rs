//! Images for every cluster: the pause image, CoreDNS, metrics-server.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Image, KIND, oci};
use crate::cache::{Cache, Key};
use crate::components::{COREDNS as COREDNS_MODULE, Component, METRICS_SERVER};
use crate::{command, machine};

/// Name of the image that holds a pod's namespaces.
pub const PAUSE: &str = "pause";
/// Name of the CoreDNS image.
pub const COREDNS: &str = "coredns";

/// Builds the images for every cluster with a node: [`PAUSE`] and [`COREDNS`].
///
/// # Errors
/// When an image cannot be built.
pub fn system(cache: &Cache) -> Result<Vec<Image>> {
    Ok(vec![pause(cache)?, component(cache, &COREDNS_MODULE, COREDNS)?])
}

/// Builds the image of metrics-server.
///
/// # Errors
/// When the image cannot be built.
pub fn metrics_server(cache: &Cache) -> Result<Image> {
    component(cache, &METRICS_SERVER, "metrics-server")
}

fn pause(cache: &Cache) -> Result<Image> {
    const SOURCE: &str = include_str!("pause.c");
    let key = Key::default().text(SOURCE);
    let directory = cache.entry(KIND, PAUSE, &key, |directory| {
        machine::install(machine::IMAGES)?;
        let source = directory.join("pause.c");
        fs::write(&source, SOURCE)?;
        let program = directory.join(PAUSE);
        command::output(
            Command::new("musl-gcc")
                .args(["-Os", "-static", "-s", "-Wall", "-Werror", "-o"])
                .args([&program, &source]),
        )?;
        static_program(PAUSE, &program, directory)
    })?;
    Image::open(PAUSE, &directory)
}

fn component(cache: &Cache, component: &Component, program: &str) -> Result<Image> {
    let programs = component.build(cache)?;
    // The directory's name contains the hash of all inputs of the program.
    let key = Key::default().text(&programs.to_string_lossy());
    let directory = cache.entry(KIND, component.name, &key, |directory| {
        static_program(program, &programs.join(program), directory)
    })?;
    Image::open(component.name, &directory)
}

/// Writes an image with one static program in its root directory.
pub(super) fn static_program(name: &str, program: &Path, directory: &Path) -> Result<()> {
    let root = directory.join("root");
    fs::create_dir_all(&root)?;
    fs::copy(program, root.join(name)).with_context(|| format!("cannot copy {}", program.display()))?;
    let entrypoint = format!("/{name}");
    oci::write(name, &root, &oci::Config { entrypoint: &[&entrypoint], stop_signal: "SIGTERM" }, directory)?;
    crate::cache::remove_dir(&root)
}
