//! The cluster autoscaler does not remove a node while a pod on it has a local volume that the pod cannot lose. The
//! certificate's volume is lost without harm: the next pod gets its files anew.

use crate::input::Metadata;
use crate::patch::KeyChange;
use certmint_contract::pod_layout::{SAFE_TO_EVICT_VOLUMES, TLS_VOLUME};
use std::borrow::Cow;

/// The annotation that names the volumes that can be lost: the pod's own list, with the certificate's volume in it.
pub(super) fn annotation<'a>(metadata: &'a Metadata<'_>) -> KeyChange<'a> {
    (SAFE_TO_EVICT_VOLUMES, Some(with_ours(metadata.annotation(SAFE_TO_EVICT_VOLUMES).unwrap_or_default())))
}

/// The autoscaler splits the list at its commas and trims nothing.
fn with_ours(volumes: &str) -> Cow<'_, str> {
    match volumes {
        "" => TLS_VOLUME.into(),
        listed if listed.split(',').any(|volume| volume == TLS_VOLUME) => listed.into(),
        others => format!("{others},{TLS_VOLUME}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_volumes_stay_listed_and_ours_is_listed_once() {
        for (before, after) in [
            ("", "certmint-tls"),
            ("tmp,cache", "tmp,cache,certmint-tls"),
            ("certmint-tls", "certmint-tls"),
            ("tmp,certmint-tls,cache", "tmp,certmint-tls,cache"),
            // Another volume whose name only begins like ours.
            ("certmint-tls-of-mine", "certmint-tls-of-mine,certmint-tls"),
            // With a space before it, the autoscaler does not find the name.
            ("tmp, certmint-tls", "tmp, certmint-tls,certmint-tls"),
        ] {
            assert_eq!(with_ours(before), after);
            assert_eq!(with_ours(after), after);
        }
    }
}
