//! Builds an RFC 6902 patch as the text that the API server gets.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write as _};

use serde::Serialize;

use crate::Rejection;
use crate::input::Metadata;
use crate::json::RelevantEntries;

/// Initial size of the buffer in bytes. Most patches are shorter.
const BUFFER_BYTES: usize = 4096;

/// RFC 6902 patch as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch(Vec<u8>);

impl Patch {
    /// Returns whether the patch has no operation. An empty patch has no JSON either.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the JSON: an array of operations.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.0
    }
}

/// Builder of a [`Patch`]. Holds the JSON of the operations that were added so far.
///
/// The text is buffered, because serde writes it in pieces of a byte or two. Without the buffer, each piece would need
/// its own call of musl's copy function.
#[derive(Debug)]
pub(crate) struct PatchBuilder(BufWriter<Vec<u8>>);

impl Default for PatchBuilder {
    fn default() -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, Vec::new()))
    }
}

/// Change of one key in a map of labels or annotations.
#[derive(Clone, Debug)]
pub(crate) struct KeyChange<'a> {
    pub(crate) key: &'a str,
    /// New value; `None` removes the key.
    pub(crate) value: Option<Cow<'a, str>>,
}

impl<'a> KeyChange<'a> {
    pub(crate) fn set(key: &'a str, value: impl Into<Cow<'a, str>>) -> Self {
        Self { key, value: Some(value.into()) }
    }

    pub(crate) const fn remove(key: &'a str) -> Self {
        Self { key, value: None }
    }

    /// Sets the key if there is a value, and removes it otherwise.
    pub(crate) fn set_or_remove(key: &'a str, value: Option<impl Into<Cow<'a, str>>>) -> Self {
        Self { key, value: value.map(Into::into) }
    }
}

#[derive(Serialize)]
struct Operation<'a, V> {
    op: &'static str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<V>,
}

impl PatchBuilder {
    /// Adds the value at `path`.
    pub(crate) fn add(&mut self, path: &[&str], value: impl Serialize) -> Result<(), Rejection> {
        self.write("add", path, Some(value))
    }

    /// Replaces the value at `path`.
    pub(crate) fn replace(&mut self, path: &[&str], value: impl Serialize) -> Result<(), Rejection> {
        self.write("replace", path, Some(value))
    }

    /// Appends `value` to the list at the path `list`. Creates the list unless `list_exists`.
    pub(crate) fn append(
        &mut self,
        list: &[&str],
        list_exists: bool,
        value: impl Serialize,
    ) -> Result<(), Rejection> {
        if list_exists { self.add(&[list, &["-"]].concat(), value) } else { self.add(list, [value]) }
    }

    /// Changes labels and annotations of the metadata at `path`. `metadata` is the content at `path` before the patch.
    /// Skips changes that `metadata` contains already.
    pub(crate) fn change_metadata(
        &mut self,
        path: &[&str],
        metadata: Option<&Metadata<'_>>,
        labels: &[KeyChange<'_>],
        annotations: &[KeyChange<'_>],
    ) -> Result<(), Rejection> {
        let Some(metadata) = metadata else {
            let maps = [("labels", set_values(labels)), ("annotations", set_values(annotations))];
            let maps: BTreeMap<_, _> = maps.into_iter().filter(|(_, map)| !map.is_empty()).collect();
            return if maps.is_empty() { Ok(()) } else { self.add(path, maps) };
        };
        self.change_map(&[path, &["labels"]].concat(), metadata.labels.as_ref(), labels)?;
        self.change_map(&[path, &["annotations"]].concat(), metadata.annotations.as_ref(), annotations)
    }

    /// Returns the patch of all operations.
    pub(crate) fn into_patch(mut self) -> Result<Patch, Rejection> {
        if !self.is_empty() {
            self.0.write_all(b"]").map_err(unwritable)?;
        }
        self.0.into_inner().map(Patch).map_err(|why| unwritable(why.into_error()))
    }

    fn is_empty(&self) -> bool {
        self.0.buffer().is_empty() && self.0.get_ref().is_empty()
    }

    fn change_map(
        &mut self,
        path: &[&str],
        map: Option<&RelevantEntries<'_>>,
        changes: &[KeyChange<'_>],
    ) -> Result<(), Rejection> {
        let Some(map) = map else {
            let values = set_values(changes);
            return if values.is_empty() { Ok(()) } else { self.add(path, values) };
        };
        for KeyChange { key, value } in changes {
            let entry = [path, &[*key]].concat();
            match (map.get(key), value.as_deref()) {
                (present, Some(value)) if present != Some(value) => self.add(&entry, value)?,
                (Some(_), None) => self.write("remove", &entry, None::<()>)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        op: &'static str,
        path: &[&str],
        value: Option<impl Serialize>,
    ) -> Result<(), Rejection> {
        let separator = if self.is_empty() { b"[" } else { b"," };
        self.0.write_all(separator).map_err(unwritable)?;
        let path = &pointer(path);
        serde_json::to_writer(&mut self.0, &Operation { op, path, value }).map_err(Rejection::Unwritable)
    }
}

fn unwritable(why: io::Error) -> Rejection {
    Rejection::Unwritable(serde_json::Error::io(why))
}

/// Returns the map that results if the changes are applied to an empty map.
fn set_values<'a>(changes: &'a [KeyChange<'_>]) -> BTreeMap<&'a str, &'a str> {
    changes.iter().filter_map(|change| Some((change.key, change.value.as_deref()?))).collect()
}

/// Returns the JSON Pointer (RFC 6901) of a path.
fn pointer(path: &[&str]) -> String {
    let mut pointer = String::with_capacity(path.iter().map(|token| token.len() + 2).sum());
    for token in path {
        pointer.push('/');
        if token.contains(['~', '/']) {
            pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
        } else {
            pointer.push_str(token);
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_pointer_escapes_reserved_characters() {
        assert_eq!(pointer(&["metadata", "labels", "a.b/c~1"]), "/metadata/labels/a.b~1c~01");
        assert_eq!(pointer(&[]), "");
    }

    #[test]
    fn a_patch_longer_than_the_buffer_is_complete() {
        // A value of the buffer's size bypasses the buffer, so that the buffer is empty between two operations.
        for length in [1, BUFFER_BYTES, 3 * BUFFER_BYTES] {
            let value = "x".repeat(length);
            let mut patch = PatchBuilder::default();
            for name in ["a", "b", "c"] {
                patch.add(&[name], &value).unwrap();
            }
            let patch: Value = serde_json::from_slice(patch.into_patch().unwrap().json()).unwrap();
            let operation = |path| json!({"op": "add", "path": path, "value": value});
            assert_eq!(patch, json!([operation("/a"), operation("/b"), operation("/c")]), "{length}");
        }
    }

    #[test]
    fn a_patch_without_operations_has_no_json() {
        assert_eq!(PatchBuilder::default().into_patch().unwrap(), Patch::default());
    }
}
