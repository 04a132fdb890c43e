//! nginx that asks for client certificates, called by its Service's name.

use anyhow::{Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};

use crate::story::call::{self, Caller};
use crate::story::examples;

const HOSTS: [&str; 2] = ["payments.mutual-tls.svc", "payments.mutual-tls.svc.cluster.local"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, "mutual-tls", &[])?;
    step("nginx and a caller are opted in", || examples::deploy(cluster, &kubectl, &[]))?;
    for host in HOSTS {
        step(&format!("{host} answers a caller with our certificate"), || {
            let answer = call::succeeds(&kubectl, host)?;
            note(&answer);
            shown(&kubectl, &answer)
        })?;
        step("it refuses one without a certificate", || call::refused(&kubectl, Caller::Anonymous, host))?;
        step("it refuses one with another CA's certificate", || {
            call::refused(&kubectl, Caller::Stranger, host)
        })?;
    }
    step("a caller refuses the service under a name that is not its own", || {
        let by_address = kubectl.get(&["service", "payments"])?["spec"]["clusterIP"].clone();
        match call::call(&kubectl, Caller::Certified, by_address.as_str().unwrap_or_default()) {
            Ok(answer) => bail!("the call of {by_address} was answered {answer:?}"),
            Err(error) => {
                let sentence = format!("{error:#}");
                ensure!(sentence.contains("no alternative certificate subject name matches"), "{sentence}");
                Ok(())
            }
        }
    })
}

/// nginx names the certificate that it was shown: it must be the one in the caller's Secret.
fn shown(kubectl: &Kubectl<'_>, answer: &str) -> Result<()> {
    let secret = kubectl.get(&["secret", "checkout-certmint-tls"])?;
    let serial = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str().unwrap_or_default();
    let digits = serial.replace(':', "").to_uppercase();
    ensure!(
        !digits.is_empty() && answer.ends_with(&digits),
        "nginx was not shown the caller's certificate, with serial number {serial:?}: it answered {answer:?}"
    );
    Ok(())
}
