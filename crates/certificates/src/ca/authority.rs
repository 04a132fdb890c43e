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
    /// Issuing CA as a trust anchor. [`Self::new`] verifies once that the root signed the issuing CA. So
    /// [`Self::issue`] verifies a leaf against this anchor only.
    anchor: TrustAnchor<'static>,
}

/// Certificate and private key of a CA, as PEM.
#[derive(Clone)]
pub struct CaPem {
    /// Exactly one certificate, as PEM.
    pub certificate: String,
    /// Key, as PKCS#8 in PEM.
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
    /// When the root did not sign the issuing CA, or the issuing CA ends after the root.
    pub fn new(root: Arc<RootCa>, issuing: IssuingCa) -> Result<Self, CaError> {
        if issuing.certificate().der() == root.certificate().der() {
            return Err(CaError::NotChained("it is the root itself".into()));
        }
        issuing.certificate().check_signed_by(root.certificate()).map_err(CaError::NotChained)?;
        let (issuing_end, root_end) = (issuing.certificate().not_after(), root.certificate().not_after());
        if issuing_end > root_end {
            return Err(CaError::OutlivesRoot { issuing: issuing_end, root: root_end });
        }
        let anchor = webpki::anchor_from_trusted_cert(issuing.certificate().der())
            .map_err(|why| CaError::Malformed { tier: Tier::Issuing, why: why.to_string() })?
            .to_owned();
        let trust_bundle = TrustBundle::first(root.certificate().pem());
        Ok(Self { root, issuing, trust_bundle, anchor })
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

    /// Parses and checks the issuing CA that `root` signed.
    ///
    /// # Errors
    /// When a check fails.
    pub fn of_root(root: Arc<RootCa>, issuing: &CaPem, now: OffsetDateTime) -> Result<Self, CaError> {
        let certificate = CaCertificate::from_pem(Tier::Issuing, &issuing.certificate)?;
        let key = matching_key(Tier::Issuing, &issuing.private_key, &certificate)?;
        certificate.check_time(now)?;
        Self::new(root, IssuingCa::new(certificate, key)?)
    }

    /// Returns both CAs as PEM, with their keys.
    ///
    /// # Errors
    /// When the crypto library cannot encode a key.
    pub fn to_pem(&self) -> Result<AuthorityPem, CaError> {
        let pem = |tier, certificate: &CaCertificate, key: &PrivateKey| -> Result<CaPem, CaError> {
            let private_key = key.to_pem().map_err(|why| CaError::Key { tier, why })?;
            Ok(CaPem { certificate: certificate.pem().into(), private_key })
        };
        Ok(AuthorityPem {
            root: pem(Tier::Root, self.root.certificate(), self.root.key())?,
            issuing: pem(Tier::Issuing, self.issuing.certificate(), self.issuing.signer())?,
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
        let facts = verify_leaf(leaf.der(), &[], anchors, key, &expected, now)?;
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

impl fmt::Debug for CaPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
