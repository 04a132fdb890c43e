//! nginx with settings that name a copy of the old root, in addition to `ca.crt`.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::wait::{self, Check};

use super::call::{Answer, call};
use super::page::Observed;
use super::roots::{ISSUERS, Root, Roots};
use super::sandbox::DEADLINE;
use super::servers::NGINX;

/// Name in the output.
pub(super) const NAME: &str = "nginx with a copy of the old root";

/// Line of the how-to page.
const SETTING: &str = "ssl_client_certificate /var/run/secrets/certmint.dev/ca.crt;";

/// Settings with a copy of a root. nginx requires `ssl_client_certificate`, so `ca.crt` is in the other one.
const WITH_COPY: &str = "ssl_client_certificate /etc/nginx/conf.d/copy.pem;
    ssl_trusted_certificate /var/run/secrets/certmint.dev/ca.crt;";

/// Asserts that nginx accepts the roots in both files, and announces only those of the first file, after the old root was
/// retired from `ca.crt`.
pub(super) fn run(cache: &Cache, roots: &Roots) -> Result<Observed> {
    let sandbox = NGINX.prepare(cache, |text| text.replace(SETTING, WITH_COPY))?;
    sandbox.write("/etc/nginx/conf.d/copy.pem", &roots.pem(&[Root::Old]))?;
    sandbox.publish(&roots.issue(Root::New, "shop", "payments", &[Root::New])?)?;
    let nginx = NGINX.start(&sandbox)?;
    let anchors = roots.anchors(&ISSUERS)?;
    let callers = NGINX.callers(roots)?;
    let answers: Vec<(Root, Answer)> = wait::until("nginx", DEADLINE, || {
        let answer = |(root, bundle)| Ok((root, call(NGINX.port, NGINX.protocol, anchors.clone(), bundle)?));
        let answers = callers.iter().map(|(root, bundle)| answer((*root, bundle)));
        Ok(Check::Passed(answers.collect::<Result<_>>()?))
    })
    .with_context(|| nginx.end_of_output())?;
    let announced = roots.subjects(&[Root::Old])?;
    for (root, answer) in answers {
        let expected = [Root::Old, Root::New].contains(&root);
        ensure!(answer.accepted == expected, "a client under the root {root}: {}", answer.detail);
        ensure!(
            answer.announced == announced,
            "nginx announces other CAs than those in ssl_client_certificate"
        );
    }
    Ok(Observed::Text)
}
