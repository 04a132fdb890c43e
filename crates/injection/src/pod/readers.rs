//! The users who read the files.
//!
//! The user and the group of the certmint-fetch container, and the mode of the files, depend on these users.

use certmint_contract::annotations::Containers;
use certmint_contract::pod_layout::FETCH_CONTAINER;

use crate::input::{Container, PodSpec, SecurityContext};

/// User of the certmint-fetch container if the user of the application is unknown or root. Distroless images use the
/// same user.
pub(crate) const FETCH_USER: i64 = 65_532;

/// Users of the containers that get the files, as far as the pod's spec shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileReaders {
    /// Every container runs as this user, who is not root, or as root with permission to read any file.
    User(i64),
    /// The users differ or are root, and all have this primary group.
    Group(i64),
    /// The users differ or are unknown, and share the `fsGroup` of the pod.
    FsGroup,
    /// The users share no group. The list is empty if not all of them are known.
    Anyone(Vec<i64>),
}

/// User and group of a container.
#[derive(Clone, Copy)]
struct Credentials {
    /// User; `None` if the image decides.
    user: Option<i64>,
    /// Primary group; `None` if the image decides.
    group: Option<i64>,
    /// True if the container runs as root and no file mode restricts it.
    reads_any_file: bool,
}

impl FileReaders {
    /// Determines the users of the containers that get the files.
    pub(crate) fn of(spec: &PodSpec<'_>, which: &Containers) -> Self {
        let all: Vec<_> =
            reading_containers(spec, which).map(|container| Credentials::of(container, spec)).collect();
        let restricted: Vec<_> = all.iter().copied().filter(|reader| !reader.reads_any_file).collect();
        // If no file mode restricts these containers, any one of them can represent all.
        let readers = if restricted.is_empty() { all.get(..1).unwrap_or_default() } else { &restricted };
        match common_value(readers.iter().map(|reader| reader.user)) {
            Some(user) if user != 0 => return Self::User(user),
            _ if fs_group(spec).is_some() => return Self::FsGroup,
            _ => {}
        }
        match common_value(readers.iter().map(|reader| reader.group)) {
            Some(group) => Self::Group(group),
            None => Self::Anyone(
                readers.iter().map(|reader| reader.user).collect::<Option<_>>().unwrap_or_default(),
            ),
        }
    }

    /// Adapts the readers to a certmint-fetch container whose user the platform chooses. `writer` is that user, if it
    /// is known. Only the owner can read a file of mode 0400, so [`Self::User`] remains only if `writer` is the same
    /// user.
    pub(crate) fn with_writer(self, writer: Option<i64>, spec: &PodSpec<'_>) -> Self {
        match self {
            Self::User(user) if writer == Some(user) => Self::User(user),
            Self::User(_) if fs_group(spec).is_some() => Self::FsGroup,
            Self::User(user) => Self::Anyone(vec![user]),
            other => other,
        }
    }

    /// Returns the octal mode of the published files: the narrowest with which all readers can read them.
    pub(crate) fn file_mode(&self) -> &'static str {
        match self {
            Self::User(_) => "0400",
            Self::Group(_) | Self::FsGroup => "0440",
            Self::Anyone(_) => "0444",
        }
    }

    /// Returns the user of the certmint-fetch container.
    pub(crate) fn writer_user(&self) -> i64 {
        match self {
            Self::User(user) => *user,
            Self::Group(_) | Self::FsGroup | Self::Anyone(_) => FETCH_USER,
        }
    }

    /// Returns the primary group of the certmint-fetch container, if it must be set.
    pub(crate) fn writer_group(&self) -> Option<i64> {
        match self {
            Self::Group(group) => Some(*group),
            Self::User(_) | Self::FsGroup | Self::Anyone(_) => None,
        }
    }
}

impl Credentials {
    /// Reads the credentials of a container. A setting of the container has priority over one of the pod.
    fn of(container: &Container<'_>, spec: &PodSpec<'_>) -> Self {
        let (own, pod) = (container.security_context.as_ref(), spec.security_context.as_ref());
        let user = own.and_then(|own| own.run_as_user).or(pod_user(spec));
        let group = own.and_then(|own| own.run_as_group).or(pod.and_then(|pod| pod.run_as_group));
        let is_root = user == Some(0);
        Self {
            user,
            // The primary group of root is 0 in every image. The image decides about the group of another user.
            group: group.or(is_root.then_some(0)),
            reads_any_file: is_root && !own.is_some_and(SecurityContext::drops_dac_override),
        }
    }
}

/// Iterates over the containers whose users count as readers.
///
/// An init container that ends may run as another user to prepare files. Its user counts only if the annotation names
/// the container.
fn reading_containers<'a>(
    spec: &'a PodSpec<'_>,
    which: &'a Containers,
) -> impl Iterator<Item = &'a Container<'a>> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let is_named = matches!(which, Containers::Named(_));
    init.filter(move |init| (is_named || init.is_sidecar()) && &*init.name != FETCH_CONTAINER)
        .chain(apps)
        .filter(move |container| gets_files(which, &container.name))
}

/// Returns the name of a container that starts as root and may become another user, as servers do that drop their
/// privileges. The pod's spec does not contain that user.
pub(crate) fn container_that_may_change_user<'a>(
    spec: &'a PodSpec<'_>,
    which: &'a Containers,
) -> Option<&'a str> {
    let may_change = |container: &&Container<'_>| {
        Credentials::of(container, spec).user == Some(0)
            && !container.security_context.as_ref().is_some_and(SecurityContext::drops_setuid)
    };
    reading_containers(spec, which).find(may_change).map(|container| &*container.name)
}

/// Returns the user that the pod sets for all containers.
pub(crate) fn pod_user(spec: &PodSpec<'_>) -> Option<i64> {
    spec.security_context.as_ref().and_then(|context| context.run_as_user)
}

fn fs_group(spec: &PodSpec<'_>) -> Option<i64> {
    spec.security_context.as_ref().and_then(|context| context.fs_group)
}

/// Returns whether a container of that name gets the files.
pub(crate) fn gets_files(which: &Containers, name: &str) -> bool {
    match which {
        Containers::All => true,
        Containers::Named(names) => names.iter().any(|named| **named == *name),
    }
}

/// Returns the value that all items have, if they all have the same value.
fn common_value(mut ids: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let first = ids.next()??;
    ids.all(|id| id == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(spec: &str) -> FileReaders {
        FileReaders::of(&serde_json::from_str(spec).unwrap(), &Containers::All)
    }

    #[test]
    fn finds_a_common_user() {
        assert_eq!(
            readers(
                r#"{"securityContext":{"runAsUser":7},"containers":[{"name":"a"},{"name":"b","securityContext":{"runAsUser":7}}]}"#
            ),
            FileReaders::User(7)
        );
        assert_eq!(
            readers(
                r#"{"initContainers":[{"name":"i","securityContext":{"runAsUser":0}}],"containers":[{"name":"a","securityContext":{"runAsUser":7}}]}"#
            ),
            FileReaders::User(7)
        );
    }

    #[test]
    fn root_reads_by_its_group_or_any_file() {
        assert_eq!(
            readers(r#"{"securityContext":{"runAsUser":0},"containers":[{"name":"a"}]}"#),
            FileReaders::Group(0)
        );
        assert_eq!(
            readers(
                r#"{"securityContext":{"runAsUser":0,"runAsGroup":5},"containers":[{"name":"a"},{"name":"b"}]}"#
            ),
            FileReaders::Group(5)
        );
        let user_and_root = |root: &str| {
            readers(&format!(
                r#"{{"containers":[{{"name":"a","securityContext":{{"runAsUser":7}}}},{{"name":"b","securityContext":{root}}}]}}"#
            ))
        };
        assert_eq!(user_and_root(r#"{"runAsUser":0}"#), FileReaders::User(7));
        assert_eq!(
            user_and_root(r#"{"runAsUser":0,"capabilities":{"drop":["ALL"]}}"#),
            FileReaders::Anyone(vec![7, 0])
        );
    }

    #[test]
    fn different_users_share_a_group_or_nothing() {
        assert_eq!(
            readers(r#"{"securityContext":{"fsGroup":9},"containers":[{"name":"a"}]}"#),
            FileReaders::FsGroup
        );
        assert_eq!(
            readers(
                r#"{"securityContext":{"runAsUser":8,"runAsGroup":9},"containers":[{"name":"a","securityContext":{"runAsUser":7}},{"name":"b"}]}"#
            ),
            FileReaders::Group(9)
        );
        assert_eq!(
            readers(r#"{"containers":[{"name":"a","securityContext":{"runAsUser":7}},{"name":"b"}]}"#),
            FileReaders::Anyone(vec![])
        );
    }

    #[test]
    fn an_init_container_counts_if_it_is_named() {
        let spec = serde_json::from_str(
            r#"{"initContainers":[{"name":"i","securityContext":{"runAsUser":7}}],"containers":[{"name":"a"}]}"#,
        )
        .unwrap();
        assert_eq!(FileReaders::of(&spec, &"i".parse().unwrap()), FileReaders::User(7));
        assert_eq!(FileReaders::of(&spec, &Containers::All), FileReaders::Anyone(vec![]));
    }
}
