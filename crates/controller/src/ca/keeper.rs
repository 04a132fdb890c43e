//! Looks after the CA: loads it, and, while leading, carries out what the planner says about it.

use super::{Ca, CaFault, Store, store::Stored};
use crate::{
    api::Fault,
    clock::Clock,
    events::{Events, Subject},
    leadership::{self, Term},
    random,
};
use certmint_certificates::{
    Authority, CaError, CaPem, PrivateKey, Root,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::{DnsName, ErrorCode, KeyAlgorithm, Lifetime, Policy, rfc3339};
use certmint_planner::{CaFacts, CaObserved, CaPlan, CaSecret, RotationReason, TrustBundle, ca, ca_plan};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};

/// How soon a CA that was deleted, swapped or restored is noticed.
const PACE: Duration = Duration::from_secs(5);
/// How soon a CA that is about to be made, or an API server that is away, is asked for again.
const IMPATIENT_PACE: Duration = Duration::from_secs(1);
/// The longest wait between attempts at an issuing CA that fail while the one there is serves.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
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
    /// What certificates are dated by.
    pub(crate) clock: Clock,
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
    /// The root is well, and can sign another issuing CA.
    IssuingUnusable {
        root: Arc<Root>,
        why: CaError,
        /// With the issuing CA that was replaced last, if that can still be used.
        previous: Option<Authority>,
    },
}

/// Attempts at an issuing CA that failed while the one there is serves.
#[derive(Default)]
struct Attempts {
    failures: u32,
    next: Option<Instant>,
}

impl<W: Fn() -> Option<String>> Keeper<W> {
    /// Looks at the CA again and again; never returns.
    pub(crate) async fn run(mut self) {
        let mut attempts = Attempts::default();
        loop {
            let leading = leadership::leads(&self.terms);
            let policy = self.policy.borrow_and_update().clone();
            let looked = self.look(&policy, leading, &mut attempts).await;
            let pace = match &looked {
                Err(fault) if fault.is_passing() => IMPATIENT_PACE,
                _ => PACE,
            };
            self.tell(looked);
            tokio::select! {
                () = tokio::time::sleep(pace) => {}
                () = leadership::turns(&mut self.terms, leading) => {}
                // What failed may have failed for the policy.
                Ok(()) = self.policy.changed() => attempts = Attempts::default(),
            }
        }
    }

    /// One look: what is there, what the planner makes of it, and, for the leader, doing it.
    async fn look(
        &self,
        policy: &Policy,
        leading: bool,
        attempts: &mut Attempts,
    ) -> Result<Authority, CaFault> {
        let published = self.store.published().await?;
        let stored = self.store.read().await?;
        // The answers just told the API server's time.
        let now = self.clock.trusted_now()?;
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
            // The leader will, or has just tried; until then the one there is serves.
            (CaPlan::RotateIssuing { .. }, Some((_, loaded)), leads)
                if !leads || (loaded.can_serve() && !attempts.are_due()) =>
            {
                loaded.serving().ok_or(CaFault::NotYet)
            }
            (CaPlan::RotateIssuing { reason }, Some((stored, loaded)), _) => {
                self.rotate(&stored, loaded, &reason, policy, now, attempts).await
            }
            (CaPlan::CreateAll | CaPlan::Keep { .. } | CaPlan::RotateIssuing { .. }, ..) => {
                Err(CaFault::NotYet)
            }
        }
    }

    async fn create(&self, policy: &Policy, now: OffsetDateTime) -> Result<Authority, CaFault> {
        let permitted = policy.permitted_dns();
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

    /// Makes another issuing CA, or goes on with the one there is and tries again later.
    async fn rotate(
        &self,
        stored: &Stored,
        loaded: Loaded,
        reason: &RotationReason,
        policy: &Policy,
        now: OffsetDateTime,
        attempts: &mut Attempts,
    ) -> Result<Authority, CaFault> {
        tracing::info!(%reason, "making a new issuing CA");
        match self.replace_issuing(stored, &loaded, policy, now).await {
            Ok(authority) => {
                *attempts = Attempts::default();
                self.tell_repaired(stored, &loaded);
                Ok(authority)
            }
            Err(CaFault::NotYet) => Err(CaFault::NotYet),
            Err(fault) => {
                let Some(serving) = loaded.serving() else { return Err(fault) };
                attempts.failed();
                self.tell_kept(&serving, reason, &fault);
                Ok(serving)
            }
        }
    }

    async fn replace_issuing(
        &self,
        stored: &Stored,
        loaded: &Loaded,
        policy: &Policy,
        now: OffsetDateTime,
    ) -> Result<Authority, CaFault> {
        let permitted = policy.permitted_dns();
        let profile = profile(policy, &permitted);
        let (key, serial) = (new_key()?, random::serial()?);
        let authority = Authority::with_new_issuing(Arc::clone(loaded.root()), &profile, key, serial, now)?;
        let was_usable = matches!(loaded, Loaded::Usable(_));
        or_not_yet(self.store.replace(stored, was_usable, &authority).await)?;
        Ok(authority)
    }

    /// That an issuing CA has expired is a matter of time, and whoever brings a root may bring no issuing CA; anything
    /// else was somebody, or a clock.
    fn tell_repaired(&self, stored: &Stored, loaded: &Loaded) {
        let Loaded::IssuingUnusable { why, .. } = loaded else { return };
        let CaPem { certificate, private_key } = &stored.pem.issuing;
        let none_given = certificate.is_empty() && private_key.is_empty();
        if !none_given && !matches!(why, CaError::Expired { .. }) {
            let code = ErrorCode::SecretDamaged;
            let note = format!(
                "the issuing CA in the CA's Secret could not be used, so the root signed another: {why}"
            );
            tracing::warn!(%code, "{note}");
            self.events.refused(&self.ourselves, code, &note);
        }
    }

    fn tell_kept(&self, serving: &Authority, reason: &RotationReason, fault: &CaFault) {
        let code = ErrorCode::IssuanceFailed;
        let end = rfc3339(serving.issuing().certificate().not_after());
        let note = format!(
            "no new issuing CA could be made ({reason}), so the one there is goes on until {end} at the latest, and this is tried again: {fault}"
        );
        tracing::error!(%code, "{note}");
        self.events.refused(&self.ourselves, code, &note);
    }

    /// The published roots, and those this process knows, against the Secret's.
    fn compare(&self, loaded: Option<&Result<Loaded, CaError>>, published: Option<&str>) -> TrustBundle {
        let known = self.ca.borrow().roots.clone();
        let root = match loaded {
            Some(Ok(loaded)) => loaded.root().certificate(),
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
            Err(CaFault::Clock(fault)) => {
                let code = ErrorCode::ClockDiffers;
                if self.events.refused(&self.ourselves, code, &fault.to_string()) {
                    tracing::error!(%code, %fault, "nothing is signed by this replica");
                }
                self.ca.send_if_modified(|ca| ca.authority.is_err() && ca.lose(fault.into()));
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
    fn root(&self) -> &Arc<Root> {
        match self {
            Self::Usable(authority) => authority.root(),
            Self::IssuingUnusable { root, .. } => root,
        }
    }

    fn can_serve(&self) -> bool {
        matches!(self, Self::Usable(_) | Self::IssuingUnusable { previous: Some(_), .. })
    }

    /// What can sign until there is another issuing CA.
    fn serving(self) -> Option<Authority> {
        match self {
            Self::Usable(authority) => Some(authority),
            Self::IssuingUnusable { previous, .. } => previous,
        }
    }
}

impl Attempts {
    fn are_due(&self) -> bool {
        self.next.is_none_or(|next| next <= Instant::now())
    }

    fn failed(&mut self) {
        self.next = Some(Instant::now() + PACE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT));
        self.failures = self.failures.saturating_add(1);
    }
}

fn load(stored: &Stored, now: OffsetDateTime) -> Result<Loaded, CaError> {
    let CaPem { certificate, private_key } = &stored.pem.root;
    let root = Arc::new(Root::from_pem(certificate, private_key, now)?);
    Ok(match Authority::of_root(Arc::clone(&root), &stored.pem.issuing, now) {
        Ok(authority) => Loaded::Usable(authority),
        Err(why) => {
            let previous = Authority::of_root(Arc::clone(&root), &stored.previous, now).ok();
            Loaded::IssuingUnusable { root, why, previous }
        }
    })
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
        Some(Ok(Loaded::IssuingUnusable { why, .. })) => CaSecret::IssuingUnusable(why.to_string()),
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
