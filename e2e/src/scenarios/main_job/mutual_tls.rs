//! The scenario `mutual-tls` opts in nginx, which requires client certificates, and a caller.
//!
//! It asserts that nginx answers the caller under both DNS names of its Service, and that it rejects callers without
//! a certificate or with a foreign one. It also asserts that the caller rejects nginx under a name that is not in
//! nginx's certificate.

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};

use crate::support::call::{self, ClientCertificate};
use crate::support::examples;

const HOSTS: [&str; 2] = ["payments.mutual-tls.svc", "payments.mutual-tls.svc.cluster.local"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let kubectl = create_namespace(cluster, "mutual-tls", &[])?;
    step("nginx and a caller opt in", || examples::deploy_and_wait(cluster, &kubectl, &[]))?;
    for host in HOSTS {
        step(&format!("nginx answers a call of {host} with the issued certificate"), || {
            let answer = call::assert_succeeds(&kubectl, host)?;
            note(&answer);
            assert_client_certificate(&kubectl, &answer)
        })?;
        step("nginx rejects a call without a certificate", || {
            call::assert_rejected(&kubectl, ClientCertificate::None, host)
        })?;
        step("nginx rejects a call with a certificate from another CA", || {
            call::assert_rejected(&kubectl, ClientCertificate::Foreign, host)
        })?;
    }
    step("the caller rejects nginx under a name that is not in its certificate", || {
        let address = kubectl.get(&["service", "payments"])?["spec"]["clusterIP"].clone();
        match call::call(&kubectl, ClientCertificate::Issued, address.as_str().unwrap_or_default()) {
            Ok(answer) => bail!("nginx answered the call of {address} with {answer:?}"),
            Err(error) => {
                let sentence = format!("{error:#}");
                ensure!(sentence.contains("no alternative certificate subject name matches"), "{sentence}");
                Ok(())
            }
        }
    })
}

/// Asserts that nginx received the certificate in the caller's Secret. The answer of nginx contains the serial number
/// of the client certificate.
fn assert_client_certificate(kubectl: &Kubectl<'_>, answer: &str) -> Result<()> {
    let secret = kubectl.get(&["secret", "checkout-certmint-tls"])?;
    let serial = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str().unwrap_or_default();
    let digits = serial.replace(':', "").to_uppercase();
    ensure!(
        !digits.is_empty() && answer.ends_with(&digits),
        "the client certificate should have the serial number {serial:?}, but nginx answered {answer:?}"
    );
    Ok(())
}
