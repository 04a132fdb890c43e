//! A CA and profiles with defaults, shared by the tests.

use certmint_certificates::{
    Authority, IssuedLeaf, IssuingCa, Leaf, LeafProfile, PrivateKey, Serial,
    ca::{IssuingProfile, RootProfile},
};
use certmint_contract::{DnsName, KeyAlgorithm, Lifetime, SpiffeId, TrustDomain, issuance::Bundle};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};
use time::OffsetDateTime;

/// What a test CA is made of.
pub(crate) struct Ca {
    pub(crate) now: OffsetDateTime,
    pub(crate) algorithm: KeyAlgorithm,
    pub(crate) root_life: Lifetime,
    pub(crate) issuing_life: Lifetime,
    pub(crate) permitted: Vec<DnsName>,
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            now: now(),
            algorithm: KeyAlgorithm::EcdsaP256,
            root_life: "3650d".parse().unwrap(),
            issuing_life: "90d".parse().unwrap(),
            permitted: names(&["svc", "svc.cluster.local"]),
        }
    }
}

impl Ca {
    pub(crate) fn make(&self) -> Authority {
        let trust_domain = trust_domain();
        let root = RootProfile { trust_domain: &trust_domain, lifetime: self.root_life };
        let issuing = IssuingProfile {
            trust_domain: &trust_domain,
            lifetime: self.issuing_life,
            permitted_dns: &self.permitted,
        };
        let key = || PrivateKey::generate(self.algorithm).unwrap();
        Authority::create((&root, key(), serial(1)), (&issuing, key(), serial(2)), self.now).unwrap()
    }
}

/// A whole second, now by the machine's clock, because other tools check against that.
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

/// A leaf with the Service's names.
pub(crate) fn issue(
    authority: &Authority,
    algorithm: KeyAlgorithm,
    life: &str,
    now: OffsetDateTime,
) -> IssuedLeaf {
    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: life.parse().unwrap() };
    authority.issue(&profile, &PrivateKey::generate(algorithm).unwrap(), serial(3), now).unwrap()
}

/// The same leaf straight from an issuing CA, which does not verify what it signs.
pub(crate) fn sign(issuing: &IssuingCa) -> Leaf {
    let (dns_names, spiffe_id) = (service_names(), spiffe_id());
    let profile =
        LeafProfile { dns_names: &dns_names, spiffe_id: &spiffe_id, lifetime: "24h".parse().unwrap() };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    issuing.issue(&profile, &key, serial(3), now()).unwrap()
}

/// The first certificate of a bundle's chain.
pub(crate) fn leaf_alone(bundle: &Bundle) -> &str {
    bundle.certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap()
}

/// A chain and its root in a directory of the test's own, for programs to read.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn write(test: &str, issued: &IssuedLeaf) -> Self {
        let files = Self(Self::directory_of(test));
        fs::write(files.path("tls.crt"), &issued.bundle.certificate).unwrap();
        fs::write(files.path("ca.crt"), &issued.bundle.trust_bundle).unwrap();
        files
    }

    pub(crate) fn write_chain(test: &str, chain: &str, authority: &Authority) -> Self {
        let files = Self(Self::directory_of(test));
        fs::write(files.path("tls.crt"), chain).unwrap();
        fs::write(files.path("ca.crt"), authority.trust_bundle()).unwrap();
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

/// Everything a program said.
pub(crate) fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
