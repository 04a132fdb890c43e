//! Row `issuing`: creation of a key and a certificate, its verification, and the PEM encoding.

use std::hint::black_box;

use anyhow::Result;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use certmint_certificates::{Authority, IssuingProfile, LeafProfile, PrivateKey, RootProfile, Serial};
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, SpiffeId, TrustDomain};
use time::OffsetDateTime;

use super::seconds_each;
use crate::result::{Measurement, Target};
use crate::run::Run;

const DAY: u32 = 86_400;

pub(crate) fn issuing(run: &Run) -> Result<Vec<Measurement>> {
    let seconds = certificate(run.quick)?;
    let ceiling = primitives(run.quick)?;
    let measurement = Measurement::new(
        "issuing",
        "certificates on one core, P-256: key, certificate, verification, PEM",
        1.0 / seconds,
        "/s",
    );
    Ok(vec![
        measurement
            .compared_with("only key pair, signature, verification", 1.0 / ceiling)
            .target(Target::Min(8_000.0)),
    ])
}

/// Returns the seconds that one certificate takes on one core.
pub(crate) fn certificate(quick: bool) -> Result<f64> {
    let now = OffsetDateTime::now_utc();
    let authority = authority(now)?;
    let dns_names: Vec<DnsName> = ["payments.shop.svc", "payments.shop.svc.cluster.local"]
        .into_iter()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let spiffe_id = SpiffeId::new(&trust_domain()?, &"shop".parse()?, "payments")?;
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: Lifetime::from_seconds(DAY) };
    let issue = || -> Result<_> {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        Ok(authority.issue(&profile, &key, Serial::from_random([7; 20]), now)?)
    };
    issue()?;
    Ok(seconds_each(quick, || drop(black_box(issue()))))
}

/// Returns the seconds for a key pair, a signature and a verification, which every issued certificate needs.
fn primitives(quick: bool) -> Result<f64> {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let unspecified = |_| anyhow::anyhow!("aws-lc failed");
    let signer = EcdsaKeyPair::generate(algorithm).map_err(unspecified)?;
    let (message, public) = ([42_u8; 600], signer.public_key().as_ref().to_vec());
    Ok(seconds_each(quick, || {
        drop(black_box(EcdsaKeyPair::generate(algorithm)));
        if let Ok(signature) = signer.sign(&random, &message) {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public);
            let _ = black_box(public.verify(&message, signature.as_ref()));
        }
    }))
}

fn authority(now: OffsetDateTime) -> Result<Authority> {
    let trust_domain = trust_domain()?;
    let permitted: Vec<DnsName> = vec!["svc".parse()?, "svc.cluster.local".parse()?];
    let root = RootProfile { trust_domain: &trust_domain, lifetime: Lifetime::from_seconds(3_650 * DAY) };
    let lifetime = Lifetime::from_seconds(90 * DAY);
    let issuing = IssuingProfile { trust_domain: &trust_domain, lifetime, permitted_dns: &permitted };
    let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256);
    Ok(Authority::create(
        (&root, key()?, Serial::from_random([1; 20])),
        (&issuing, key()?, Serial::from_random([2; 20])),
        now,
    )?)
}

fn trust_domain() -> Result<TrustDomain> {
    Ok("cluster.local".parse()?)
}
