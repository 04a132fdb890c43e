//! The annotation that lets the cluster autoscaler evict an injected pod.
//!
//! The autoscaler does not remove a node while a pod on it has a local volume that must not be lost. The volume of the
//! certificate may be lost: the next pod gets its own files.

use std::borrow::Cow;

use certmint_contract::pod_layout::{SAFE_TO_EVICT_VOLUMES, TLS_VOLUME};

use crate::input::Metadata;
use crate::patch::KeyChange;

/// Returns the annotation that lists the volumes which may be lost: the list of the user, and the volume of the
/// certificate.
pub(super) fn annotation<'a>(metadata: &'a Metadata<'_>) -> KeyChange<'a> {
    let volumes = metadata.annotation(SAFE_TO_EVICT_VOLUMES).unwrap_or_default();
    KeyChange::set(SAFE_TO_EVICT_VOLUMES, with_tls_volume(volumes))
}

/// Returns the list with the volume of the certificate. The autoscaler splits the list at its commas and trims nothing.
fn with_tls_volume(volumes: &str) -> Cow<'_, str> {
    if volumes.is_empty() {
        TLS_VOLUME.into()
    } else if volumes.split(',').any(|volume| volume == TLS_VOLUME) {
        volumes.into()
    } else {
        format!("{volumes},{TLS_VOLUME}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_the_volume_once_and_keeps_the_others() {
        for (before, after) in [
            ("", "certmint-tls"),
            ("tmp,cache", "tmp,cache,certmint-tls"),
            ("certmint-tls", "certmint-tls"),
            ("tmp,certmint-tls,cache", "tmp,certmint-tls,cache"),
            // The name of another volume may begin with the name of this one.
            ("certmint-tls-copy", "certmint-tls-copy,certmint-tls"),
            // The autoscaler does not find a name after a space.
            ("tmp, certmint-tls", "tmp, certmint-tls,certmint-tls"),
        ] {
            assert_eq!(with_tls_volume(before), after);
            assert_eq!(with_tls_volume(after), after);
        }
    }
}
