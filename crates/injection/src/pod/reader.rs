//! Who reads the files, which decides who writes them and how wide they are open.

use crate::view::{Container, PodSpec, SecurityContext};
use certmint_contract::annotations::Containers;
use certmint_contract::pod_layout::CONTAINER;

/// The user of the injected container where the app's is unknown or root: "nobody" of distroless images.
pub(crate) const FETCH_USER: i64 = 65_532;

/// The app as far as the pod tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Every container runs as this user, which is not root.
    User(i64),
    /// Every container runs as root, in this group.
    Root {
        /// `runAsGroup`, else root's own.
        group: i64,
    },
    /// Users differ or are decided by images, but share the pod's `fsGroup`.
    FsGroup,
    /// Nothing is known.
    Anyone,
}

impl Reader {
    /// Who runs in the containers that get the files.
    pub(crate) fn of(spec: &PodSpec<'_>, which: &Containers) -> Self {
        let pod = spec.security_context.unwrap_or_default();
        let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
        let apps = spec.containers.as_deref().unwrap_or_default().iter();
        // An init container that ends may well prepare things as root; the app is what counts.
        let readers: Vec<_> = init
            .filter(|init| init.is_sidecar() && &*init.name != CONTAINER)
            .chain(apps)
            .filter(|container| receives(which, &container.name))
            .map(|container| credentials(container, pod))
            .collect();
        match agreed(readers.iter().map(|(user, _)| *user)) {
            Some(0) => Self::Root { group: agreed(readers.iter().map(|(_, group)| *group)).unwrap_or(0) },
            Some(user) => Self::User(user),
            None if pod.fs_group.is_some() => Self::FsGroup,
            None => Self::Anyone,
        }
    }

    /// The octal mode of the published files: no wider than the reader needs.
    pub(crate) fn file_mode(self) -> &'static str {
        match self {
            Self::User(_) => "0400",
            Self::Root { .. } | Self::FsGroup => "0440",
            Self::Anyone => "0444",
        }
    }

    pub(crate) fn run_as_user(self) -> i64 {
        match self {
            Self::User(user) => user,
            Self::Root { .. } | Self::FsGroup | Self::Anyone => FETCH_USER,
        }
    }

    pub(crate) fn run_as_group(self) -> Option<i64> {
        match self {
            Self::Root { group } => Some(group),
            Self::User(_) | Self::FsGroup | Self::Anyone => None,
        }
    }
}

/// Whether a container of that name gets the files.
pub(crate) fn receives(which: &Containers, name: &str) -> bool {
    match which {
        Containers::All => true,
        Containers::Named(names) => names.iter().any(|named| **named == *name),
    }
}

/// What all say alike.
fn agreed(mut ids: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let first = ids.next()??;
    ids.all(|id| id == Some(first)).then_some(first)
}

/// A container's user and group: its own setting, else the pod's.
fn credentials(container: &Container<'_>, pod: SecurityContext) -> (Option<i64>, Option<i64>) {
    let own = container.security_context.unwrap_or_default();
    (own.run_as_user.or(pod.run_as_user), own.run_as_group.or(pod.run_as_group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(spec: &str) -> Reader {
        Reader::of(&serde_json::from_str(spec).unwrap(), &Containers::All)
    }

    #[test]
    fn one_user_for_all_is_taken() {
        assert_eq!(
            reader(
                r#"{"securityContext":{"runAsUser":7},"containers":[{"name":"a"},{"name":"b","securityContext":{"runAsUser":7}}]}"#
            ),
            Reader::User(7)
        );
        assert_eq!(
            reader(
                r#"{"initContainers":[{"name":"i","securityContext":{"runAsUser":0}}],"containers":[{"name":"a","securityContext":{"runAsUser":7}}]}"#
            ),
            Reader::User(7)
        );
    }

    #[test]
    fn root_reads_by_its_group() {
        assert_eq!(
            reader(r#"{"securityContext":{"runAsUser":0},"containers":[{"name":"a"}]}"#),
            Reader::Root { group: 0 }
        );
        assert_eq!(
            reader(
                r#"{"securityContext":{"runAsUser":0,"runAsGroup":5},"containers":[{"name":"a"},{"name":"b"}]}"#
            ),
            Reader::Root { group: 5 }
        );
    }

    #[test]
    fn unknown_users_share_the_fs_group_or_nothing() {
        assert_eq!(
            reader(r#"{"securityContext":{"fsGroup":9},"containers":[{"name":"a"}]}"#),
            Reader::FsGroup
        );
        assert_eq!(
            reader(r#"{"containers":[{"name":"a","securityContext":{"runAsUser":7}},{"name":"b"}]}"#),
            Reader::Anyone
        );
    }
}
