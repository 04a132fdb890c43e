//! Building an RFC 6902 patch, as the text that the API server gets.

use crate::Rejection;
use crate::input::Metadata;
use crate::json::OwnEntries;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write as _};

/// Most patches fit.
const USUAL_BYTES: usize = 4096;

/// An RFC 6902 patch as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch(Vec<u8>);

impl Patch {
    /// Whether nothing changes; then there is no JSON.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON: an array of operations.
    pub fn json(&self) -> &[u8] {
        &self.0
    }
}

/// The operations so far, in order. Buffered, because JSON is written in pieces of a byte or two, and musl copies those
/// into a `Vec` by a call for each.
#[derive(Debug)]
pub(crate) struct PatchBuilder(BufWriter<Vec<u8>>);

impl Default for PatchBuilder {
    fn default() -> Self {
        Self(BufWriter::with_capacity(USUAL_BYTES, Vec::new()))
    }
}

/// A key of ours in a map of labels or annotations, and what it shall be: `None` takes it away.
pub(crate) type KeyChange<'a> = (&'a str, Option<Cow<'a, str>>);

#[derive(Serialize)]
struct Operation<'a, V> {
    op: &'static str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<V>,
}

impl PatchBuilder {
    pub(crate) fn add(&mut self, path: &[&str], value: impl Serialize) -> Result<(), Rejection> {
        self.write("add", path, Some(value))
    }

    pub(crate) fn replace(&mut self, path: &[&str], value: impl Serialize) -> Result<(), Rejection> {
        self.write("replace", path, Some(value))
    }

    /// Appends to a list, or makes the list when there is none.
    pub(crate) fn append(
        &mut self,
        list: &[&str],
        exists: bool,
        value: impl Serialize,
    ) -> Result<(), Rejection> {
        if exists { self.add(&[list, &["-"]].concat(), value) } else { self.add(list, [value]) }
    }

    /// Brings labels and annotations to what is wished, touching nothing that is so already.
    pub(crate) fn metadata(
        &mut self,
        path: &[&str],
        metadata: Option<&Metadata<'_>>,
        labels: &[KeyChange<'_>],
        annotations: &[KeyChange<'_>],
    ) -> Result<(), Rejection> {
        let Some(metadata) = metadata else {
            let maps = [("labels", labels), ("annotations", annotations)];
            let maps = maps.map(|(name, wishes)| (name, set_values(wishes)));
            let maps: BTreeMap<_, _> = maps.into_iter().filter(|(_, map)| !map.is_empty()).collect();
            return if maps.is_empty() { Ok(()) } else { self.add(path, maps) };
        };
        self.map(&[path, &["labels"]].concat(), metadata.labels.as_ref(), labels)?;
        self.map(&[path, &["annotations"]].concat(), metadata.annotations.as_ref(), annotations)
    }

    pub(crate) fn into_patch(mut self) -> Result<Patch, Rejection> {
        if !self.is_empty() {
            self.0.write_all(b"]").map_err(unwritable)?;
        }
        self.0.into_inner().map(Patch).map_err(|why| unwritable(why.into_error()))
    }

    fn is_empty(&self) -> bool {
        self.0.buffer().is_empty() && self.0.get_ref().is_empty()
    }

    fn map(
        &mut self,
        path: &[&str],
        found: Option<&OwnEntries<'_>>,
        wishes: &[KeyChange<'_>],
    ) -> Result<(), Rejection> {
        let Some(found) = found else {
            let map = set_values(wishes);
            return if map.is_empty() { Ok(()) } else { self.add(path, map) };
        };
        for (key, wish) in wishes {
            let entry = [path, &[*key]].concat();
            match (found.get(key), wish) {
                (found, Some(wish)) if found != Some(&**wish) => self.add(&entry, wish)?,
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
        let before = if self.is_empty() { b"[" } else { b"," };
        self.0.write_all(before).map_err(unwritable)?;
        let path = &pointer(path);
        serde_json::to_writer(&mut self.0, &Operation { op, path, value }).map_err(Rejection::Unwritable)
    }
}

fn unwritable(why: io::Error) -> Rejection {
    Rejection::Unwritable(serde_json::Error::io(why))
}

fn set_values<'a>(wishes: &'a [KeyChange<'_>]) -> BTreeMap<&'a str, &'a str> {
    wishes.iter().filter_map(|(key, wish)| Some((*key, wish.as_deref()?))).collect()
}

/// A JSON Pointer (RFC 6901).
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
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_pointer_escapes_what_rfc_6901_reserves() {
        assert_eq!(pointer(&["metadata", "labels", "a.b/c~1"]), "/metadata/labels/a.b~1c~01");
        assert_eq!(pointer(&[]), "");
    }

    #[test]
    fn a_patch_longer_than_the_buffer_is_written_whole() {
        // What is as long as the buffer goes past it, and leaves it empty between two operations.
        for length in [1, USUAL_BYTES, 3 * USUAL_BYTES] {
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
    fn without_an_operation_there_is_no_json() {
        assert_eq!(PatchBuilder::default().into_patch().unwrap(), Patch::default());
    }
}
