//! A CA and profiles with defaults for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use certmint_certificates::{
    Authority, IssuedLeaf, IssuingCa, Leaf, LeafProfile, PrivateKey, Serial,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, SpiffeId, TrustDomain, issuance::Bundle};
use time::OffsetDateTime;

/// Parameters of a test CA.
pub(crate) struct Ca {
    pub(crate) now: OffsetDateTime,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) root_lifetime: Lifetime,
    pub(crate) issuing_lifetime: Lifetime,
    pub(crate) permitted: Vec<DnsName>,
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            now: now(),
            algorithm: KeyAlgorithm::EcdsaP256,
            root_lifetime: "3650d".parse().unwrap(),
            issuing_lifetime: "90d".parse().unwrap(),
            permitted: names(&["svc", "svc.cluster.local"]),
        }
    }
}

impl Ca {
    pub(crate) fn create(&self) -> Authority {
        let trust_domain = trust_domain();
        let root = RootProfile { trust_domain: &trust_domain, lifetime: self.root_lifetime };
        let issuing = IssuingProfile {
            trust_domain: &trust_domain,
            lifetime: self.issuing_lifetime,
            permitted_dns: &self.permitted,
        };
        let key = || PrivateKey::generate(self.algorithm).unwrap();
        Authority::create((&root, key(), serial(1)), (&issuing, key(), serial(2)), self.now).unwrap()
    }
}

/// Returns the time of the clock, in whole seconds. The other tools use the clock too.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

pub(crate) fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn spiffe_id() -> SpiffeId {
    SpiffeId::new(&trust_domain(), &"shop".parse().unwrap(), "payments").unwrap()
}

pub(crate) fn names(texts: &[&str]) -> Vec<DnsName> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn service_names() -> Vec<DnsName> {
    names(&["payments.shop.svc", "payments.shop.svc.cluster.local"])
}

pub(crate) fn serial(seed: u8) -> Serial {
    Serial::from_random([seed; 20])
}

/// Issues a leaf with the names of the Service.
pub(crate) fn issue(
    authority: &Authority,
    algorithm: KeyAlgorithm,
    lifetime: &str,
    now: OffsetDateTime,
) -> IssuedLeaf {
    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: lifetime.parse().unwrap() };
    authority.issue(&profile, &PrivateKey::generate(algorithm).unwrap(), serial(3), now).unwrap()
}

/// Signs the leaf of [`issue`] with the issuing CA alone, so that no verification follows.
pub(crate) fn sign(issuing: &IssuingCa) -> Leaf {
    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: "24h".parse().unwrap() };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    issuing.issue(&profile, &key, serial(3), now()).unwrap()
}

/// Returns the first certificate of a bundle.
pub(crate) fn leaf_alone(bundle: &Bundle) -> &str {
    bundle.certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap()
}

/// Files with a chain and its root in the directory of a test, as input of other programs.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn write(test: &str, issued: &IssuedLeaf) -> Self {
        let files = Self(Self::directory_of(test));
        fs::write(files.path("tls.crt"), &issued.bundle.certificate).unwrap();
        fs::write(files.path("ca.crt"), &issued.bundle.trust_bundle.roots).unwrap();
        files
    }

    pub(crate) fn write_chain(test: &str, chain: &str, authority: &Authority) -> Self {
        let files = Self(Self::directory_of(test));
        fs::write(files.path("tls.crt"), chain).unwrap();
        fs::write(files.path("ca.crt"), &authority.trust_bundle().roots).unwrap();
        files
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    pub(crate) fn directory_of(test: &str) -> PathBuf {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        fs::create_dir_all(&directory).unwrap();
        directory
    }
}

/// Returns the output of a program.
pub(crate) fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
