//! Secrets with CAs that the controller must not use.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use certmint_certificates::{
    Authority, PrivateKey, RootCa, Serial,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::{KeyAlgorithm, Policy};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::fixture::decoded;

/// Returns the Secret of a new CA with the dates of a CA that was created at the time `age` before now. The root has a
/// lifetime of ten years.
pub(super) fn ca_of_age(age: Duration) -> Result<Value> {
    let policy = Policy::default();
    let trust_domain = &policy.trust_domain;
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256);
    let root = RootProfile { trust_domain, lifetime: "3650d".parse()? };
    let issuing = IssuingProfile { trust_domain, lifetime: "90d".parse()?, permitted_dns: &[] };
    let root = (&root, key()?, Serial::from_random([1; 20]));
    let issuing = (&issuing, key()?, Serial::from_random([2; 20]));
    let pem = Authority::create(root, issuing, OffsetDateTime::now_utc() - age)?.to_pem()?;
    Ok(secret(&json!({
        "root.crt": pem.root.certificate, "root.key": *pem.root.private_key,
        "issuing.crt": pem.issuing.certificate, "issuing.key": *pem.issuing.private_key,
    })))
}

/// Returns the certificate of another root, as PEM.
pub(super) fn other_root() -> Result<String> {
    let policy = Policy::default();
    let profile = RootProfile { trust_domain: &policy.trust_domain, lifetime: "3650d".parse()? };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let root = RootCa::create(&profile, key, Serial::from_random([4; 20]), OffsetDateTime::now_utc())?;
    Ok(root.certificate().pem().to_owned())
}

/// Returns a new issuing CA that the root in the Secret `stored` has signed. It becomes valid at the time `ahead` after
/// now, as if the clock of the leader were ahead. The result has the entries for the Secret's `data`.
pub(super) fn future_issuing_ca(stored: &Value, ahead: Duration) -> Result<Value> {
    let policy = Policy::default();
    let now = OffsetDateTime::now_utc();
    let root = RootCa::from_pem(&decoded(stored, "root.crt")?, &decoded(stored, "root.key")?, now)?;
    let permitted_dns = &policy.permitted_dns();
    let profile =
        IssuingProfile { trust_domain: &policy.trust_domain, lifetime: "90d".parse()?, permitted_dns };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
    let private = key.to_pem()?;
    let issuing = root.sign_issuing(&profile, key, Serial::from_random([3; 20]), now + ahead)?;
    Ok(json!({
        "issuing.crt": BASE64_STANDARD.encode(issuing.certificate().pem()),
        "issuing.key": BASE64_STANDARD.encode(&*private),
    }))
}

/// Returns the CA's Secret with this content.
fn secret(content: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "certmint-ca" }, "stringData": content,
    })
}

/// Returns the first half of a value in a Secret's `data`.
pub(super) fn first_half(encoded: &Value) -> Result<String> {
    let text = encoded.as_str().context("the CA's Secret lacks a key")?;
    // A length that is a multiple of four keeps the Base64 valid.
    Ok(text.get(..text.len() / 8 * 4).unwrap_or_default().to_owned())
}
