//! Labels as they are kept for thousands of workloads: a map's node would have room for eleven of them.

use std::collections::BTreeMap;

/// The labels of pods, or a selector by labels that must all be there. Sorted by key, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels {
    pairs: Box<[(Box<str>, Box<str>)]>,
    cut: bool,
}

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let index = self.pairs.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.pairs.get(index).map(|(_, value)| &**value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Keys and values, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl Labels {
    /// The same labels, of which there were more than are kept.
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// Whether there were more than are kept. Pods have at least those that are kept; a selector of which a part is
    /// missing selects nothing that is known.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        let pairs = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { pairs, cut: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_by_its_key_alone() {
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
