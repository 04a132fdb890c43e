//! Keeps a CA whose root is offline. The controller generates the key of the issuing CA, publishes a request, and imports
//! the certificate that an operator provides.
//!
//! Invariant: the root's key is never in the cluster, and no generated root takes its place.

use std::sync::Arc;

use certmint_certificates::ca::{
    ImportError, ImportRules, ImportedCa, RequestProfile, check_import, parse_roots, requested_dns,
    signing_request,
};
use certmint_certificates::{Authority, CaError, IssuingCa, PrivateKey, RootCa};
use certmint_contract::{DnsName, ErrorCode, Policy, TrustBundle, rfc3339};
use certmint_planner::CaObserved;
use certmint_planner::ca::offline::{
    ImportUrgency, OfflineObserved, OfflinePlan, RequestReason, import_urgency, needed_dns, plan_offline_ca,
};
use prometheus_client::metrics::gauge::Gauge;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::exchange::{Answer, Exchange, ImportFiles};
use super::keeper::not_yet_on_conflict;
use super::loaded::{CaParts, LoadedCa};
use super::store::{PreviousIssuingCa, Published, StoredCa};
use super::stored_state::CaState;
use super::{CaFault, CaKeeper, UsableCa};
use crate::api::ApiError;
use crate::events::InvolvedObject;
use crate::issuer::new_ca_key;

/// Settings of a CA whose root is offline.
pub(crate) struct OfflineRoot {
    /// ConfigMaps of request and import.
    pub(crate) exchange: Exchange,
    /// Gauges that the leader sets.
    pub(crate) gauges: OfflineGauges,
}

/// Gauges of a CA whose root is offline.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfflineGauges {
    /// 1 while a request waits for its certificate.
    pub(crate) request_pending: Gauge,
    /// 1 while the present import is rejected.
    pub(crate) import_rejected: Gauge,
    /// Urgency of the next import, from 0 to 4.
    pub(crate) import_urgency: Gauge,
}

/// Result of one check of the CA's objects.
pub(super) struct CheckedCa {
    pub(super) observed: CaObserved,
    pub(super) published: Option<Published>,
    pub(super) stored: Option<StoredCa>,
    pub(super) loaded: Option<LoadedCa>,
    pub(super) now: OffsetDateTime,
}

/// Request in the CA's Secret.
struct CaRequest {
    key: PrivateKey,
    pem: String,
    permitted_dns: Vec<DnsName>,
}

/// Certificates that an operator provided.
enum Import {
    /// There are none, or they are in use already.
    None,
    Rejected(ImportError),
    Accepted(Box<ImportedCa>, InvolvedObject),
}

/// Reason of the Event about an accepted import.
const IMPORTED: &str = "CaImported";

impl<F: Fn() -> Option<String>> CaKeeper<F> {
    /// Plans, and on the leader executes the plan.
    pub(super) async fn follow_offline_plan(
        &self,
        offline: &OfflineRoot,
        checked: CheckedCa,
        policy: &Policy,
        leading: bool,
    ) -> Result<UsableCa, CaFault> {
        let CheckedCa { observed, published, stored, loaded, now } = checked;
        let request = stored.as_ref().and_then(CaRequest::read);
        // The Secret may have been lost. The published roots then say which root pods trust.
        let trust_bundle = match (&loaded, &published) {
            (Some(loaded), _) => Some(&loaded.trust_bundle),
            (None, published) => published.as_ref().map(|published| &published.trust_bundle),
        }
        .cloned();
        let import = match (&request, &stored) {
            (Some(request), Some(stored)) if leading => {
                self.judge_import(offline, request, stored, trust_bundle.as_ref(), policy, now).await?
            }
            _ => Import::None,
        };
        let facts = OfflineObserved {
            requested_dns: request.as_ref().map(|request| request.permitted_dns.clone()),
            has_valid_import: matches!(import, Import::Accepted(..)),
        };
        let plan = plan_offline_ca(&observed, &facts, policy, now);
        if !leading && !matches!(plan, OfflinePlan::Refuse(_)) {
            offline.gauges.reset();
            return loaded.and_then(LoadedCa::into_usable).ok_or_else(|| offline.awaits_certificate(&import));
        }
        if let Some(LoadedCa { parts: CaParts::Usable(authority), .. }) = &loaded
            && !matches!(plan, OfflinePlan::Refuse(_))
        {
            self.publish(&observed, published.as_ref(), authority.trust_bundle()).await?;
        }
        match (plan, import, request) {
            (OfflinePlan::Refuse(refusal), ..) => {
                offline.gauges.reset();
                Err(self.store.refuse(refusal.message))
            }
            (OfflinePlan::Request(reason), import, request) => {
                match self.write_request(stored.as_ref(), request, &reason, policy).await {
                    Ok(request) => self.await_certificate(offline, &request, &import, loaded, now).await,
                    Err(fault) => {
                        let usable = loaded.and_then(LoadedCa::into_usable);
                        let Some(usable) = usable else { return Err(fault) };
                        tracing::warn!(code = %fault.code(), %fault, "could not write the request for the next issuing CA; the controller retries");
                        Ok(usable)
                    }
                }
            }
            (OfflinePlan::Import, Import::Accepted(imported, object), Some(request)) => {
                let Some(stored) = stored else { return Err(CaFault::NotYet) };
                let authority = imported_authority(*imported, request.key, trust_bundle, now)?;
                let (state, previous) = match loaded {
                    Some(LoadedCa { parts: CaParts::Usable(_), state, .. }) => {
                        (state, PreviousIssuingCa::Replaced)
                    }
                    Some(LoadedCa { state, .. }) => (state, PreviousIssuingCa::Kept),
                    None => (CaState::new(authority.trust_bundle().generation), PreviousIssuingCa::Kept),
                };
                not_yet_on_conflict(self.store.replace(&stored, previous, &authority, &state).await)?;
                offline.report_imported(self, &authority, &object);
                Ok(UsableCa { authority, reissue_since: state.reissue_since })
            }
            (OfflinePlan::AwaitCertificate, import, Some(request)) => {
                self.await_certificate(offline, &request, &import, loaded, now).await
            }
            (OfflinePlan::Keep { until }, ..) => {
                let usable = loaded.and_then(LoadedCa::into_usable).ok_or(CaFault::NotYet)?;
                offline.gauges.set(false, false, urgency(Some(&usable.authority), now));
                offline.answer(None, in_use(&usable.authority, until)).await;
                Ok(usable)
            }
            (OfflinePlan::Import | OfflinePlan::AwaitCertificate, ..) => Err(CaFault::NotYet),
        }
    }

    /// Reads the import and checks it against the request. An import of the certificate that is in use already answers no
    /// request.
    async fn judge_import(
        &self,
        offline: &OfflineRoot,
        request: &CaRequest,
        stored: &StoredCa,
        trust_bundle: Option<&TrustBundle>,
        policy: &Policy,
        now: OffsetDateTime,
    ) -> Result<Import, CaFault> {
        let files = offline.exchange.read_import().await.unwrap_or_else(|error| {
            warn_of_exchange(&error);
            None
        });
        let Some(ImportFiles { tls, ca, object }) = files else { return Ok(Import::None) };
        if contains_first(&tls, &stored.pem.issuing.certificate) {
            return Ok(Import::None);
        }
        let trusted = trust_bundle.map(|trust_bundle| parse_roots(&trust_bundle.roots)).transpose()?;
        let rules = ImportRules {
            trust_domain: &policy.trust_domain,
            dns_names: &needed_dns(policy),
            min_lifetime: policy.longest_duration,
            trusted_root: trusted.as_ref().map(|roots| &roots.first),
        };
        match check_import(&tls, &ca, &request.key, &rules, now) {
            Ok(imported) => Ok(Import::Accepted(Box::new(imported), object)),
            Err(why) => {
                let code = ErrorCode::CaImportRejected;
                let note = format!("the import is rejected: {why}");
                if self.events.warn(&object, code, &note) {
                    tracing::error!(%code, import = offline.exchange.import_name(), "{note}");
                }
                Ok(Import::Rejected(why))
            }
        }
    }

    /// Writes a request into the CA's Secret. A present request keeps its key, so that a certificate for it stays
    /// acceptable.
    async fn write_request(
        &self,
        stored: Option<&StoredCa>,
        present: Option<CaRequest>,
        reason: &RequestReason,
        policy: &Policy,
    ) -> Result<CaRequest, CaFault> {
        let key = match present {
            Some(present) => present.key,
            None => new_ca_key()?,
        };
        let permitted_dns = policy.permitted_dns();
        let profile = RequestProfile { trust_domain: &policy.trust_domain, permitted_dns: &permitted_dns };
        let pem = signing_request(&profile, &key)?;
        let key_pem = key.to_pem().map_err(crate::signing_error::SigningError::from)?;
        not_yet_on_conflict(self.store.write_request(stored, &pem, &key_pem).await)?;
        tracing::info!(%reason, "requested a certificate for an issuing CA");
        Ok(CaRequest { key, pem, permitted_dns })
    }

    /// Publishes the request, and returns the CA that can issue until its certificate is imported, if there is one.
    async fn await_certificate(
        &self,
        offline: &OfflineRoot,
        request: &CaRequest,
        import: &Import,
        loaded: Option<LoadedCa>,
        now: OffsetDateTime,
    ) -> Result<UsableCa, CaFault> {
        let usable = loaded.and_then(LoadedCa::into_usable);
        let authority = usable.as_ref().map(|usable| &usable.authority);
        let is_rejected = matches!(import, Import::Rejected(_));
        offline.gauges.set(true, is_rejected, urgency(authority, now));
        offline.answer(Some(&request.pem), waiting(import, authority)).await;
        usable.ok_or_else(|| offline.awaits_certificate(import))
    }
}

impl OfflineRoot {
    /// Returns a warning if the issuing CA ends soon.
    pub(super) fn end_warning(&self, authority: &Authority, now: OffsetDateTime) -> Option<String> {
        let left = match urgency(Some(authority), now) {
            ImportUrgency::None => return None,
            ImportUrgency::Third => "one third",
            ImportUrgency::Sixth => "one sixth",
            ImportUrgency::Week => "7 days",
            ImportUrgency::Day => "1 day",
        };
        let end = rfc3339(authority.issuing().certificate().not_after());
        Some(format!(
            "the issuing CA ends at {end}, less than {left} of its lifetime is left, and every certificate ends with it at the latest: let the operator of the root sign the key issuing.csr of ConfigMap {}, and import the certificate",
            self.exchange.request_name()
        ))
    }

    /// Publishes the request and the answer. A failure does not concern the CA in use, so it is only logged.
    async fn answer(&self, request: Option<&str>, answer: Answer) {
        if let Err(error) = self.exchange.publish(request, answer).await {
            warn_of_exchange(&error);
        }
    }

    fn awaits_certificate(&self, import: &Import) -> CaFault {
        let (request, import_name) = (self.exchange.request_name(), self.exchange.import_name());
        CaFault::AwaitsCertificate(match import {
            Import::Rejected(why) => format!("the import in ConfigMap {import_name} is rejected: {why}"),
            Import::None | Import::Accepted(..) => format!(
                "let the operator of the root sign the key issuing.csr of ConfigMap {request}, and import the certificate as its key instructions describes"
            ),
        })
    }

    fn report_imported<F>(&self, keeper: &CaKeeper<F>, authority: &Authority, object: &InvolvedObject) {
        let (issuing, root) = (authority.issuing().certificate(), authority.root().certificate());
        let note = format!(
            "the import is accepted: the issuing CA {} below the root {} is in use until {}",
            issuing.fingerprint(),
            root.fingerprint(),
            rfc3339(issuing.not_after())
        );
        keeper.events.issued(object, IMPORTED, &note);
        tracing::info!(import = self.exchange.import_name(), "{note}");
    }
}

impl OfflineGauges {
    fn set(&self, is_pending: bool, is_rejected: bool, urgency: ImportUrgency) {
        self.request_pending.set(is_pending.into());
        self.import_rejected.set(is_rejected.into());
        self.import_urgency.set(match urgency {
            ImportUrgency::None => 0,
            ImportUrgency::Third => 1,
            ImportUrgency::Sixth => 2,
            ImportUrgency::Week => 3,
            ImportUrgency::Day => 4,
        });
    }

    /// Resets the gauges, because this replica does not lead, or refuses to use the CA.
    fn reset(&self) {
        self.set(false, false, ImportUrgency::None);
    }
}

impl CaRequest {
    /// Reads the request in the CA's Secret. A request that cannot be used counts as none, so that another replaces it.
    fn read(stored: &StoredCa) -> Option<Self> {
        let stored = stored.request.as_ref()?;
        let key = PrivateKey::from_pem(&stored.key).ok()?;
        let permitted_dns = requested_dns(&stored.request, &key)?;
        Some(Self { key, pem: stored.request.clone(), permitted_dns })
    }
}

/// Returns the CA of an import. `trust_bundle` is the one that pods have already.
fn imported_authority(
    imported: ImportedCa,
    key: PrivateKey,
    trust_bundle: Option<TrustBundle>,
    now: OffsetDateTime,
) -> Result<Authority, CaError> {
    let ImportedCa { issuing, intermediates, root } = imported;
    let root = Arc::new(RootCa::offline(root, now)?);
    let issuing = IssuingCa::new(issuing, key)?.with_intermediates(intermediates);
    let authority = Authority::new(root, issuing)?;
    match trust_bundle {
        Some(trust_bundle) => authority.with_trust_bundle(trust_bundle),
        None => Ok(authority),
    }
}

/// Returns the answer while an issuing CA is in use and no request waits.
fn in_use(authority: &Authority, next_request: OffsetDateTime) -> Answer {
    let certificate = authority.issuing().certificate();
    let message = format!(
        "the issuing CA {} is in use until {}\nthe next request follows at {}\n",
        certificate.fingerprint(),
        rfc3339(certificate.not_after()),
        rfc3339(next_request)
    );
    Answer { status: "accepted", message }
}

/// Returns the answer while a request waits for its certificate.
fn waiting(import: &Import, authority: Option<&Authority>) -> Answer {
    let (status, answer) = match import {
        Import::Rejected(why) => ("rejected", why.to_string()),
        Import::None | Import::Accepted(..) => ("waiting", "issuing.csr has no certificate yet".into()),
    };
    let in_use = authority.map_or_else(
        || "there is no issuing CA, so nothing is issued".into(),
        |authority| {
            let end = rfc3339(authority.issuing().certificate().not_after());
            format!("the present issuing CA is in use until {end}")
        },
    );
    Answer { status, message: format!("{answer}\n{in_use}\n") }
}

/// Returns whether a PEM text contains the first certificate of another one.
fn contains_first(pem: &str, other: &str) -> bool {
    let certificates = |pem: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect()
    };
    certificates(other).first().is_some_and(|first| certificates(pem).contains(first))
}

fn warn_of_exchange(error: &ApiError) {
    tracing::warn!(code = %error.code(), %error, "could not read or write the ConfigMaps of an offline root; the controller retries");
}

fn urgency(authority: Option<&Authority>, now: OffsetDateTime) -> ImportUrgency {
    authority.map_or(ImportUrgency::None, |authority| {
        let certificate = authority.issuing().certificate();
        import_urgency(certificate.not_before(), certificate.not_after(), now)
    })
}
