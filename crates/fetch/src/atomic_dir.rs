//! Reading a volume that is replaced whole, as the kubelet's AtomicWriter lays out Secrets (and we our own
//! tmpfs volume): the files lie in a directory that `..data` points to, and only `..data` is ever changed.

use certmint_contract::{issuance::Bundle, issuance::MAX_RESPONSE_BYTES, pod_layout};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The symbolic link to the directory that holds the files.
pub const DATA_LINK: &str = "..data";

/// The volume cannot be read as a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file fails on reading.
    #[error(
        "{path} cannot be read: {source}; correct the Secret's keys tls.crt, tls.key and ca.crt, or delete it to have it made again"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Names the state of the volume at `dir`; another name, other content. `None` while there is none.
pub fn version(dir: &Path) -> Option<PathBuf> {
    std::fs::read_link(dir.join(DATA_LINK)).ok()
}

/// The bundle in the volume at `dir`, all of one version. `None` when there is none.
///
/// # Errors
/// When some of the files are there and others are not or cannot be read.
pub fn read(dir: &Path) -> Result<Option<Bundle>, ReadError> {
    Ok(read_with_workload(dir)?.map(|(bundle, _)| bundle))
}

/// The same with the workload that the bundle was made for, where the volume says so.
///
/// # Errors
/// As [`read`].
pub fn read_with_workload(dir: &Path) -> Result<Option<(Bundle, Option<String>)>, ReadError> {
    loop {
        let Some(version) = version(dir) else { return Ok(None) };
        let bundle = read_version(&dir.join(&version));
        // The directory goes away when it is replaced, and then another one is there to be read.
        if self::version(dir).as_ref() == Some(&version) {
            return bundle;
        }
    }
}

fn read_version(dir: &Path) -> Result<Option<(Bundle, Option<String>)>, ReadError> {
    let certificate = dir.join(pod_layout::CERTIFICATE_FILE);
    // An optional Secret that does not exist is mounted as an empty directory.
    if !certificate.exists() {
        return Ok(None);
    }
    let bundle = Bundle {
        certificate: read_file(certificate)?,
        private_key: read_file(dir.join(pod_layout::KEY_FILE))?,
        trust_bundle: read_file(dir.join(pod_layout::TRUST_BUNDLE_FILE))?,
    };
    let workload = dir.join(pod_layout::WORKLOAD_FILE);
    let workload = workload.exists().then(|| read_file(workload)).transpose()?;
    Ok(Some((bundle, workload)))
}

fn read_file(path: PathBuf) -> Result<String, ReadError> {
    read_text(&path).map_err(|source| ReadError::File { path, source })
}

fn read_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > MAX_RESPONSE_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_RESPONSE_BYTES} bytes")));
    }
    // Room for all of it at once: a growing buffer would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(length as u64).read_to_end(&mut bytes)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(io::Error::other("it is not PEM")),
    }
}
