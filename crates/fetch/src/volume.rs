//! Reads and writes a volume whose files are replaced all at once.
//!
//! The layout is that of the kubelet's AtomicWriter: the files are in a directory that the symbolic link `..data`
//! points to, and an update replaces only that link. The kubelet writes the volume of the workload's Secret in this way,
//! and certmint-fetch writes the tmpfs volume that the app reads. An app that follows the link once sees one bundle,
//! the old one or the new one, never a mix of both.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use certmint_contract::issuance::{Bundle, MAX_RESPONSE_BYTES};
use certmint_contract::{TrustBundle, TrustGeneration, pod_layout};
use zeroize::Zeroizing;

/// Symbolic link to the directory that holds the files.
const DATA_LINK: &str = "..data";
/// Name of the next link before a rename puts it in the place of [`DATA_LINK`]; the kubelet uses the same name.
const NEXT_DATA_LINK: &str = "..data_tmp";
/// Prefix of the name of every directory of files. Programs that read the volume skip names with this prefix.
const VERSION_PREFIX: &str = "..";

/// Content of a volume, all of one version.
#[derive(Debug)]
pub struct VolumeContent {
    /// Key, certificate and roots.
    pub bundle: Bundle,
    /// Workload that the bundle was issued for, if the volume has a file that names it.
    pub workload: Option<String>,
}

/// Error for a volume that does not contain a readable bundle.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be read: {source}; correct the Secret's keys tls.crt, tls.key, ca.crt and trust-generation, or delete the Secret to have it recreated"
)]
pub struct ReadError {
    path: PathBuf,
    source: io::Error,
}

/// Error for files that cannot be written. The files that were in place before are unchanged.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} cannot be written: {source}; the volume certmint-tls needs free space (see the pod's memory limits) and must belong to this container's user or group"
)]
pub struct PublishError {
    path: PathBuf,
    source: io::Error,
}

/// Returns the name of the version in the volume at `dir`, or `None` if the volume is empty. Every change of the
/// content changes this name.
#[must_use]
pub fn current_version(dir: &Path) -> Option<PathBuf> {
    fs::read_link(dir.join(DATA_LINK)).ok()
}

/// Reads the volume at `dir`. Returns `None` if it contains no certificate.
///
/// # Errors
/// When a file is missing or cannot be read although there is a certificate.
pub fn read(dir: &Path) -> Result<Option<VolumeContent>, ReadError> {
    loop {
        let Some(version) = current_version(dir) else { return Ok(None) };
        let content = read_version(&dir.join(&version));
        // An update can remove the directory while this function reads it. Then the link points to another directory,
        // and the function reads that one.
        if current_version(dir).as_ref() == Some(&version) {
            return content;
        }
    }
}

fn read_version(dir: &Path) -> Result<Option<VolumeContent>, ReadError> {
    let certificate = dir.join(pod_layout::CERTIFICATE_FILE);
    // The kubelet mounts an optional Secret that does not exist as an empty directory.
    if !certificate.exists() {
        return Ok(None);
    }
    let bundle = Bundle {
        certificate: read_file(certificate)?,
        private_key: read_file(dir.join(pod_layout::KEY_FILE))?,
        trust_bundle: TrustBundle {
            roots: read_file(dir.join(pod_layout::TRUST_BUNDLE_FILE))?,
            generation: read_generation(dir.join(pod_layout::TRUST_GENERATION_FILE))?,
        },
    };
    let workload = read_optional_file(dir.join(pod_layout::WORKLOAD_FILE))?;
    Ok(Some(VolumeContent { bundle, workload }))
}

/// Reads a generation. A volume that version 0.1.0 wrote has none.
fn read_generation(path: PathBuf) -> Result<TrustGeneration, ReadError> {
    let text = read_optional_file(path.clone())?;
    TrustGeneration::parse_optional(text.as_deref())
        .map_err(|why| ReadError { path, source: io::Error::other(why) })
}

fn read_optional_file(path: PathBuf) -> Result<Option<String>, ReadError> {
    path.exists().then(|| read_file(path)).transpose()
}

fn read_file(path: PathBuf) -> Result<String, ReadError> {
    read_text(&path).map_err(|source| ReadError { path, source })
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > MAX_RESPONSE_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_RESPONSE_BYTES} bytes")));
    }
    // The buffer has its full size from the start, because a buffer that grows leaves copies of the key in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(length as u64).read_to_end(&mut bytes)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(io::Error::other("it is not PEM")),
    }
}

/// Replaces the content of the volume at `dir` by `bundle`, in files of `mode`.
///
/// The function does not call fsync: the volume is in memory, and it survives a crash of certmint-fetch without fsync.
///
/// # Errors
/// When a file cannot be written. Then the former content stays in place.
pub fn publish(dir: &Path, bundle: &Bundle, mode: u32) -> Result<(), PublishError> {
    remove_leftovers(dir);
    let replaced = current_version(dir);
    let version = dir.join(new_version_name());
    let written = write_version(&version, bundle, mode).and_then(|()| point_to(dir, &version));
    if let Err(error) = written {
        // If this removal fails, the next call removes the directory as a leftover.
        let _ = fs::remove_dir_all(&version);
        return Err(error);
    }
    if let Some(replaced) = replaced {
        let _ = fs::remove_dir_all(dir.join(replaced));
    }
    Ok(())
}

/// Removes the files that a crash between two steps of [`publish`] left in the volume. These files occupy memory.
pub fn remove_leftovers(dir: &Path) {
    let current = current_version(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_version = name.to_string_lossy().starts_with(VERSION_PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if name == NEXT_DATA_LINK {
            let _ = fs::remove_file(entry.path());
        } else if is_version && current.as_deref() != Some(Path::new(&name)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns a name that no earlier version had: the time in nanoseconds.
fn new_version_name() -> String {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{VERSION_PREFIX}{}", since_epoch.as_nanos())
}

fn write_version(version: &Path, bundle: &Bundle, mode: u32) -> Result<(), PublishError> {
    create_dir(version, mode).map_err(publish_error(version))?;
    let combined = Zeroizing::new([bundle.private_key.as_str(), &bundle.certificate].concat());
    let TrustBundle { roots, generation } = &bundle.trust_bundle;
    for (name, text) in [
        (pod_layout::CERTIFICATE_FILE, &*bundle.certificate),
        (pod_layout::KEY_FILE, &bundle.private_key),
        (pod_layout::TRUST_BUNDLE_FILE, roots),
        (pod_layout::TRUST_GENERATION_FILE, &generation.to_string()),
        (pod_layout::COMBINED_FILE, &combined),
    ] {
        let path = version.join(name);
        write_file(&path, text, mode).map_err(publish_error(&path))?;
    }
    Ok(())
}

/// Creates a directory that every user who may read the files may search. The directory keeps the setgid bit that it
/// inherits from a volume of the pod's `fsGroup`. With that bit, the files get the group.
fn create_dir(path: &Path, file_mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    let special = fs::metadata(path)?.mode() & 0o7000;
    let search = (file_mode & 0o444) >> 2;
    fs::set_permissions(path, Permissions::from_mode(special | 0o700 | file_mode & 0o044 | search))
}

/// Writes a file and then sets its mode, so that the umask has no effect.
fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// Makes `version` the content of the volume, by one rename.
fn point_to(dir: &Path, version: &Path) -> Result<(), PublishError> {
    let target = Path::new(version.file_name().unwrap_or_default());
    let next = dir.join(NEXT_DATA_LINK);
    // Apps open these links, which lead through `..data`. The first publication creates them.
    for name in [
        pod_layout::CERTIFICATE_FILE,
        pod_layout::KEY_FILE,
        pod_layout::TRUST_BUNDLE_FILE,
        pod_layout::COMBINED_FILE,
    ] {
        let path = dir.join(name);
        match symlink(Path::new(DATA_LINK).join(name), &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(publish_error(&path)(error));
            }
            _ => {}
        }
    }
    symlink(target, &next).and_then(|()| fs::rename(&next, dir.join(DATA_LINK))).map_err(publish_error(&next))
}

fn publish_error(path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    move |source| PublishError::new(path, source)
}

impl PublishError {
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}
