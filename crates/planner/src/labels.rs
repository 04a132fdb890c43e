//! A compact map of labels. The controller keeps labels of thousands of workloads, and each node of a `BTreeMap` would
//! take the space of eleven entries.

use std::collections::BTreeMap;

/// Labels of pods, or a selector whose labels must all match. Sorted by key, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    pairs: Box<[(Box<str>, Box<str>)]>,
    truncated: bool,
}

impl Labels {
    /// Returns the value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.pairs.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.pairs.get(index).map(|(_, value)| &**value)
    }

    /// Returns whether the map is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns the same labels, marked as truncated: the object has more labels than are kept.
    #[must_use]
    pub fn truncated(self) -> Self {
        Self { truncated: true, ..self }
    }

    /// Returns whether the object has more labels than are kept. A truncated set of pod labels still matches selectors
    /// by the labels that are kept. A truncated selector matches no pods, because its missing labels are unknown.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Returns the size of all keys and values, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Returns the number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        let pairs = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { pairs, truncated: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_label_by_its_key() {
        let labels = [("tier", "back"), ("app", "payments"), ("zone", "a")];
        let labels = Labels::from(
            labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        );
        assert_eq!(labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["app", "tier", "zone"]);
        assert_eq!((labels.get("tier"), labels.get("back")), (Some("back"), None));
        assert!(!labels.is_empty() && Labels::default().is_empty());
    }
}
