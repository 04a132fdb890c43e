//! Whether a Secret holds what it says it holds.

use crate::secrets::{Secret, TLS};
use certmint_certificates::{Expected, Facts, Identity, verify};
use certmint_contract::{
    issuance::Bundle,
    pod_layout::{CERTIFICATE_FILE, KEY_FILE, TRUST_BUNDLE_FILE},
};
use certmint_planner::Record;
use time::OffsetDateTime;

/// Takes the bundle out of a Secret and verifies it: it is whole, chains to `roots`, is the certificate that
/// the record tells of, and has the identity's path.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check(
    secret: &Secret,
    record: &Record,
    path: &str,
    roots: &str,
    now: OffsetDateTime,
) -> Result<(Bundle, Facts), String> {
    if secret.kind != TLS {
        return Err(format!("its type is {}, not {TLS}", secret.kind));
    }
    let text = |key| secret.text(key).map(str::to_owned).ok_or_else(|| format!("it has no {key}"));
    let bundle = Bundle {
        certificate: text(CERTIFICATE_FILE)?,
        private_key: text(KEY_FILE)?,
        trust_bundle: text(TRUST_BUNDLE_FILE)?,
    };
    if bundle.trust_bundle.trim() != roots.trim() {
        return Err(format!("its {TRUST_BUNDLE_FILE} is not the trust bundle"));
    }
    let expected = Expected { dns_names: Some(&record.dns_names), identity: Identity::Path(path) };
    let facts = verify(&bundle, &expected, now).map_err(|why| why.to_string())?;
    let told = (&record.serial, &record.issuer, record.not_before, record.not_after, &*record.spiffe_id);
    if told != (&facts.serial, &facts.issuer, facts.not_before, facts.not_after, &facts.spiffe_id) {
        return Err("it holds another certificate than its annotations tell of".into());
    }
    Ok((bundle, facts))
}
