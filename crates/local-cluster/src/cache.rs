//! Cache of finished programs and images outside the source tree. A new checkout uses what earlier checkouts built.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// A directory of finished build results. Several processes can use it at the same time.
///
/// Its path is `$CERTMINT_CACHE`, else `$XDG_CACHE_HOME/certmint`, else `~/.cache/certmint`. You may delete it at any
/// time; everything in it can be built again.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Hash of everything that an entry is built from. Equal inputs give equal keys.
#[derive(Debug, Clone, Default)]
pub struct Key(Sha256);

impl Cache {
    /// Opens the cache, and creates its directory if necessary.
    ///
    /// # Errors
    /// When no directory is known, or the directory cannot be created.
    pub fn open() -> Result<Self> {
        let root = location(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
            .context("no directory for the cache is known: set CERTMINT_CACHE to a directory")?;
        fs::create_dir_all(&root).with_context(|| {
            format!("cannot create {}: set CERTMINT_CACHE to another directory", root.display())
        })?;
        let root = root.canonicalize().with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    /// Returns a path in the cache.
    #[must_use]
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Waits for the lock `name`, and takes it. The lock is held until the file is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// Returns the directory `kind/name-key`. If it does not exist, `build` fills a temporary directory, which
    /// is then renamed, so that an entry is complete or absent.
    ///
    /// # Errors
    /// When `build` or an operation on the file system fails.
    pub fn entry(
        &self,
        kind: &str,
        name: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.root.join(kind).join(format!("{name}-{}", key.short()));
        if entry.exists() {
            return Ok(entry);
        }
        let _lock = self.lock(kind)?;
        if entry.exists() {
            return Ok(entry);
        }
        let unfinished = self.root.join(kind).join(format!(".{name}.unfinished"));
        remove_dir(&unfinished)?;
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        build(&unfinished)?;
        fs::rename(&unfinished, &entry).with_context(|| format!("cannot publish {}", entry.display()))?;
        Ok(entry)
    }
}

impl Key {
    /// Adds `text` to the inputs.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.0.update(text.len().to_be_bytes());
        self.0.update(text);
        self
    }

    /// Adds the content of a file to the inputs.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn file(mut self, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.0.update(bytes.len().to_be_bytes());
        self.0.update(&bytes);
        Ok(self)
    }

    fn short(&self) -> String {
        let mut digest = hex(&self.0.clone().finalize());
        digest.truncate(16);
        digest
    }
}

/// Removes a directory with its content. A missing directory is not an error.
///
/// # Errors
/// When the directory or a file in it cannot be removed.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Formats bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn location(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    variable("CERTMINT_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(variable("XDG_CACHE_HOME")?).join("certmint")))
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache/certmint")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str) -> Cache {
        let root = std::env::temp_dir().join(format!("certmint-cache-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        Cache { root }
    }

    #[test]
    fn the_most_specific_variable_decides() {
        let found = |set: &[(&str, &str)]| {
            location(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
        };
        assert_eq!(
            found(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("CERTMINT_CACHE", "/c")]).unwrap(),
            Path::new("/c")
        );
        assert_eq!(found(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(), Path::new("/x/certmint"));
        assert_eq!(found(&[("HOME", "/h")]).unwrap(), Path::new("/h/.cache/certmint"));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn an_entry_is_built_once_and_never_incomplete() {
        let cache = cache("entry");
        let key = Key::default().text("v1");
        assert!(cache.entry("kind", "thing", &key, |_| anyhow::bail!("no")).is_err());
        let built = cache.entry("kind", "thing", &key, |dir| Ok(fs::write(dir.join("f"), "1")?)).unwrap();
        let again = cache.entry("kind", "thing", &key, |_| anyhow::bail!("built twice")).unwrap();
        assert_eq!(built, again);
        assert_eq!(fs::read_to_string(again.join("f")).unwrap(), "1");
        remove_dir(&cache.root).unwrap();
    }

    #[test]
    fn keys_separate_their_inputs() {
        let key = |texts: &[&str]| texts.iter().fold(Key::default(), |key, text| key.text(text)).short();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }
}
