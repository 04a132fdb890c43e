//! Building an RFC 6902 patch.

use crate::json::Ours;
use crate::view::Metadata;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

/// The operations so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Edits(Vec<PatchOperation>);

/// A key of ours in a map of labels or annotations, and what it shall be: `None` takes it away.
pub(crate) type Wish<'a> = (&'a str, Option<String>);

impl Edits {
    pub(crate) fn add(&mut self, path: &[&str], value: Value) {
        self.0.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    pub(crate) fn replace(&mut self, path: &[&str], value: Value) {
        self.0.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
    }

    /// Appends to a list, or makes the list when there is none.
    pub(crate) fn append(&mut self, list: &[&str], exists: bool, value: Value) {
        if exists {
            self.add(&[list, &["-"]].concat(), value);
        } else {
            self.add(list, Value::Array(vec![value]));
        }
    }

    /// Brings labels and annotations to what is wished, touching nothing that is so already.
    pub(crate) fn metadata(
        &mut self,
        path: &[&str],
        metadata: Option<&Metadata<'_>>,
        labels: &[Wish<'_>],
        annotations: &[Wish<'_>],
    ) {
        match metadata {
            Some(metadata) => {
                self.map(&[path, &["labels"]].concat(), metadata.labels.as_ref(), labels);
                self.map(&[path, &["annotations"]].concat(), metadata.annotations.as_ref(), annotations);
            }
            None => {
                let maps = [("labels", labels), ("annotations", annotations)];
                let maps = maps.map(|(name, wishes)| (name.to_owned(), granted(wishes)));
                let maps: Map<_, _> =
                    maps.into_iter().filter(|(_, map)| !map.is_empty()).map(|(n, m)| (n, m.into())).collect();
                if !maps.is_empty() {
                    self.add(path, maps.into());
                }
            }
        }
    }

    pub(crate) fn into_patch(self) -> Patch {
        Patch(self.0)
    }

    fn map(&mut self, path: &[&str], found: Option<&Ours<'_>>, wishes: &[Wish<'_>]) {
        let Some(found) = found else {
            let map = granted(wishes);
            if !map.is_empty() {
                self.add(path, map.into());
            }
            return;
        };
        for (key, wish) in wishes {
            let entry = [path, &[*key]].concat();
            match (found.get(key), wish) {
                (found, Some(wish)) if found != Some(wish) => self.add(&entry, wish.as_str().into()),
                (Some(_), None) => self.remove(&entry),
                _ => {}
            }
        }
    }

    fn remove(&mut self, path: &[&str]) {
        self.0.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
    }
}

fn granted(wishes: &[Wish<'_>]) -> Map<String, Value> {
    wishes.iter().filter_map(|(key, wish)| Some(((*key).to_owned(), wish.clone()?.into()))).collect()
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
