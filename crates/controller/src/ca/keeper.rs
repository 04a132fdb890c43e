//! Looks after the CA: loads it, and, while leading, carries out what the planner says about it.

use super::{Ca, CaFault, Store, store::Stored};
use crate::{
    api::Fault,
    clock,
    events::{Events, Subject},
    leadership::{self, Term},
    random,
};
use certmint_certificates::{
    Authority, CaCertificate, CaError, Issuing, PrivateKey, Root,
    ca::{IssuingProfile, RootProfile, Tier},
};
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, Lifetime, Policy, rfc3339};
use certmint_planner::{CaFacts, CaObserved, CaPlan, CaSecret, TrustBundle, ca, ca_plan};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::watch;

/// How soon a CA that was deleted, swapped or restored is noticed.
const PACE: Duration = Duration::from_secs(5);
/// How soon a CA that is about to be made, or an API server that is away, is asked for again.
const IMPATIENT_PACE: Duration = Duration::from_secs(1);
/// What is left of a CA whose every other trace was removed.
const IN_MEMORY: &str = "what this process has in memory";
/// Ten years: roots are replaced by decision, not by expiry.
const ROOT_LIFETIME: Lifetime = Lifetime::from_seconds(10 * 365 * 86_400);

/// Keeps [`Ca`] true.
pub(crate) struct Keeper<W> {
    /// Where the CA is.
    pub(crate) store: Store,
    /// What this replica is told.
    pub(crate) ca: watch::Sender<Ca>,
    /// The policy in force.
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    /// Whether this replica leads.
    pub(crate) terms: watch::Receiver<Term>,
    /// A Secret that some CA of ours signed, if there is one, in words.
    pub(crate) trace: W,
    /// Where faults are told.
    pub(crate) events: Events,
    /// Our own Deployment.
    pub(crate) ourselves: Subject,
}

/// What is in the Secret, as far as it can be used.
enum Loaded {
    Usable(Authority),
    IssuingExpired(Root),
}

impl<W: Fn() -> Option<String>> Keeper<W> {
    /// Looks at the CA again and again; never returns.
    pub(crate) async fn run(mut self) {
        loop {
            let leading = leadership::leads(&self.terms);
            let policy = self.policy.borrow_and_update().clone();
            let looked = self.look(&policy, leading).await;
            let pace = match &looked {
                Err(fault) if fault.is_passing() => IMPATIENT_PACE,
                _ => PACE,
            };
            self.tell(looked);
            tokio::select! {
                () = tokio::time::sleep(pace) => {}
                () = leadership::turns(&mut self.terms, leading) => {}
                Ok(()) = self.policy.changed() => {}
            }
        }
    }

    /// One look: what is there, what the planner makes of it, and, for the leader, doing it.
    async fn look(&self, policy: &Policy, leading: bool) -> Result<Authority, CaFault> {
        let now = clock::now();
        let published = self.store.published().await?;
        let stored = self.store.read().await?;
        let loaded = stored.as_ref().map(|stored| load(stored, now));
        let observed = CaObserved {
            secret: facts(loaded.as_ref()),
            trust_bundle: self.compare(loaded.as_ref(), published.as_deref()),
            trace: (self.trace)().or_else(|| self.ca.borrow().roots.as_ref().map(|_| IN_MEMORY.into())),
        };
        let plan = ca_plan(&observed, policy, now);
        match (plan, stored.zip(loaded.and_then(Result::ok)), leading) {
            (CaPlan::Refuse(refusal), ..) => Err(self.store.refused(refusal.message)),
            (CaPlan::CreateAll, _, true) => self.create(policy, now).await,
            (CaPlan::Keep { .. }, Some((_, Loaded::Usable(authority))), _) => {
                if leading && published.is_none() {
                    self.store.publish(authority.trust_bundle()).await?;
                }
                Ok(authority)
            }
            (CaPlan::RotateIssuing { reason }, Some((stored, loaded)), true) => {
                tracing::info!(%reason, "making a new issuing CA");
                self.rotate(&stored, loaded, policy, now).await
            }
            // The leader will; until then the one there is serves.
            (CaPlan::RotateIssuing { .. }, Some((_, Loaded::Usable(authority))), false) => Ok(authority),
            (CaPlan::CreateAll | CaPlan::Keep { .. } | CaPlan::RotateIssuing { .. }, ..) => {
                Err(CaFault::NotYet)
            }
        }
    }

    async fn create(&self, policy: &Policy, now: OffsetDateTime) -> Result<Authority, CaFault> {
        let permitted = ca::permitted_dns(policy);
        let root = RootProfile { trust_domain: &policy.trust_domain, lifetime: ROOT_LIFETIME };
        let root = (&root, new_key()?, random::serial()?);
        let issuing = (&profile(policy, &permitted), new_key()?, random::serial()?);
        let authority = Authority::create(root, issuing, now)?;
        // Another replica was first: its CA is the one, and is read at the next look.
        or_not_yet(self.store.create(&authority).await)?;
        tracing::info!(root = authority.root().certificate().fingerprint(), "made a new root and issuing CA");
        self.store.publish(authority.trust_bundle()).await?;
        Ok(authority)
    }

    async fn rotate(
        &self,
        stored: &Stored,
        loaded: Loaded,
        policy: &Policy,
        now: OffsetDateTime,
    ) -> Result<Authority, CaFault> {
        let permitted = ca::permitted_dns(policy);
        let profile = profile(policy, &permitted);
        let (key, serial) = (new_key()?, random::serial()?);
        let authority = match loaded {
            Loaded::Usable(authority) => authority.rotate_issuing(&profile, key, serial, now)?,
            Loaded::IssuingExpired(root) => {
                let issuing: Issuing = root.sign_issuing(&profile, key, serial, now)?;
                Authority::new(Arc::new(root), issuing)?
            }
        };
        or_not_yet(self.store.replace(stored, &authority).await)?;
        Ok(authority)
    }

    /// The published roots, and those this process knows, against the Secret's.
    fn compare(&self, loaded: Option<&Result<Loaded, CaError>>, published: Option<&str>) -> TrustBundle {
        let known = self.ca.borrow().roots.clone();
        let root = match loaded {
            Some(Ok(loaded)) => loaded.root(),
            _ => return if published.is_some() { TrustBundle::HasRoot } else { TrustBundle::Absent },
        };
        let lacks = |roots: &str| {
            !CertificateDer::pem_slice_iter(roots.as_bytes()).flatten().any(|der| der == *root.der())
        };
        if published.is_some_and(lacks) || known.as_deref().is_some_and(lacks) {
            return TrustBundle::Differs;
        }
        if published.is_some() { TrustBundle::HasRoot } else { TrustBundle::Absent }
    }

    fn tell(&self, looked: Result<Authority, CaFault>) {
        match looked {
            Ok(authority) => {
                let end = last_months(&authority);
                let new = self.ca.send_if_modified(|ca| ca.take(authority));
                if let Some(note) = end {
                    let code = ErrorCode::CaEndsSoon;
                    self.events.refused(&self.ourselves, code, &note);
                    if new {
                        tracing::warn!(%code, "{note}");
                    }
                }
            }
            Err(fault) if fault.is_passing() => {
                tracing::warn!(code = %fault.code(), %fault, "the CA could not be looked at; this is tried again");
                self.ca.send_if_modified(|ca| ca.authority.is_err() && ca.lose(fault));
            }
            Err(fault) => {
                let words = fault.to_string();
                let code = fault.code();
                self.events.refused(&self.ourselves, code, &words);
                if self.ca.send_if_modified(|ca| ca.lose(fault)) {
                    tracing::error!(%code, fault = words, "nothing is issued: the CA is not usable");
                }
            }
        }
    }
}

impl Loaded {
    fn root(&self) -> &CaCertificate {
        match self {
            Self::Usable(authority) => authority.root().certificate(),
            Self::IssuingExpired(root) => root.certificate(),
        }
    }
}

fn load(stored: &Stored, now: OffsetDateTime) -> Result<Loaded, CaError> {
    match Authority::from_pem(&stored.pem, now) {
        Ok(authority) => Ok(Loaded::Usable(authority)),
        Err(CaError::Expired { tier: Tier::Issuing, .. }) => {
            let root = &stored.pem.root;
            Root::from_pem(&root.certificate, &root.private_key, now).map(Loaded::IssuingExpired)
        }
        Err(error) => Err(error),
    }
}

/// What to tell in the root's last months, when no issuing CA can outlive it any more.
fn last_months(authority: &Authority) -> Option<String> {
    let (root, issuing) = (authority.root().certificate(), authority.issuing().certificate());
    let end = rfc3339(root.not_after());
    (issuing.not_after() >= root.not_after())
        .then(|| format!("the root ends at {end}, and no certificate lives longer: accept a new root before"))
}

fn facts(loaded: Option<&Result<Loaded, CaError>>) -> CaSecret {
    match loaded {
        None => CaSecret::Absent,
        Some(Err(why)) => CaSecret::Unusable(why.to_string()),
        Some(Ok(Loaded::IssuingExpired(_))) => CaSecret::IssuingExpired,
        Some(Ok(Loaded::Usable(authority))) => {
            let issuing = authority.issuing().certificate();
            CaSecret::Usable(CaFacts {
                root_not_after: authority.root().certificate().not_after(),
                issuing_not_before: issuing.not_before(),
                issuing_not_after: issuing.not_after(),
                permitted_dns: issuing.permitted_dns().to_vec(),
            })
        }
    }
}

fn profile<'a>(policy: &'a Policy, permitted_dns: &'a [DnsName]) -> IssuingProfile<'a> {
    let lifetime = ca::issuing_lifetime(policy);
    IssuingProfile { trust_domain: &policy.trust_domain, lifetime, permitted_dns }
}

fn new_key() -> Result<PrivateKey, CaFault> {
    Ok(PrivateKey::generate(KeyAlgorithm::EcdsaP256)?)
}

/// A write that came too late: what is there now is read at the next look.
fn or_not_yet(written: Result<(), CaFault>) -> Result<(), CaFault> {
    match written {
        Err(CaFault::Api(error)) if matches!(error.fault(), Fault::Exists | Fault::Conflict) => {
            Err(CaFault::NotYet)
        }
        written => written,
    }
}
