//! Remembers which pod got which certificate, so that the log has one line for each certificate of a pod, even if the
//! pod requests it several times.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Maximum number of remembered pods. A rollout in a large cluster has fewer pods. At the limit all pods are forgotten.
const MAX_PODS: usize = 10_000;

/// Hash of the last certificate of each pod, by the hash of the pod's uid.
#[derive(Default)]
pub(super) struct DeliveredBundles(Mutex<HashMap<u64, u64>>);

impl DeliveredBundles {
    /// Remembers that a pod gets a certificate. Returns whether the certificate differs from the last one
    /// that is remembered for the pod.
    pub(super) fn is_new(&self, pod_uid: &str, certificate: &str) -> bool {
        let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if delivered.len() >= MAX_PODS {
            delivered.clear();
        }
        let certificate = hash(certificate);
        delivered.insert(hash(pod_uid), certificate) != Some(certificate)
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
    fn each_certificate_of_a_pod_is_new_once() {
        let delivered = DeliveredBundles::default();
        assert!(delivered.is_new("a", "1"));
        assert!(!delivered.is_new("a", "1"));
        assert!(delivered.is_new("b", "1"));
        assert!(delivered.is_new("a", "2"));
    }
}
