//! The CA this installation holds: loaded from its Secret, made exactly once, never silently replaced.
//!
//! Invariant: only the first leader of a cluster that shows no trace of an earlier CA makes a root. Wherever
//! a root was trusted before, a missing or another root stops issuance, and says so, until a person decides.

mod fault;
mod keeper;
mod store;

pub(crate) use fault::CaFault;
pub(crate) use keeper::Keeper;
pub(crate) use store::{CaNames, Store};

use certmint_certificates::Authority;
use std::sync::Arc;
use tokio::sync::watch;

/// What this replica knows of the CA.
#[derive(Clone, Debug)]
pub(crate) struct Ca {
    /// What signs, or why nothing does.
    pub(crate) authority: Result<Arc<Authority>, Arc<CaFault>>,
    /// The roots (PEM) as last loaded. They outlive a fault: what was issued before stays verifiable.
    pub(crate) roots: Option<Arc<str>>,
}

impl Ca {
    /// A CA not looked at yet, to be filled by a [`Keeper`].
    pub(crate) fn unknown() -> (watch::Sender<Self>, watch::Receiver<Self>) {
        watch::channel(Self { authority: Err(Arc::new(CaFault::NotYet)), roots: None })
    }

    /// Whether there is none yet, but nothing is wrong either.
    pub(crate) fn is_on_its_way(&self) -> bool {
        self.authority.as_ref().err().is_some_and(|fault| fault.is_passing())
    }

    /// Notes what was loaded; tells whether it is new.
    fn take(&mut self, authority: Authority) -> bool {
        let issuing = authority.issuing().certificate();
        if self.authority.as_ref().is_ok_and(|known| known.issuing().certificate() == issuing) {
            return false;
        }
        self.roots = Some(authority.trust_bundle().into());
        self.authority = Ok(Arc::new(authority));
        true
    }

    /// Notes why there is none; tells whether that is new.
    fn lose(&mut self, fault: CaFault) -> bool {
        if self.authority.as_ref().err().is_some_and(|known| known.to_string() == fault.to_string()) {
            return false;
        }
        self.authority = Err(Arc::new(fault));
        true
    }
}

#[cfg(test)]
mod tests;
