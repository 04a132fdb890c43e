//! The roots of the matrix, and the certificates under them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use certmint_certificates::{
    Authority, LeafProfile, PrivateKey, RootCa, Serial,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::issuance::Bundle;
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, SpiffeId, TrustBundle, TrustDomain};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// Root in a `ca.crt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// Root that a rotation replaces.
    Old,
    /// Root that replaces it.
    New,
    /// Root with the subject of the old one, and another key. Certmint's own roots have different subjects, but a
    /// company's new root may have the subject of its old one.
    Namesake,
    /// Root that expired long ago, without valid certificates.
    Expired,
    /// Earlier certificate of the old root, with the same subject and key, which expired before the root was renewed.
    OldBeforeRenewal,
}

/// Roots with valid certificates. Each program meets a peer under each of them in every step.
pub(super) const ISSUERS: [Root; 3] = [Root::Old, Root::New, Root::Namesake];

/// DNS name in every certificate. In a [sandbox](super::sandbox), it is the name of the loopback address.
pub(super) const HOST: &str = "payments.shop.svc";

/// All roots.
pub(super) struct Roots {
    issuers: Vec<(Root, Authority)>,
    certificates: Vec<(Root, CertificateDer<'static>, String)>,
    hosts: Vec<DnsName>,
    trust_domain: TrustDomain,
    last_serial: AtomicU32,
}

/// Subjects of CAs, each as DER.
pub(super) type Subjects = BTreeSet<Vec<u8>>;

impl Roots {
    /// Creates all roots, and an issuing CA for each issuer.
    pub(super) fn create() -> Result<Self> {
        let (now, trust_domain) = (OffsetDateTime::now_utc(), "cluster.local".parse()?);
        let mut roots = Self {
            issuers: Vec::new(),
            certificates: Vec::new(),
            hosts: vec![HOST.parse()?],
            trust_domain,
            last_serial: AtomicU32::new(100),
        };
        let old = roots.add_issuer(Root::Old, now)?;
        roots.add_issuer(Root::New, now)?;
        roots.add_issuer(Root::Namesake, now)?;
        roots.add_expired(Root::Expired, PrivateKey::generate(KeyAlgorithm::EcdsaP256)?, now)?;
        roots.add_expired(Root::OldBeforeRenewal, old, now)?;
        Ok(roots)
    }

    /// Adds a valid root with an issuing CA, and returns the root's key.
    fn add_issuer(&mut self, root: Root, now: OffsetDateTime) -> Result<PrivateKey> {
        let key = || PrivateKey::generate(KeyAlgorithm::EcdsaP256);
        let permitted_dns = ["svc".parse()?];
        let profile = RootProfile { trust_domain: &self.trust_domain, lifetime: "3650d".parse()? };
        let issuing = IssuingProfile {
            trust_domain: &self.trust_domain,
            lifetime: "90d".parse()?,
            permitted_dns: &permitted_dns,
        };
        let issuing_serial = serial(10 + root as u8, 0);
        let authority =
            Authority::create((&profile, key()?, root.serial()), (&issuing, key()?, issuing_serial), now)?;
        let certificate = authority.root().certificate();
        self.certificates.push((root, certificate.der().clone(), certificate.pem().to_owned()));
        let key = PrivateKey::from_pem(&authority.to_pem()?.root.private_key)?;
        self.issuers.push((root, authority));
        Ok(key)
    }

    /// Adds a root that expired a year ago.
    fn add_expired(&mut self, root: Root, key: PrivateKey, now: OffsetDateTime) -> Result<()> {
        let profile = RootProfile { trust_domain: &self.trust_domain, lifetime: "365d".parse()? };
        let ca = RootCa::create(&profile, key, root.serial(), now - Duration::days(730))?;
        let certificate = ca.certificate();
        self.certificates.push((root, certificate.der().clone(), certificate.pem().to_owned()));
        Ok(())
    }

    /// Issues a certificate under `root` for a service account, for a pod that trusts the roots in `trusted`.
    pub(super) fn issue(
        &self,
        root: Root,
        namespace: &str,
        account: &str,
        trusted: &[Root],
    ) -> Result<Bundle> {
        let (_, authority) = self
            .issuers
            .iter()
            .find(|(issuer, _)| *issuer == root)
            .with_context(|| format!("there is no certificate under the root {root}, which expired"))?;
        let spiffe_id = &SpiffeId::new(&self.trust_domain, &namespace.parse()?, account)?;
        let lifetime: Lifetime = "24h".parse()?;
        let profile = LeafProfile { dns_names: &self.hosts, spiffe_id, lifetime };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256)?;
        let number = self.last_serial.fetch_add(1, Ordering::Relaxed);
        let mut bundle =
            authority.issue(&profile, &key, serial(0, number), OffsetDateTime::now_utc())?.bundle;
        bundle.trust_bundle = TrustBundle::first(self.pem(trusted));
        Ok(bundle)
    }

    /// Returns the content of `ca.crt` with these roots, in this order.
    pub(super) fn pem(&self, roots: &[Root]) -> String {
        let pem = |root: &Root| {
            let found = self.certificates.iter().find(|(other, ..)| other == root);
            found.map(|(_, _, pem)| pem.as_str()).unwrap_or_default()
        };
        roots.iter().map(pem).collect()
    }

    /// Returns the roots as trust anchors of rustls.
    pub(super) fn anchors(&self, roots: &[Root]) -> Result<Arc<RootCertStore>> {
        let mut store = RootCertStore::empty();
        for (root, der, _) in &self.certificates {
            if roots.contains(root) {
                store.add(der.clone())?;
            }
        }
        Ok(Arc::new(store))
    }

    /// Returns the subjects of the roots.
    pub(super) fn subjects(&self, roots: &[Root]) -> Result<Subjects> {
        Ok(self.anchors(roots)?.subjects().iter().map(|subject| subject.as_ref().to_vec()).collect())
    }
}

impl Root {
    /// Returns the serial number. Its first octets are in the subject.
    fn serial(self) -> Serial {
        match self {
            Self::Old => serial(1, 1),
            Self::New => serial(2, 2),
            Self::Namesake => serial(1, 3),
            Self::Expired => serial(4, 4),
            Self::OldBeforeRenewal => serial(1, 5),
        }
    }

    /// Returns the end of the common name.
    pub(super) fn end_of_common_name(self) -> String {
        let digits: String = self.serial().to_string().chars().take(8).collect();
        format!("root CA {digits}")
    }
}

/// Returns the first certificate of the bundle.
pub(super) fn leaf(bundle: &Bundle) -> Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_slice(bundle.certificate.as_bytes())?)
}

/// Returns the chain and the key of the bundle.
pub(super) fn chain_and_key(
    bundle: &Bundle,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_slice_iter(bundle.certificate.as_bytes()).collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(bundle.private_key.as_bytes())?))
}

/// Returns a serial number whose first octets, which are in the subject of a CA, are `first`.
fn serial(first: u8, last: u32) -> Serial {
    let mut octets = [first; 20];
    if let Some(end) = octets.last_chunk_mut() {
        *end = last.to_be_bytes();
    }
    Serial::from_random(octets)
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
            Self::Namesake => "namesake",
            Self::Expired => "expired",
            Self::OldBeforeRenewal => "expired copy of the old root",
        })
    }
}
