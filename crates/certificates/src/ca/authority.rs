//! Root and issuing CA together: what the controller holds.

use super::{
    CaCertificate, CaError, IssuingCa, IssuingProfile, RootCa, RootProfile, Tier, root::matching_key,
};
use crate::{
    ExpectedIdentity, ExpectedLeaf, IssueError, IssuedLeaf, LeafProfile, PrivateKey, Serial, verify,
    verify::verify_leaf,
};
use certmint_contract::{KeyAlgorithm, Lifetime, Namespace, SpiffeId, issuance::Bundle};
use rustls_pki_types::TrustAnchor;
use std::{fmt, slice, sync::Arc};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// A root and the issuing CA it signed.
#[derive(Debug)]
pub struct Authority {
    root: Arc<RootCa>,
    issuing: IssuingCa,
    /// The issuing CA as a trust anchor: that the root signed it is verified once, not for every leaf.
    anchor: TrustAnchor<'static>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct CaPem {
    /// One certificate.
    pub certificate: String,
    /// PKCS#8.
    pub private_key: Zeroizing<String>,
}

/// What the CA's Secret holds.
#[derive(Clone, Debug)]
pub struct AuthorityPem {
    /// The root.
    pub root: CaPem,
    /// The issuing CA.
    pub issuing: CaPem,
}

/// A leaf that proves an issuing CA lives no longer than it takes to verify it.
const PROOF_LIFETIME: Lifetime = Lifetime::from_seconds(60);

impl Authority {
    /// Puts a root and an issuing CA together.
    ///
    /// # Errors
    /// When the root did not sign the issuing CA, or the issuing CA would outlive it.
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
        Ok(Self { root, issuing, anchor })
    }

    /// Makes a root and an issuing CA.
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

    /// A root with a new issuing CA, which is proven before anyone relies on it.
    ///
    /// # Errors
    /// When the root is outside its time, the certificate cannot be encoded or signed, or what it signs does not
    /// verify.
    pub fn with_new_issuing(
        root: Arc<RootCa>,
        profile: &IssuingProfile<'_>,
        key: PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let issuing = root.sign_issuing(profile, key, serial, now)?;
        let authority = Self::new(root, issuing)?;
        authority.prove(profile, now)?;
        Ok(authority)
    }

    /// Issues a leaf for nobody, with every name that the issuing CA is for, and has the verifier walk the whole chain.
    fn prove(&self, profile: &IssuingProfile<'_>, now: OffsetDateTime) -> Result<(), CaError> {
        let unproven = |why: &dyn fmt::Display| CaError::Unproven(why.to_string());
        let namespace: Namespace = "default".parse().map_err(|why| unproven(&why))?;
        let spiffe_id =
            SpiffeId::new(profile.trust_domain, &namespace, "proof").map_err(|why| unproven(&why))?;
        let dns_names = profile.permitted_dns;
        let proof = LeafProfile { dns_names, spiffe_id: &spiffe_id, lifetime: PROOF_LIFETIME };
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).map_err(|why| unproven(&why))?;
        // It is shown to nobody, so its serial number needs no randomness.
        let serial = Serial::from_random([0; 20]);
        let issued = self.issue(&proof, &key, serial, now).map_err(|why| unproven(&why))?;
        let expected =
            ExpectedLeaf { dns_names: Some(dns_names), identity: ExpectedIdentity::Id(&spiffe_id) };
        verify(&issued.bundle, &expected, now).map(drop).map_err(|why| unproven(&why))
    }

    /// Reads both and checks everything: keys fit, both are CAs and valid at `now`, the chain holds.
    ///
    /// # Errors
    /// The first of those that does not hold.
    pub fn from_pem(pem: &AuthorityPem, now: OffsetDateTime) -> Result<Self, CaError> {
        let root = RootCa::from_pem(&pem.root.certificate, &pem.root.private_key, now)?;
        Self::of_root(Arc::new(root), &pem.issuing, now)
    }

    /// Reads an issuing CA of that root, and checks everything about it.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn of_root(root: Arc<RootCa>, issuing: &CaPem, now: OffsetDateTime) -> Result<Self, CaError> {
        let certificate = CaCertificate::from_pem(Tier::Issuing, &issuing.certificate)?;
        let key = matching_key(Tier::Issuing, &issuing.private_key, &certificate)?;
        certificate.check_time(now)?;
        Self::new(root, IssuingCa::new(certificate, key)?)
    }

    /// Both as PEM, keys included.
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

    /// Issues a leaf and verifies it: nothing leaves here that a peer would refuse.
    ///
    /// # Errors
    /// When the CA is outside its time, its name constraints forbid a name, or signing fails.
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
            trust_bundle: self.trust_bundle().into(),
        };
        Ok(IssuedLeaf { bundle, facts })
    }

    /// The root.
    pub fn root(&self) -> &Arc<RootCa> {
        &self.root
    }

    /// The issuing CA.
    pub fn issuing(&self) -> &IssuingCa {
        &self.issuing
    }

    /// The roots to trust, PEM.
    pub fn trust_bundle(&self) -> &str {
        self.root.certificate().pem()
    }
}

impl fmt::Debug for CaPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
