//! Composes and verifies the content of Secrets with a bundle.

use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, LeafFacts, verify};
use certmint_contract::issuance::Bundle;
use certmint_contract::pod_layout::{
    CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, TRUST_GENERATION_FILE, WORKLOAD_FILE,
};
use certmint_contract::{TrustBundle, TrustGeneration};
use certmint_planner::Record;
use time::OffsetDateTime;

use super::{NewContent, Secret, TLS_SECRET_TYPE};

/// Returns the content of a Secret with this bundle.
pub(crate) fn of(bundle: &Bundle) -> NewContent<'_> {
    let mut content = of_trust_bundle(&bundle.trust_bundle);
    content.data.extend([
        (CERTIFICATE_FILE, bundle.certificate.as_str().into()),
        (KEY_FILE, bundle.private_key.as_str().into()),
    ]);
    content
}

/// Returns the part of a Secret's content that changes when only the trust bundle changes.
pub(crate) fn of_trust_bundle(TrustBundle { roots, generation }: &TrustBundle) -> NewContent<'_> {
    let data = vec![
        (TRUST_BUNDLE_FILE, roots.as_str().into()),
        (TRUST_GENERATION_FILE, generation.to_string().into()),
    ];
    NewContent { secret_type: TLS_SECRET_TYPE, data }
}

/// Returns the content of a workload's Secret, which also names the workload.
pub(crate) fn of_workload<'a>(bundle: &'a Bundle, workload: &'a str) -> NewContent<'a> {
    let mut content = of(bundle);
    content.data.push((WORKLOAD_FILE, workload.into()));
    content
}

/// Verified content of a Secret.
pub(crate) struct VerifiedContent {
    /// Key and certificate of the Secret, with the trust bundle that it was verified with.
    pub(crate) bundle: Bundle,
    /// Facts about the certificate.
    pub(crate) facts: LeafFacts,
    /// Generation of the trust bundle in the Secret. It may be earlier than the generation in [`Self::bundle`].
    pub(crate) generation: TrustGeneration,
}

/// Verifies the content of a Secret: it is complete, chains to a root of `trust_bundle`, the present trust bundle, and
/// has the expected names. The Secret may have a trust bundle of an earlier generation.
///
/// # Errors
/// A description of the fault.
pub(crate) fn verify_content(
    secret: &Secret,
    expected: &ExpectedLeaf<'_>,
    trust_bundle: &TrustBundle,
    now: OffsetDateTime,
) -> Result<VerifiedContent, String> {
    let text = |key| secret.text(key).ok_or_else(|| format!("it has no {key}"));
    let generation = match secret.has(TRUST_GENERATION_FILE) {
        true => text(TRUST_GENERATION_FILE)?
            .parse()
            .map_err(|why| format!("its {TRUST_GENERATION_FILE}: {why}"))?,
        false => TrustGeneration::FIRST,
    };
    let has_present_roots = text(TRUST_BUNDLE_FILE)?.trim() == trust_bundle.roots.trim();
    if generation > trust_bundle.generation || (generation == trust_bundle.generation && !has_present_roots) {
        return Err(format!("its {TRUST_BUNDLE_FILE} is not the trust bundle"));
    }
    let bundle = Bundle {
        certificate: text(CERTIFICATE_FILE)?.to_owned(),
        private_key: text(KEY_FILE)?.to_owned(),
        trust_bundle: trust_bundle.clone(),
    };
    let facts = verify(&bundle, expected, now).map_err(|why| why.to_string())?;
    Ok(VerifiedContent { bundle, facts, generation })
}

/// Returns the verified bundle of a workload's Secret, with the present trust bundle. In addition to [`verify_content`],
/// certificate and generation must be those in the `record`, and the SPIFFE ID must have the path `spiffe_path`.
///
/// # Errors
/// A description of the fault.
pub(crate) fn verify_recorded_bundle(
    secret: &Secret,
    record: &Record,
    spiffe_path: &str,
    trust_bundle: &TrustBundle,
    now: OffsetDateTime,
) -> Result<Bundle, String> {
    if secret.secret_type != TLS_SECRET_TYPE {
        return Err(format!("its type is {}, not {TLS_SECRET_TYPE}", secret.secret_type));
    }
    let workload = record.workload.to_string();
    if secret.has(WORKLOAD_FILE) && secret.text(WORKLOAD_FILE) != Some(&workload) {
        return Err(format!("its {WORKLOAD_FILE} is not {workload}"));
    }
    let expected =
        ExpectedLeaf { dns_names: Some(&record.dns_names), identity: ExpectedIdentity::Path(spiffe_path) };
    let VerifiedContent { bundle, facts, generation } = verify_content(secret, &expected, trust_bundle, now)?;
    let is_recorded = *record.serial == *facts.serial
        && *record.issuer == *facts.issuer
        && record.not_before == facts.not_before
        && record.not_after == facts.not_after
        && *record.spiffe_id == *facts.spiffe_id;
    if generation != record.trust_generation {
        return Err(format!("its {TRUST_GENERATION_FILE} is not the one in its annotations"));
    }
    if !is_recorded {
        return Err("its certificate is not the one in its annotations".into());
    }
    Ok(bundle)
}
