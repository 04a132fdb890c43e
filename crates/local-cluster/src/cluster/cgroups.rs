//! Control groups (cgroup v1 and v2) of a cluster's kubelet. The supervisor creates and removes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wait::{self, Check};

const ROOT: &str = "/sys/fs/cgroup";

/// Creates the group `name` in every hierarchy. The kubelet expects it to exist.
///
/// # Errors
/// When a directory cannot be created.
pub fn create(name: &str) -> Result<()> {
    if is_v2() {
        delegate_controllers()?;
    }
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group)
            .with_context(|| format!("cannot create the cgroup {}", group.display()))?;
    }
    Ok(())
}

/// Returns whether the machine has cgroup v2.
#[must_use]
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Removes the group `name` and all groups in it. Their processes must have ended.
///
/// # Errors
/// When a group cannot be removed in time.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        // The kernel releases a group a moment after its last process has ended.
        wait::until(&format!("the cgroup {} to be empty", group.display()), Duration::from_secs(20), || {
            remove_tree(&group)?;
            Ok(Check::Passed(()))
        })?;
    }
    Ok(())
}

/// Returns the directories of the group `name` in all hierarchies.
///
/// # Errors
/// When the hierarchies cannot be listed.
pub fn groups(name: &str) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?.iter().map(|hierarchy| hierarchy.join(name)).filter(|group| group.exists()).collect())
}

/// Returns every mounted hierarchy. With cgroup v2 there is one.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![PathBuf::from(ROOT)]);
    }
    let entries = fs::read_dir(ROOT).with_context(|| format!("cannot read {ROOT}"))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    // Some directories are links to the same hierarchy, for example cpu and cpuacct.
    found.sort();
    found.dedup();
    Ok(found)
}

fn delegate_controllers() -> Result<()> {
    let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))?;
    let enable = controllers.split_whitespace().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    fs::write(Path::new(ROOT).join("cgroup.subtree_control"), enable).context(
        "cannot delegate cgroup controllers: run this outside of a container, or in a privileged one",
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
