//! The installation's CA. It is loaded from its Secret, created exactly once, and never replaced silently.
//!
//! Invariant: only the leader of a cluster without evidence of an earlier CA creates a root. Where a root was trusted
//! before, a missing or different root stops issuance. The controller reports that, and an operator decides. Where the
//! settings say that the root is offline, no replica creates a root.

mod exchange;
mod fault;
mod keeper;
mod loaded;
mod offline;
mod store;
mod stored_state;

use std::sync::Arc;

use certmint_certificates::Authority;
use certmint_contract::TrustBundle;
use time::OffsetDateTime;
use tokio::sync::watch;

pub(crate) use exchange::{Exchange, ExchangeNames};
pub(crate) use fault::CaFault;
pub(crate) use keeper::CaKeeper;
pub(crate) use offline::{OfflineGauges, OfflineRoot};
pub(crate) use store::{CaNames, CaStore};

/// The CA, as far as this replica knows it.
#[derive(Clone, Debug)]
pub(crate) struct Ca {
    /// The CA that issues, or the reason why there is none.
    pub(crate) authority: Result<Arc<Authority>, Arc<CaFault>>,
    /// The trust bundle that was loaded last. It stays when there is no CA to issue with, so that existing certificates
    /// can be verified.
    pub(crate) trust_bundle: Option<Arc<TrustBundle>>,
    /// Time of the last replacement of the issuing CA for which an operator requested reissues.
    pub(crate) reissue_since: Option<OffsetDateTime>,
}

/// CA that can issue.
struct UsableCa {
    authority: Authority,
    /// As in [`Ca`].
    reissue_since: Option<OffsetDateTime>,
}

impl Ca {
    /// Returns a channel for a CA that is not loaded yet. A [`CaKeeper`] loads it.
    pub(crate) fn unknown() -> (watch::Sender<Self>, watch::Receiver<Self>) {
        watch::channel(Self {
            authority: Err(Arc::new(CaFault::NotYet)),
            trust_bundle: None,
            reissue_since: None,
        })
    }

    /// Returns whether the CA is not loaded, and the reason is temporary.
    pub(crate) fn is_pending(&self) -> bool {
        self.authority.as_ref().err().is_some_and(|fault| fault.is_transient())
    }

    /// Sets the loaded CA. Returns whether it differs from the previous one.
    fn set_usable(&mut self, usable: UsableCa) -> bool {
        let UsableCa { authority, reissue_since } = usable;
        let (issuing, trust_bundle) = (authority.issuing().certificate(), authority.trust_bundle());
        let is_same = |known: &Arc<Authority>| {
            known.issuing().certificate() == issuing && known.trust_bundle() == trust_bundle
        };
        if self.authority.as_ref().is_ok_and(is_same) && self.reissue_since == reissue_since {
            return false;
        }
        self.reissue_since = reissue_since;
        self.trust_bundle = Some(Arc::new(trust_bundle.clone()));
        self.authority = Ok(Arc::new(authority));
        true
    }

    /// Sets the reason why there is no CA. Returns whether it differs from the previous one.
    fn set_fault(&mut self, fault: CaFault) -> bool {
        if self.authority.as_ref().err().is_some_and(|known| known.to_string() == fault.to_string()) {
            return false;
        }
        self.authority = Err(Arc::new(fault));
        true
    }
}

#[cfg(test)]
mod tests;
