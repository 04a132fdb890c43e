//! Images of Go programs that are built from source.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::system::static_program;
use super::{Image, KIND};
use crate::cache::{Cache, Key};
use crate::{command, machine};

/// Builds the Go program in the directory `source`, and an image `name` with it as the only file.
///
/// # Errors
/// When Go is not installed, or the program does not compile.
pub fn go_program(cache: &Cache, name: &str, source: &Path) -> Result<Image> {
    let directory = cache.entry(KIND, name, &key(source)?, |directory| {
        machine::require_program("go", "version", "install Go 1.26 or newer")?;
        let program = directory.join(name);
        command::output(
            Command::new("go")
                .args(["build", "-trimpath", "-buildvcs=false", "-o"])
                .arg(&program)
                .arg(".")
                .env("CGO_ENABLED", "0")
                .current_dir(source),
        )?;
        static_program(name, &program, directory)
    })?;
    Image::open(name, &directory)
}

fn key(source: &Path) -> Result<Key> {
    let entries = fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    files.iter().try_fold(Key::default(), |key, file| key.file(file))
}
