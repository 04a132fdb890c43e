//! Remembers, across a crash of the fetcher, that the app has yet to be told of the files in place.

use crate::publication::PublishError;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// There while the reload hook is due.
const MARK: &str = ".reload-due";

/// The hook is due. Set before the files change: a hook too many does no harm, a missing one would leave the
/// app with a certificate that ends.
///
/// # Errors
/// When the volume cannot be written.
pub fn set(tls_dir: &Path) -> Result<(), PublishError> {
    let path = tls_dir.join(MARK);
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    made.map(drop).map_err(|source| PublishError::new(&path, source))
}

/// Whether the hook is due.
pub fn is_set(tls_dir: &Path) -> bool {
    tls_dir.join(MARK).exists()
}

/// The app was told.
pub fn clear(tls_dir: &Path) {
    let _ = fs::remove_file(tls_dir.join(MARK));
}
