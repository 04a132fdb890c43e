//! Writes images in the OCI image format. Equal files give equal images, byte for byte.
//!
//! <https://github.com/opencontainers/image-spec>

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::LOCAL_REGISTRY;
use crate::cache::hex;
use crate::command;

/// Configuration of the image's containers.
#[derive(Debug, Clone)]
pub(super) struct Config<'a> {
    /// Program with its fixed arguments.
    pub entrypoint: &'a [&'a str],
    /// Signal that ends the program gracefully.
    pub stop_signal: &'a str,
}

/// User and group of the containers. They are numbers, because the kubelet cannot check `runAsNonRoot` for a user name.
pub(super) const USER: u32 = 65532;

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes an image with the files in `root` to `directory`: `layout/` (an OCI layout), `image.tar` (an archive of the
/// layout) and `tag`.
pub(super) fn write(name: &str, root: &Path, config: &Config<'_>, directory: &Path) -> Result<()> {
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = directory.join("layer.tar");
    archive(root, &layer)?;
    let layer_bytes = fs::read(&layer)?;
    let layer = add_blob(&blobs, LAYER_TYPE, &layer_bytes)?;
    fs::remove_file(directory.join("layer.tar"))?;
    let config = image_config(config, &layer["digest"]);
    let config = add_blob(&blobs, CONFIG_TYPE, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": [layer],
    });
    let mut manifest = add_blob(&blobs, MANIFEST_TYPE, manifest.to_string().as_bytes())?;
    let tag = tag(manifest["digest"].as_str().unwrap_or_default());
    manifest["annotations"] = json!({
        "io.containerd.image.name": format!("{LOCAL_REGISTRY}/{name}:{tag}"),
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    archive(&layout, &directory.join("image.tar"))?;
    fs::write(directory.join("tag"), tag).context("cannot write the image's tag")
}

/// Unpacks the files of the image that [`write`] wrote to `directory`.
pub(super) fn unpack(directory: &Path, target: &Path) -> Result<()> {
    let layout = directory.join("layout");
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let json = |path: &Path| -> Result<Value> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    };
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(&index["manifests"][0]))?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--directory"]).arg(target).arg("--file");
    command::output(tar.arg(blob(&manifest["layers"][0]))).map(drop)
}

/// Returns the tag for a digest. It begins with letters, so that YAML and helm's `--set` do not read it as a number.
fn tag(digest: &str) -> String {
    let digits: String = digest.chars().skip("sha256:".len()).take(12).collect();
    format!("sha-{digits}")
}

fn image_config(config: &Config<'_>, layer: &Value) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "StopSignal": config.stop_signal,
            "User": format!("{USER}:{USER}"),
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    })
}

/// Adds a blob to the layout, and returns its descriptor.
fn add_blob(blobs: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let digest = hex(&Sha256::digest(content));
    fs::write(blobs.join(&digest), content).context("cannot write a blob")?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() }))
}

/// Writes a tar archive that is the same for equal files: with fixed order, times and owners.
fn archive(root: &Path, tar: &Path) -> Result<()> {
    command::output(
        Command::new("tar")
            .args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--format=gnu", "--directory"])
            .arg(root)
            .arg("--file")
            .arg(tar)
            .arg("."),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::remove_dir;

    #[test]
    fn tags_are_not_numbers() {
        assert_eq!(tag("sha256:246257497847aabb"), "sha-246257497847");
    }

    #[test]
    fn equal_files_give_equal_images() {
        let base = std::env::temp_dir().join(format!("certmint-oci-{}", std::process::id()));
        let config = Config { entrypoint: &["/hello"], stop_signal: "SIGTERM" };
        let tags = ["one", "two"].map(|name| {
            let root = base.join(name).join("root");
            fs::create_dir_all(&root).unwrap();
            fs::write(root.join("hello"), "hi").unwrap();
            let directory = base.join(name);
            write("hello", &root, &config, &directory).unwrap();
            assert!(directory.join("image.tar").exists());
            fs::read_to_string(directory.join("tag")).unwrap()
        });
        remove_dir(&base).unwrap();
        assert_eq!(tags[0].len(), "sha-".len() + 12);
        assert_eq!(tags[0], tags[1]);
    }
}
