//! What was given to whom, so that the log has one line for each certificate that a pod got, however often it asks.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
};

/// More than the pods of a large cluster's roll-out; then memory starts anew.
const MAX_PODS: usize = 10_000;

/// The certificate that each pod got last, by the pod's uid and as a hash.
#[derive(Default)]
pub(super) struct Given(Mutex<HashMap<u64, u64>>);

impl Given {
    /// Whether that pod gets that certificate for the first time.
    pub(super) fn is_new(&self, pod_uid: &str, certificate: &str) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= MAX_PODS {
            given.clear();
        }
        let certificate = hash(certificate);
        given.insert(hash(pod_uid), certificate) != Some(certificate)
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_certificate_of_each_pod_is_told_once() {
        let given = Given::default();
        assert!(given.is_new("a", "1"));
        assert!(!given.is_new("a", "1"));
        assert!(given.is_new("b", "1"));
        assert!(given.is_new("a", "2"));
    }
}
