//! Who reads the files, which decides who writes them and how wide they are open.

use crate::input::{Container, PodSpec, SecurityContext};
use certmint_contract::annotations::Containers;
use certmint_contract::pod_layout::FETCH_CONTAINER;

/// The user of the injected container where the app's is unknown or root: "nobody" of distroless images.
pub(crate) const FETCH_USER: i64 = 65_532;

/// The app as far as the pod tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileReaders {
    /// Every container runs as this user, which is not root, or as a root that may read anything.
    User(i64),
    /// Users differ or are root, and this is the primary group of all.
    Group(i64),
    /// Users differ or are decided by images, but share the pod's `fsGroup`.
    FsGroup,
    /// Nothing is shared by these users; empty when they are not all known.
    Anyone(Vec<i64>),
}

/// Who a container runs as; `None` leaves it to the image.
#[derive(Clone, Copy)]
struct Credentials {
    user: Option<i64>,
    group: Option<i64>,
    /// Root that no file's mode keeps out.
    reads_anything: bool,
}

impl FileReaders {
    /// Who runs in the containers that get the files.
    pub(crate) fn of(spec: &PodSpec<'_>, which: &Containers) -> Self {
        let all: Vec<_> = readers(spec, which).map(|container| Credentials::of(container, spec)).collect();
        let bound: Vec<_> = all.iter().copied().filter(|reader| !reader.reads_anything).collect();
        // Where nobody is kept out by a mode, one stands for all.
        let readers = if bound.is_empty() { all.get(..1).unwrap_or_default() } else { &bound };
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

    /// The app as far as it can be told apart when our container runs as `writer`, of the platform's choice, or as
    /// nobody knows whom: a file of mode 0400 is for its owner only.
    pub(crate) fn beside(self, writer: Option<i64>, spec: &PodSpec<'_>) -> Self {
        match self {
            Self::User(user) if writer == Some(user) => Self::User(user),
            Self::User(_) if fs_group(spec).is_some() => Self::FsGroup,
            Self::User(user) => Self::Anyone(vec![user]),
            other => other,
        }
    }

    /// The octal mode of the published files: no wider than the reader needs.
    pub(crate) fn file_mode(&self) -> &'static str {
        match self {
            Self::User(_) => "0400",
            Self::Group(_) | Self::FsGroup => "0440",
            Self::Anyone(_) => "0444",
        }
    }

    pub(crate) fn run_as_user(&self) -> i64 {
        match self {
            Self::User(user) => *user,
            Self::Group(_) | Self::FsGroup | Self::Anyone(_) => FETCH_USER,
        }
    }

    pub(crate) fn run_as_group(&self) -> Option<i64> {
        match self {
            Self::Group(group) => Some(*group),
            Self::User(_) | Self::FsGroup | Self::Anyone(_) => None,
        }
    }
}

impl Credentials {
    /// A container's own setting, else the pod's.
    fn of(container: &Container<'_>, spec: &PodSpec<'_>) -> Self {
        let (own, pod) = (container.security_context.as_ref(), spec.security_context.as_ref());
        let user = own.and_then(|own| own.run_as_user).or(pod_user(spec));
        let group = own.and_then(|own| own.run_as_group).or(pod.and_then(|pod| pod.run_as_group));
        let is_root = user == Some(0);
        Self {
            user,
            // Root's primary group is root's, whatever the image; another user's is the image's to say.
            group: group.or(is_root.then_some(0)),
            reads_anything: is_root && !own.is_some_and(SecurityContext::drops_dac_override),
        }
    }
}

/// The containers that get the files and count: an init container that ends may well prepare things as another user,
/// so it counts only when it is asked for by name.
fn readers<'a>(spec: &'a PodSpec<'_>, which: &'a Containers) -> impl Iterator<Item = &'a Container<'a>> {
    let init = spec.init_containers.as_deref().unwrap_or_default().iter().map(|init| &init.view);
    let apps = spec.containers.as_deref().unwrap_or_default().iter();
    let named = matches!(which, Containers::Named(_));
    init.filter(move |init| (named || init.is_sidecar()) && &*init.name != FETCH_CONTAINER)
        .chain(apps)
        .filter(move |container| receives(which, &container.name))
}

/// The container that begins as root and may become another user, as servers do that drop their privileges. Which user
/// that is, the pod does not tell.
pub(crate) fn may_change_user<'a>(spec: &'a PodSpec<'_>, which: &'a Containers) -> Option<&'a str> {
    let changes = |container: &&Container<'_>| {
        Credentials::of(container, spec).user == Some(0)
            && !container.security_context.as_ref().is_some_and(SecurityContext::drops_setuid)
    };
    readers(spec, which).find(changes).map(|container| &*container.name)
}

/// The user that the pod sets for every container.
pub(crate) fn pod_user(spec: &PodSpec<'_>) -> Option<i64> {
    spec.security_context.as_ref().and_then(|context| context.run_as_user)
}

fn fs_group(spec: &PodSpec<'_>) -> Option<i64> {
    spec.security_context.as_ref().and_then(|context| context.fs_group)
}

/// Whether a container of that name gets the files.
pub(crate) fn receives(which: &Containers, name: &str) -> bool {
    match which {
        Containers::All => true,
        Containers::Named(names) => names.iter().any(|named| **named == *name),
    }
}

/// What all say alike.
fn common_value(mut ids: impl Iterator<Item = Option<i64>>) -> Option<i64> {
    let first = ids.next()??;
    ids.all(|id| id == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(spec: &str) -> FileReaders {
        FileReaders::of(&serde_json::from_str(spec).unwrap(), &Containers::All)
    }

    #[test]
    fn one_user_for_all_is_taken() {
        assert_eq!(
            reader(
                r#"{"securityContext":{"runAsUser":7},"containers":[{"name":"a"},{"name":"b","securityContext":{"runAsUser":7}}]}"#
            ),
            FileReaders::User(7)
        );
        assert_eq!(
            reader(
                r#"{"initContainers":[{"name":"i","securityContext":{"runAsUser":0}}],"containers":[{"name":"a","securityContext":{"runAsUser":7}}]}"#
            ),
            FileReaders::User(7)
        );
    }

    #[test]
    fn root_reads_by_its_group_or_anything() {
        assert_eq!(
            reader(r#"{"securityContext":{"runAsUser":0},"containers":[{"name":"a"}]}"#),
            FileReaders::Group(0)
        );
        assert_eq!(
            reader(
                r#"{"securityContext":{"runAsUser":0,"runAsGroup":5},"containers":[{"name":"a"},{"name":"b"}]}"#
            ),
            FileReaders::Group(5)
        );
        let beside_root = |root: &str| {
            reader(&format!(
                r#"{{"containers":[{{"name":"a","securityContext":{{"runAsUser":7}}}},{{"name":"b","securityContext":{root}}}]}}"#
            ))
        };
        assert_eq!(beside_root(r#"{"runAsUser":0}"#), FileReaders::User(7));
        assert_eq!(
            beside_root(r#"{"runAsUser":0,"capabilities":{"drop":["ALL"]}}"#),
            FileReaders::Anyone(vec![7, 0])
        );
    }

    #[test]
    fn other_users_share_a_group_or_nothing() {
        assert_eq!(
            reader(r#"{"securityContext":{"fsGroup":9},"containers":[{"name":"a"}]}"#),
            FileReaders::FsGroup
        );
        assert_eq!(
            reader(
                r#"{"securityContext":{"runAsUser":8,"runAsGroup":9},"containers":[{"name":"a","securityContext":{"runAsUser":7}},{"name":"b"}]}"#
            ),
            FileReaders::Group(9)
        );
        assert_eq!(
            reader(r#"{"containers":[{"name":"a","securityContext":{"runAsUser":7}},{"name":"b"}]}"#),
            FileReaders::Anyone(vec![])
        );
    }

    #[test]
    fn an_init_container_counts_when_it_is_named() {
        let spec = serde_json::from_str(
            r#"{"initContainers":[{"name":"i","securityContext":{"runAsUser":7}}],"containers":[{"name":"a"}]}"#,
        )
        .unwrap();
        assert_eq!(FileReaders::of(&spec, &"i".parse().unwrap()), FileReaders::User(7));
        assert_eq!(FileReaders::of(&spec, &Containers::All), FileReaders::Anyone(vec![]));
    }
}
