//! The control groups that a cluster's kubelet works in, on cgroup v1 and v2.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::{self, Observed};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the group `name` in every hierarchy: kubelet wants it to be there.
///
/// # Errors
/// When a directory cannot be made.
pub fn make(name: &str) -> Result<()> {
    if unified() {
        delegate_controllers()?;
    }
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("cannot make the cgroup {}", group.display()))?;
    }
    Ok(())
}

/// Whether the machine has cgroup v2.
#[must_use]
pub fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Removes the group `name` with all below it; processes in it must have ended.
///
/// # Errors
/// When a group stays busy.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        // The kernel lets go of a group a moment after its last process.
        wait::until(&format!("the cgroup {} to be empty", group.display()), Duration::from_secs(20), || {
            remove_tree(&group)?;
            Ok(Observed::Yes(()))
        })?;
    }
    Ok(())
}

/// The group `name` and all groups below it, in every hierarchy.
///
/// # Errors
/// When the hierarchies cannot be listed.
pub fn below(name: &str) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?.iter().map(|hierarchy| hierarchy.join(name)).filter(|group| group.exists()).collect())
}

/// Every mounted hierarchy; with cgroup v2 there is one.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if unified() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let entries = fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    // Some are links: cpu and cpuacct are often one hierarchy.
    found.sort();
    found.dedup();
    Ok(found)
}

fn delegate_controllers() -> Result<()> {
    let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))?;
    let enable = controllers.split_whitespace().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    fs::write(Path::new(ROOT).join("cgroup.subtree_control"), enable).context(
        "cannot hand cgroup controllers down: run this outside of a container, or in a privileged one",
    )
}

fn remove_tree(group: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group).with_context(|| format!("cannot remove {}", group.display()))
}
