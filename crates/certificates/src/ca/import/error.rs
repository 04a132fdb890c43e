//! The defects of an import. Each message names the extension, and what to request from the CA's operator.

use std::fmt;

use certmint_contract::{TrustDomain, rfc3339};
use time::OffsetDateTime;

use super::{MAX_CERTIFICATES, MAX_FILE_BYTES, Tier};

/// File of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFile {
    /// `tls.crt`, the issuing CA and the intermediate CAs.
    Tls,
    /// `ca.crt`, the root.
    Ca,
}

/// Certificate of an import, for messages. `Display` shows its tier and the start of its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub(super) tier: Tier,
    pub(super) subject: String,
}

/// Defect of an import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file is too large.
    #[error("{0} is larger than {MAX_FILE_BYTES} bytes: put only certificates as PEM into it")]
    TooLarge(ImportFile),
    /// A file contains a private key.
    #[error(
        "{0} contains a private key: delete the ConfigMap, treat this key as compromised, and import certificates only"
    )]
    PrivateKey(ImportFile),
    /// A file is not PEM.
    #[error(
        "{0} must contain certificates as PEM, in \"BEGIN CERTIFICATE\" blocks: request the certificate as Base64, or convert it with \"openssl x509 -inform DER\""
    )]
    NotPem(ImportFile),
    /// A certificate cannot be parsed.
    #[error("a certificate in {file} cannot be read: {why}; request it again from the CA's operator")]
    Malformed {
        /// File with the certificate.
        file: ImportFile,
        /// Error of the parser.
        why: String,
    },
    /// `ca.crt` does not contain exactly one certificate.
    #[error("ca.crt contains {0} certificates: put only the root into it, and intermediate CAs into tls.crt")]
    RootCount(usize),
    /// `tls.crt` contains too many certificates.
    #[error(
        "tls.crt contains {0} certificates, and verifiers accept at most {MAX_CERTIFICATES}: put only the issuing CA and its intermediate CAs into it"
    )]
    TooMany(usize),
    /// No certificate has the key of the request.
    #[error(
        "no certificate in tls.crt has the key of the current request: send the current issuing.csr to the CA's operator, and import the certificate for it"
    )]
    OtherKey,
    /// The root is not the trusted one.
    #[error(
        "ca.crt is not the root that the workloads trust (SHA-256 fingerprint {trusted}), and a change of the root is a rotation: request a certificate from the CA below the trusted root"
    )]
    OtherRoot {
        /// SHA-256 fingerprint of the trusted root.
        trusted: String,
    },
    /// basicConstraints does not say CA:TRUE.
    #[error(
        "{0}: basicConstraints is not CA:TRUE; request a certificate for a subordinate CA, with basicConstraints=critical,CA:TRUE,pathlen:0"
    )]
    NotCa(Member),
    /// basicConstraints is not critical.
    #[error(
        "{0}: basicConstraints is not critical, and strict verifiers reject that; request basicConstraints=critical,CA:TRUE"
    )]
    NotCritical(Member),
    /// keyUsage lacks keyCertSign.
    #[error(
        "{0}: keyUsage lacks keyCertSign; request keyUsage=critical,keyCertSign,cRLSign, as a template for subordinate CAs has"
    )]
    NoCertSign(Member),
    /// The path length is too small.
    #[error(
        "{of}: basicConstraints has pathlen:{limit}, and {below} CAs are below this CA; request the certificate from a CA with pathlen:{below} or more"
    )]
    PathLength {
        /// Certificate with the limit.
        of: Member,
        /// Path length in the certificate.
        limit: u32,
        /// Number of CAs below this CA.
        below: usize,
    },
    /// extendedKeyUsage lacks a usage.
    #[error(
        "{of}: extendedKeyUsage lacks {missing}, so verifiers reject certificates below this CA; request a CA certificate without extendedKeyUsage, or with both serverAuth and clientAuth"
    )]
    ExtendedKeyUsage {
        /// Certificate with the extension.
        of: Member,
        /// Missing usages.
        missing: &'static str,
    },
    /// subjectKeyIdentifier is missing.
    #[error(
        "{0}: subjectKeyIdentifier is missing, and verifiers find an issuer by it; request subjectKeyIdentifier=hash"
    )]
    NoSubjectKeyIdentifier(Member),
    /// authorityKeyIdentifier is missing.
    #[error(
        "{0}: authorityKeyIdentifier is missing, and strict verifiers reject that; request authorityKeyIdentifier=keyid"
    )]
    NoAuthorityKeyIdentifier(Member),
    /// The name constraints do not permit a name.
    #[error(
        "{of}: nameConstraints permit {permitted}, and not {name}; request permitted DNS names for all names of the policy, or no nameConstraints for DNS names"
    )]
    NotPermitted {
        /// Certificate with the constraints.
        of: Member,
        /// Name that is not permitted.
        name: String,
        /// Start of the list of permitted names.
        permitted: String,
    },
    /// The name constraints exclude a name.
    #[error(
        "{of}: nameConstraints exclude {name}, which certificates of workloads need; request a CA whose nameConstraints do not exclude it"
    )]
    Excluded {
        /// Certificate with the constraints.
        of: Member,
        /// Excluded name.
        name: String,
    },
    /// The name constraints restrict a kind of names that not every verifier can check.
    #[error(
        "{of}: nameConstraints for {kind} are not supported, because rustls rejects every certificate below such a CA; request nameConstraints for DNS names only"
    )]
    UnsupportedConstraint {
        /// Certificate with the constraints.
        of: Member,
        /// Kind of names.
        kind: &'static str,
    },
    /// A critical extension is not known.
    #[error(
        "{of}: the critical extension {extension} is not supported, because rustls rejects the certificate; request a certificate in which this extension is absent or not critical"
    )]
    CriticalExtension {
        /// Certificate with the extension.
        of: Member,
        /// Object identifier, with the name if it is known.
        extension: String,
    },
    /// A signature or key algorithm is weak or not supported.
    #[error(
        "{of}: {algorithm} is not accepted; request a signature with SHA-256, SHA-384 or SHA-512, by a key of RSA 2048 or more, ECDSA P-256 or P-384, or Ed25519"
    )]
    Algorithm {
        /// Certificate with the algorithm.
        of: Member,
        /// Name or object identifier of the algorithm.
        algorithm: String,
    },
    /// The subject is empty, or the name of another CA of the chain.
    #[error(
        "{0}: the subject is empty, or the same as that of its issuer; request the subject of the request, or another unique name"
    )]
    Subject(Member),
    /// The issuing CA is for another trust domain.
    #[error(
        "{of}: subjectAltName has the URI {uri}, and the trust domain is {trust_domain}; request the subjectAltName of the request, or none"
    )]
    TrustDomain {
        /// Certificate with the name.
        of: Member,
        /// URI in the certificate.
        uri: String,
        /// Trust domain of the policy.
        trust_domain: TrustDomain,
    },
    /// The certificate is not valid yet.
    #[error(
        "{of}: the validity period starts at {} only; import it after that time, or request an earlier notBefore",
        rfc3339(*.not_before)
    )]
    NotYetValid {
        /// Certificate with the validity period.
        of: Member,
        /// Start of the validity period.
        not_before: OffsetDateTime,
    },
    /// The certificate has expired.
    #[error("{of}: the validity period ended at {}; request a valid certificate", rfc3339(*.not_after))]
    Expired {
        /// Certificate with the validity period.
        of: Member,
        /// End of the validity period.
        not_after: OffsetDateTime,
    },
    /// The issuing CA ends too soon.
    #[error(
        "{of}: the validity period ends at {}, before the longest certificate of the policy would end; request a notAfter of {} or later, for instance in a year",
        rfc3339(*.not_after), rfc3339(*.needed)
    )]
    TooShort {
        /// Certificate of the issuing CA.
        of: Member,
        /// End of the validity period.
        not_after: OffsetDateTime,
        /// Earliest end that is accepted.
        needed: OffsetDateTime,
    },
    /// A certificate ends after its issuer.
    #[error(
        "{of}: the validity period ends at {}, after its issuer at {}; request a notAfter that is not later than that of the issuer",
        rfc3339(*.not_after), rfc3339(*.issuer)
    )]
    OutlivesIssuer {
        /// Certificate that ends too late.
        of: Member,
        /// End of its validity period.
        not_after: OffsetDateTime,
        /// End of the issuer.
        issuer: OffsetDateTime,
    },
    /// The issuer of a certificate is missing.
    #[error(
        "{of}: its issuer ({issuer}) is neither in tls.crt nor the root in ca.crt; request the certificates of all intermediate CAs, and append them to tls.crt"
    )]
    NoIssuer {
        /// Certificate without an issuer.
        of: Member,
        /// Name of the issuer.
        issuer: String,
    },
    /// A certificate of `tls.crt` is not part of the chain.
    #[error("{0}: it is not between the issuing CA and the root in ca.crt; remove it from tls.crt")]
    Unused(Member),
    /// A signature is wrong.
    #[error(
        "{of}: the signature is not that of its issuer: {why}; request the certificate of the CA that signed it"
    )]
    Signature {
        /// Certificate with the signature.
        of: Member,
        /// Error of the verifier.
        why: String,
    },
    /// `ca.crt` is not a root.
    #[error(
        "{0}: it is not self-signed, so it is not a root; request the certificate of the root, and put intermediate CAs into tls.crt"
    )]
    NotRoot(Member),
    /// The test leaf fails verification.
    #[error(
        "a test certificate of the imported CA fails verification: {0}; request a CA certificate with the extensions of the request"
    )]
    TestLeaf(String),
}

/// Maximum characters of a name of a certificate in a message.
const MAX_NAME_CHARS: usize = 100;

/// Returns the start of a name without control characters, for messages.
pub(super) fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME_CHARS).collect()
}

impl fmt::Display for ImportFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "tls.crt",
            Self::Ca => "ca.crt",
        })
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.tier, self.subject)
    }
}
