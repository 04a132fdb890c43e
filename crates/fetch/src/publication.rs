//! Writing the tmpfs volume that the app reads: a new directory with all the files, then one rename of the
//! link that leads to it. A reader that goes through the link once sees one bundle, old or new, never a mix.

use crate::atomic_dir::{DATA_LINK, version};
use certmint_contract::{issuance::Bundle, pod_layout};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The next link, before it takes the place of [`DATA_LINK`] (the kubelet's name for it).
const DATA_LINK_NEXT: &str = "..data_tmp";
/// What every directory of files begins with; readers of the volume pass over such names.
const VERSION_PREFIX: &str = "..";

/// The files could not be put in place; the former ones are untouched.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be written: {source}; the volume certmint-tls needs room (see the pod's memory limits) and must belong to this container's user or group"
)]
pub struct PublishError {
    path: PathBuf,
    source: io::Error,
}

/// Replaces what the volume at `dir` holds by `bundle`, in files of `mode`.
///
/// There is no fsync: the volume is memory, and what survives a crash of the fetcher is the kernel's.
///
/// # Errors
/// When a file cannot be written. Nothing has changed then.
pub fn publish(dir: &Path, bundle: &Bundle, mode: u32) -> Result<(), PublishError> {
    remove_leftovers(dir);
    let replaced = version(dir);
    let version = dir.join(version_name());
    let written = write_version(&version, bundle, mode).and_then(|()| point_to(dir, &version));
    if let Err(error) = written {
        // What does not get removed here is removed as a leftover the next time.
        let _ = fs::remove_dir_all(&version);
        return Err(error);
    }
    if let Some(replaced) = replaced {
        let _ = fs::remove_dir_all(dir.join(replaced));
    }
    Ok(())
}

/// Removes what a crash between two steps of [`publish`] left behind: half-written keys take up memory.
pub fn remove_leftovers(dir: &Path) {
    let current = version(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_version = name.to_string_lossy().starts_with(VERSION_PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name == DATA_LINK_NEXT {
            let _ = fs::remove_file(entry.path());
        } else if is_version && current.as_deref() != Some(Path::new(&name)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The kubelet names versions by the time; ours only have to differ from each other.
fn version_name() -> String {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{VERSION_PREFIX}{}", since_epoch.as_nanos())
}

fn write_version(version: &Path, bundle: &Bundle, mode: u32) -> Result<(), PublishError> {
    make_dir(version, mode).map_err(failed(version))?;
    let combined = Zeroizing::new([bundle.private_key.as_str(), &bundle.certificate].concat());
    for (name, text) in [
        (pod_layout::CERTIFICATE_FILE, &bundle.certificate),
        (pod_layout::KEY_FILE, &bundle.private_key),
        (pod_layout::TRUST_BUNDLE_FILE, &bundle.trust_bundle),
        (pod_layout::COMBINED_FILE, &combined),
    ] {
        let path = version.join(name);
        write_file(&path, text, mode).map_err(failed(&path))?;
    }
    Ok(())
}

/// A directory that those who may read the files may search. A setgid bit, inherited from a volume that
/// belongs to the pod's fsGroup, is kept: it gives the files that group.
fn make_dir(path: &Path, file_mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    let special = fs::metadata(path)?.mode() & 0o7000;
    let search = (file_mode & 0o444) >> 2;
    fs::set_permissions(path, Permissions::from_mode(special | 0o700 | file_mode & 0o044 | search))
}

/// The mode is widened only after the bytes are there, and whatever the umask is.
fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn point_to(dir: &Path, version: &Path) -> Result<(), PublishError> {
    let target = Path::new(version.file_name().unwrap_or_default());
    let next = dir.join(DATA_LINK_NEXT);
    // The names that apps open go through the link; they are made once, before there is anything behind it.
    for name in [
        pod_layout::CERTIFICATE_FILE,
        pod_layout::KEY_FILE,
        pod_layout::TRUST_BUNDLE_FILE,
        pod_layout::COMBINED_FILE,
    ] {
        let path = dir.join(name);
        match symlink(Path::new(DATA_LINK).join(name), &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&path)(error)),
            _ => {}
        }
    }
    symlink(target, &next).and_then(|()| fs::rename(&next, dir.join(DATA_LINK))).map_err(failed(&next))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    move |source| PublishError::new(path, source)
}

impl PublishError {
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}
