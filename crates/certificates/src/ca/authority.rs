//! Root and issuing CA together: what the controller holds.

use super::{CaCertificate, CaError, Issuing, IssuingProfile, Root, RootProfile, Tier, root::fitting_key};
use crate::{Expected, Identity, IssueError, Issued, PrivateKey, Profile, Serial, verify::verify_leaf};
use certmint_contract::issuance::Bundle;
use rustls_pki_types::TrustAnchor;
use std::{fmt, slice, sync::Arc};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// A root and the issuing CA it signed.
#[derive(Debug)]
pub struct Authority {
    root: Arc<Root>,
    issuing: Issuing,
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

impl Authority {
    /// Puts a root and an issuing CA together.
    ///
    /// # Errors
    /// When the root did not sign the issuing CA, or the issuing CA would outlive it.
    pub fn new(root: Arc<Root>, issuing: Issuing) -> Result<Self, CaError> {
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
        let root = Arc::new(Root::create(profile, key, serial, now)?);
        let (profile, key, serial) = issuing;
        let issuing = root.sign_issuing(profile, key, serial, now)?;
        Self::new(root, issuing)
    }

    /// Reads both and checks everything: keys fit, both are CAs and valid at `now`, the chain holds.
    ///
    /// # Errors
    /// The first of those that does not hold.
    pub fn from_pem(pem: &AuthorityPem, now: OffsetDateTime) -> Result<Self, CaError> {
        let root = Root::from_pem(&pem.root.certificate, &pem.root.private_key, now)?;
        let certificate = CaCertificate::from_pem(Tier::Issuing, &pem.issuing.certificate)?;
        let key = fitting_key(Tier::Issuing, &pem.issuing.private_key, &certificate)?;
        certificate.check_time(now)?;
        Self::new(Arc::new(root), Issuing::new(certificate, key)?)
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

    /// The same root with a new issuing CA.
    ///
    /// # Errors
    /// When the root is outside its time, or the certificate cannot be encoded or signed.
    pub fn rotate_issuing(
        &self,
        profile: &IssuingProfile<'_>,
        key: PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        Self::new(Arc::clone(&self.root), self.root.sign_issuing(profile, key, serial, now)?)
    }

    /// Issues a leaf and verifies it: nothing leaves here that a peer would refuse.
    ///
    /// # Errors
    /// When the CA is outside its time, its name constraints forbid a name, or signing fails.
    pub fn issue(
        &self,
        profile: &Profile<'_>,
        key: &PrivateKey,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Issued, IssueError> {
        let leaf = self.issuing.issue(profile, key, serial, now)?;
        let expected =
            Expected { dns_names: Some(profile.dns_names), identity: Identity::Id(profile.spiffe_id) };
        let anchors = slice::from_ref(&self.anchor);
        let facts = verify_leaf(leaf.der(), &[], anchors, key, &expected, now)?;
        let bundle = Bundle {
            certificate: leaf.chain_pem().into(),
            private_key: std::mem::take(&mut *key.to_pem()?),
            trust_bundle: self.trust_bundle().into(),
        };
        Ok(Issued { bundle, facts })
    }

    /// The root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The issuing CA.
    pub fn issuing(&self) -> &Issuing {
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
