//! What a Secret with a bundle holds, and whether it is what it should be.

use super::{NewContent, Secret, TLS};
use certmint_certificates::{Expected, Facts, Identity, verify};
use certmint_contract::{
    issuance::Bundle,
    pod_layout::{CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE, WORKLOAD_FILE},
};
use certmint_planner::Record;
use time::OffsetDateTime;

/// The content of a Secret that is to hold this bundle.
pub(crate) fn of(bundle: &Bundle) -> NewContent<'_> {
    let data = vec![
        (CERTIFICATE_FILE, &*bundle.certificate),
        (KEY_FILE, &bundle.private_key),
        (TRUST_BUNDLE_FILE, &bundle.trust_bundle),
    ];
    NewContent { kind: TLS, data }
}

/// The same for the Secret of a workload, which also says whose it is.
pub(crate) fn of_workload<'a>(bundle: &'a Bundle, workload: &'a str) -> NewContent<'a> {
    let mut content = of(bundle);
    content.data.push((WORKLOAD_FILE, workload));
    content
}

/// Takes the bundle out of a Secret and verifies it: it is whole, chains to `roots`, and is what is expected.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn verified(
    secret: &Secret,
    expected: &Expected<'_>,
    roots: &str,
    now: OffsetDateTime,
) -> Result<(Bundle, Facts), String> {
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

/// The same for a workload's Secret, which holds the certificate that its record tells of, with the identity's path.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn recorded(
    secret: &Secret,
    record: &Record,
    path: &str,
    roots: &str,
    now: OffsetDateTime,
) -> Result<Bundle, String> {
    if secret.kind != TLS {
        return Err(format!("its type is {}, not {TLS}", secret.kind));
    }
    let workload = record.workload.to_string();
    if secret.has(WORKLOAD_FILE) && secret.text(WORKLOAD_FILE) != Some(&workload) {
        return Err(format!("its {WORKLOAD_FILE} is not {workload}"));
    }
    let expected = Expected { dns_names: Some(&record.dns_names), identity: Identity::Path(path) };
    let (bundle, facts) = verified(secret, &expected, roots, now)?;
    let told = (&*record.serial, &*record.issuer, record.not_before, record.not_after, &*record.spiffe_id);
    if told != (&*facts.serial, &*facts.issuer, facts.not_before, facts.not_after, &*facts.spiffe_id) {
        return Err("it holds another certificate than its annotations tell of".into());
    }
    Ok(bundle)
}
