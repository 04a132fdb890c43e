//! The processes of a cluster that are the running program again, whichever program of the project that is.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{boot, init, supervisor};

/// What such a process does; each is told the cluster's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Outside the namespaces: [`supervisor::supervise`].
    Supervisor,
    /// Process 1 inside: [`init::run`].
    Init,
    /// The one that starts everything inside: [`boot::run`].
    Boot,
}

impl Role {
    const ALL: [Self; 3] = [Self::Supervisor, Self::Init, Self::Boot];

    /// The first argument that stands for the role.
    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Supervisor => "cluster-supervisor",
            Self::Init => "cluster-init",
            Self::Boot => "cluster-boot",
        }
    }

    fn play(self, directory: &Path) -> Result<()> {
        match self {
            Self::Supervisor => supervisor::supervise(directory),
            Self::Init => init::run(directory),
            Self::Boot => boot::run(directory),
        }
    }
}

/// Plays the role that this process was started for, if it was; every program that starts clusters does so first of
/// all.
pub fn play() -> Option<Result<()>> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?;
    let role = Role::ALL.into_iter().find(|role| name == role.argument())?;
    Some(role.play(&PathBuf::from(arguments.next()?)))
}
