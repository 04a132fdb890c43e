//! nginx that asks for client certificates, called by its Service's name.

use anyhow::{Result, ensure};

use crate::cluster::Cluster;
use crate::progress::{note, step};
use crate::story::call::{self, Caller};
use crate::story::{examples, installation, namespace};

const HOSTS: [&str; 2] = ["payments.mutual-tls.svc", "payments.mutual-tls.svc.cluster.local"];

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let kubectl = namespace(cluster, "mutual-tls", &[])?;
    step("nginx and a caller are opted in", || examples::deploy(cluster, &kubectl, &[]))?;
    for host in HOSTS {
        step(&format!("{host} answers a caller with our certificate"), || {
            note(&call::succeeds(&kubectl, host)?);
            Ok(())
        })?;
        step("it refuses one without a certificate", || call::refused(&kubectl, Caller::Anonymous, host))?;
        step("it refuses one with another CA's certificate", || {
            call::refused(&kubectl, Caller::Stranger, host)
        })?;
    }
    step("a caller refuses the service under a name that is not its own", || {
        let by_address = kubectl.get(&["service", "payments"])?["spec"]["clusterIP"].clone();
        let error = call::call(&kubectl, Caller::Certified, by_address.as_str().unwrap_or_default());
        let sentence = error.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(sentence.contains("no alternative certificate subject name matches"), "{sentence}");
        Ok(())
    })
}
