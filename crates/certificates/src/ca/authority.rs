//! The root CA and the issuing CA of the controller.

use std::sync::Arc;
use std::{fmt, slice};

use certmint_contract::issuance::Bundle;
use certmint_contract::{KeyAlgorithm, Lifetime, Namespace, SpiffeId, TrustBundle};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::root::matching_key;
use super::{CaCertificate, CaError, IssuingCa, IssuingProfile, RootCa, RootProfile, Tier};
use crate::verify::verify_leaf;
use crate::{
    ExpectedIdentity, ExpectedLeaf, IssueError, IssuedLeaf, LeafProfile, PrivateKey, Serial, verify,
};

/// Root CA and the issuing CA that it signed.
#[derive(Debug)]
pub struct Authority {
    root: Arc<RootCa>,
    issuing: IssuingCa,
    /// Trust bundle that goes with the certificates of this CA. It contains the root.
    trust_bundle: TrustBundle,
    /// CA with which [`Self::issue`] verifies a leaf.
    anchor: TrustAnchor<'static>,
    /// CAs between a leaf and the anchor.
    below_anchor: Vec<CertificateDer<'static>>,
}

/// Certificate and private key of a CA, as PEM.
#[derive(Clone)]
pub struct CaPem {
    /// Certificate as PEM. Intermediate CAs may follow the certificate of an issuing CA.
    pub certificate: String,
    /// Key, as PKCS#8 in PEM; empty if the root is offline.
    pub private_key: Zeroizing<String>,
}

/// Content of the Secret of the CA.
#[derive(Clone, Debug)]
pub struct AuthorityPem {
    /// Root CA.
    pub root: CaPem,
    /// Issuing CA.
    pub issuing: CaPem,
}

/// Lifetime of the leaf with which a new issuing CA is tested. The test verifies that leaf at once.
const TEST_LEAF_LIFETIME: Lifetime = Lifetime::from_seconds(60);

impl Authority {
    /// Combines a root CA and an issuing CA.
    ///
    /// # Errors
    /// When the issuing CA and its intermediate CAs are no chain to the root, or the issuing CA ends after the root.
    pub fn new(root: Arc<RootCa>, issuing: IssuingCa) -> Result<Self, CaError> {
        if issuing.certificate().der() == root.certificate().der() {
            return Err(CaError::NotChained("it is the root itself".into()));
        }
        let issuers = issuing.chain().skip(1).chain([root.certificate()]);
        for (certificate, issuer) in issuing.chain().zip(issuers) {
            certificate.check_signed_by(issuer).map_err(CaError::NotChained)?;
        }
        let (issuing_end, root_end) = (issuing.certificate().not_after(), root.certificate().not_after());
        if issuing_end > root_end {
            return Err(CaError::OutlivesRoot { issuing: issuing_end, root: root_end });
        }
        // A root of Certmint has no name constraints, and the chain has just been verified. So it is enough to verify each
        // leaf against the issuing CA. The CAs of a company may have constraints, which apply to each leaf.
        let (anchor, below_anchor) = match root.is_offline() {
            false => (issuing.certificate(), Vec::new()),
            true => (root.certificate(), issuing.chain().map(|ca| ca.der().clone()).collect()),
        };
        let anchor = webpki::anchor_from_trusted_cert(anchor.der())
            .map_err(|why| CaError::Malformed { tier: Tier::Issuing, why: why.to_string() })?
            .to_owned();
        let trust_bundle = TrustBundle::first(root.certificate().pem());
        Ok(Self { root, issuing, trust_bundle, anchor, below_anchor })
    }

    /// Creates a root CA and an issuing CA.
    ///
    /// # Errors
    /// When a certificate cannot be encoded or signed.
    pub fn create(
        root: (&RootProfile<'_>, PrivateKey, Serial),
        issuing: (&IssuingProfile<'_>, PrivateKey, Serial),
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let (profile, key, serial) = root;
        let root = Arc::new(RootCa::create(profile, key, serial, now)?);
        let (profile, key, serial) = issuing;
        Self::with_new_issuing(root, profile, key, serial, now)
    }

    /// Creates an issuing CA for a root, and tests it by issuing and verifying a leaf.
    ///
    /// # Errors
    /// When the root is not valid at `now`, the certificate cannot be encoded or signed, or the leaf fails verification.
    pub fn with_new_issuing(
        root: Arc<RootCa>,
        profile: &IssuingProfile<'_>,
        key: PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let issuing = root.sign_issuing(profile, key, serial, now)?;
        let authority = Self::new(root, issuing)?;
        authority.test(profile, now)?;
        Ok(authority)
    }

    /// Issues a leaf that is not published, with every name that the issuing CA permits, and verifies its chain up to the
    /// root.
    fn test(&self, profile: &IssuingProfile<'_>, now: OffsetDateTime) -> Result<(), CaError> {
        let test_leaf_rejected = |why: &dyn fmt::Display| CaError::TestLeafRejected(why.to_string());
        let namespace: Namespace = "default".parse().map_err(|why| test_leaf_rejected(&why))?;
        let spiffe_id = SpiffeId::new(profile.trust_domain, &namespace, "proof")
            .map_err(|why| test_leaf_rejected(&why))?;
        let dns_names = profile.permitted_dns;
        let test_leaf = LeafProfile { dns_names, spiffe_id: &spiffe_id, lifetime: TEST_LEAF_LIFETIME };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).map_err(|why| test_leaf_rejected(&why))?;
        // The leaf is not published, so its serial number need not be random.
        let serial = Serial::from_random([0; 20]);
        let issued = self.issue(&test_leaf, &key, serial, now).map_err(|why| test_leaf_rejected(&why))?;
        let expected =
            ExpectedLeaf { dns_names: Some(dns_names), identity: ExpectedIdentity::Id(&spiffe_id) };
        verify(&issued.bundle, &expected, now).map(drop).map_err(|why| test_leaf_rejected(&why))
    }

    /// Parses and checks a root CA and an issuing CA: the keys belong to the certificates, both are CAs and valid at `now`,
    /// and the root signed the issuing CA.
    ///
    /// # Errors
    /// When a check fails.
    pub fn from_pem(pem: &AuthorityPem, now: OffsetDateTime) -> Result<Self, CaError> {
        let root = RootCa::from_pem(&pem.root.certificate, &pem.root.private_key, now)?;
        Self::of_root(Arc::new(root), &pem.issuing, now)
    }

    /// Parses and checks the issuing CA below `root`, with its intermediate CAs.
    ///
    /// # Errors
    /// When a check fails.
    pub fn of_root(root: Arc<RootCa>, issuing: &CaPem, now: OffsetDateTime) -> Result<Self, CaError> {
        let (certificate, intermediates) = issuing_chain(&issuing.certificate)?;
        let key = matching_key(Tier::Issuing, &issuing.private_key, &certificate)?;
        certificate.check_time(now)?;
        intermediates.iter().try_for_each(|intermediate| intermediate.check_time(now))?;
        Self::new(root, IssuingCa::new(certificate, key)?.with_intermediates(intermediates))
    }

    /// Returns both CAs as PEM, with their keys.
    ///
    /// # Errors
    /// When the crypto library cannot encode a key.
    pub fn to_pem(&self) -> Result<AuthorityPem, CaError> {
        let pem = |tier, certificate: String, key: Option<&PrivateKey>| -> Result<CaPem, CaError> {
            let private_key = key
                .map_or_else(|| Ok(Zeroizing::default()), PrivateKey::to_pem)
                .map_err(|why| CaError::Key { tier, why })?;
            Ok(CaPem { certificate, private_key })
        };
        Ok(AuthorityPem {
            root: pem(Tier::Root, self.root.certificate().pem().into(), self.root.key())?,
            issuing: pem(Tier::Issuing, self.issuing.chain_pem(), Some(self.issuing.signer()))?,
        })
    }

    /// Issues a leaf and verifies it, so that Certmint does not publish a bundle that a peer would reject.
    ///
    /// # Errors
    /// When the CA is not valid at `now`, its name constraints exclude a name, or signing fails.
    pub fn issue(
        &self,
        profile: &LeafProfile<'_>,
        key: &PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<IssuedLeaf, IssueError> {
        let leaf = self.issuing.issue(profile, key, serial, now)?;
        let expected = ExpectedLeaf {
            dns_names: Some(profile.dns_names),
            identity: ExpectedIdentity::Id(profile.spiffe_id),
        };
        let anchors = slice::from_ref(&self.anchor);
        let facts = verify_leaf(leaf.der(), &self.below_anchor, anchors, key, &expected, now)?;
        let bundle = Bundle {
            certificate: leaf.chain_pem().into(),
            private_key: std::mem::take(&mut *key.to_pem()?),
            trust_bundle: self.trust_bundle.clone(),
        };
        Ok(IssuedLeaf { bundle, facts })
    }

    /// Returns the root CA.
    #[must_use]
    pub fn root(&self) -> &Arc<RootCa> {
        &self.root
    }

    /// Returns the issuing CA.
    #[must_use]
    pub fn issuing(&self) -> &IssuingCa {
        &self.issuing
    }

    /// Returns the trust bundle that goes with the certificates of this CA.
    #[must_use]
    pub fn trust_bundle(&self) -> &TrustBundle {
        &self.trust_bundle
    }

    /// Sets the trust bundle that goes with the certificates of this CA: its root, and other roots that peers trust.
    ///
    /// # Errors
    /// When the trust bundle cannot be parsed or lacks the root.
    pub fn with_trust_bundle(mut self, trust_bundle: TrustBundle) -> Result<Self, CaError> {
        let roots: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(trust_bundle.roots.as_bytes()).collect();
        let roots = roots.map_err(|why| CaError::Malformed { tier: Tier::Root, why: why.to_string() })?;
        if !roots.contains(self.root.certificate().der()) {
            return Err(CaError::NotTrusted);
        }
        self.trust_bundle = trust_bundle;
        Ok(self)
    }
}

/// Parses the certificate of an issuing CA, and the intermediate CAs that follow it.
fn issuing_chain(pem: &str) -> Result<(CaCertificate, Vec<CaCertificate>), CaError> {
    let not_pem = || CaError::NotPem(Tier::Issuing);
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let mut ders = ders.map_err(|_| not_pem())?.into_iter();
    let issuing = CaCertificate::from_der(Tier::Issuing, ders.next().ok_or_else(not_pem)?)?;
    let intermediates = ders.map(|der| CaCertificate::from_der(Tier::Intermediate, der));
    Ok((issuing, intermediates.collect::<Result<_, _>>()?))
}

impl fmt::Debug for CaPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
