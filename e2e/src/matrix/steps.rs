//! The steps of the matrix: which certificate a program has, and which roots are in its `ca.crt`.

use super::roots::Root::{self, Expired, Namesake, New, Old, OldBeforeRenewal};

/// One step: new files, which the program loads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Root of the program's own certificate.
    pub(super) certificate: Root,
    /// Roots in `ca.crt`, in this order.
    pub(super) trusted: &'static [Root],
    /// Situation in which workloads see these files.
    pub(super) when: &'static str,
}

/// All steps, in the order in which each program loads them.
pub(super) const STEPS: &[Step] = &[
    Step { certificate: Old, trusted: &[Old], when: "before a rotation" },
    Step { certificate: Old, trusted: &[Old, New], when: "a rotation distributes the new root" },
    Step { certificate: New, trusted: &[Old, New], when: "the first certificates under the new root" },
    Step { certificate: New, trusted: &[New, Old], when: "the new root is the active one" },
    Step { certificate: Old, trusted: &[New, Old], when: "a pod that is not renewed yet" },
    Step { certificate: New, trusted: &[New], when: "the old root is retired" },
    Step { certificate: Old, trusted: &[Expired, Old, New], when: "an expired root is first" },
    Step { certificate: New, trusted: &[New, Old, Expired], when: "an expired root is last" },
    Step { certificate: Old, trusted: &[Old, Namesake], when: "a company's new root has the old subject" },
    Step { certificate: Namesake, trusted: &[Namesake, Old], when: "the same, the new root first" },
];

/// Steps in which programs differ: what they do with a client or server under the old root is observed, not required.
/// Before each of them, a server loads [`BETWEEN`].
pub(super) const OBSERVED: [Step; 3] = [
    Step { certificate: New, trusted: &[OldBeforeRenewal, Old, New], when: "expired certificate first" },
    Step { certificate: New, trusted: &[Old, OldBeforeRenewal, New], when: "expired certificate last" },
    Step { certificate: New, trusted: &[OldBeforeRenewal, New], when: "only the expired certificate" },
];

/// Step between two steps of [`OBSERVED`]. It rejects the new root and the next one accepts it, which shows that the program
/// has loaded the roots of the next step.
pub(super) const BETWEEN: Step =
    Step { certificate: Namesake, trusted: &[Namesake], when: "between two observed steps" };

/// Whether a program accepted a peer under the old root in each step of [`OBSERVED`].
pub(super) type AcceptsRenewed = [bool; OBSERVED.len()];

impl Step {
    /// Returns whether a program with these files must accept a peer whose certificate is under `root`. Returns `None` if
    /// the file has an expired certificate of that root.
    pub(super) fn accepts(&self, root: Root) -> Option<bool> {
        let is_observed = root == Old && self.trusted.contains(&OldBeforeRenewal);
        (!is_observed).then(|| self.trusted.contains(&root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_contain_each_file_of_a_rotation() {
        for trusted in [&[Old][..], &[Old, New], &[New, Old], &[New]] {
            assert!(STEPS.iter().any(|step| step.trusted == trusted), "{trusted:?}");
        }
    }

    #[test]
    fn nothing_is_required_of_a_renewed_root() {
        assert_eq!(OBSERVED.map(|step| step.accepts(Old)), [None; 3]);
        assert_eq!(OBSERVED.map(|step| step.accepts(New)), [Some(true); 3]);
        assert_eq!(BETWEEN.accepts(New), Some(false));
    }
}
