//! Composes and verifies the content of Secrets with a bundle.

use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, LeafFacts, verify};
use certmint_contract::issuance::Bundle;
use certmint_contract::pod_layout::{CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE};
use certmint_planner::Record;
use time::OffsetDateTime;

use super::{NewContent, Secret, TLS_SECRET_TYPE};

/// Returns the content of a Secret with this bundle.
pub(crate) fn of(bundle: &Bundle) -> NewContent<'_> {
    let data = vec![
        (CERTIFICATE_FILE, &*bundle.certificate),
        (KEY_FILE, &bundle.private_key),
        (TRUST_BUNDLE_FILE, &bundle.trust_bundle),
    ];
    NewContent { secret_type: TLS_SECRET_TYPE, data }
}

/// Returns the content of a workload's Secret, which also names the workload.
pub(crate) fn of_workload<'a>(bundle: &'a Bundle, workload: &'a str) -> NewContent<'a> {
    let mut content = of(bundle);
    content.data.push((WORKLOAD_FILE, workload));
    content
}

/// Returns the verified bundle of a Secret: it is complete, chains to `roots` and has the expected names.
///
/// # Errors
/// A description of the fault.
pub(crate) fn verify_bundle(
    secret: &Secret,
    expected: &ExpectedLeaf<'_>,
    roots: &str,
    now: OffsetDateTime,
) -> Result<(Bundle, LeafFacts), String> {
    let text = |key| secret.text(key).map(str::to_owned).ok_or_else(|| format!("it has no {key}"));
    let bundle = Bundle {
        certificate: text(CERTIFICATE_FILE)?,
        private_key: text(KEY_FILE)?,
        trust_bundle: text(TRUST_BUNDLE_FILE)?,
    };
    if bundle.trust_bundle.trim() != roots.trim() {
        return Err(format!("its {TRUST_BUNDLE_FILE} is not the trust bundle"));
    }
    let facts = verify(&bundle, expected, now).map_err(|why| why.to_string())?;
    Ok((bundle, facts))
}

/// Returns the verified bundle of a workload's Secret. In addition to [`verify_bundle`], the certificate must be the
/// one in the `record`, and its SPIFFE ID must have the path `spiffe_path`.
///
/// # Errors
/// A description of the fault.
pub(crate) fn verify_recorded_bundle(
    secret: &Secret,
    record: &Record,
    spiffe_path: &str,
    roots: &str,
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
    let (bundle, facts) = verify_bundle(secret, &expected, roots, now)?;
    let is_recorded = *record.serial == *facts.serial
        && *record.issuer == *facts.issuer
        && record.not_before == facts.not_before
        && record.not_after == facts.not_after
        && *record.spiffe_id == *facts.spiffe_id;
    if !is_recorded {
        return Err("its certificate is not the one in its annotations".into());
    }
    Ok(bundle)
}
