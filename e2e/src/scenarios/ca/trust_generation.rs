//! The scenario `trust-generation` adds a root to the CA's Secret, removes it again, and stores a state that a later
//! version of Certmint could store.
//!
//! It asserts that the published ConfigMap, `caBundle`, the workload's Secret, new pods and running pods follow the set of
//! roots. The certificate stays the same, and no container restarts. While the state is unknown, nothing
//! is issued, and the copies stay as they are.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use certmint_certificates::ca::parse_roots;
use certmint_contract::TrustGeneration;
use certmint_contract::pod_layout::{ENV_TRUST_GENERATION, FETCH_CONTAINER};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::progress::step;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{images, installation, workload};
use serde_json::{Value, json};

use super::crafted;
use super::fixture::CaFixture;

const NAME: &str = "trust-generation";
const APP: &str = "payments";
/// File with the roots in the app's container.
const ROOTS_FILE: &str = "/var/run/secrets/certmint.dev/ca.crt";

/// State of the CA's Secret before the scenario, and the app.
struct Rotation<'a> {
    fixture: CaFixture<'a>,
    /// The root of the installation, PEM.
    root: String,
    /// Generation of the trusted roots at the start.
    first: TrustGeneration,
    /// Serial number of the app's certificate.
    serial: String,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, &[])?;
    let fixture = CaFixture::new(cluster, NAME)?;
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    let app = workload::manifest("deployment", APP, &image, &workload::opt_in_annotations(&[]));
    fixture.kubectl.apply(&app.to_string())?;
    workload::wait_for_rollout(&fixture.kubectl, APP)?;
    let published = fixture.system.get(&["configmap", "certmint-trust-bundle"])?;
    let rotation = Rotation {
        root: text(&published["data"]["ca.crt"])?,
        first: text(&published["data"]["trust-generation"])?.parse()?,
        serial: fixture.wait_for_certificate(APP)?.serial,
        fixture,
    };
    let (second, third) = (rotation.first.next(), rotation.first.next().next());
    let both = format!("{}{}", rotation.root, crafted::other_root()?);
    // The text of a set of roots does not depend on which root issues.
    let trusted = parse_roots(&both)?.to_pem();

    step("a second root reaches every copy, and the certificate stays", || {
        rotation.store(&both, second)?;
        rotation.wait_for_copies(&trusted, second)
    })?;
    step("running pods trust both roots, and no container restarts", || rotation.wait_for_pods(&trusted))?;
    step("new pods start with both roots", || rotation.wait_for_new_pod(second))?;
    step("an unknown state of the CA stops issuance, and the copies stay", || {
        rotation
            .fixture
            .patch_ca(&json!({ "state.json": encoded(r#"{"format":2,"trustGeneration":9}"#) }))?;
        rotation.fixture.wait_for_refusal("state.json is not known to this version of Certmint")?;
        rotation.fixture.opt_in("late")?;
        rotation.fixture.wait_for_refused_workload("late")?;
        rotation.wait_for_copies(&trusted, second)
    })?;
    step("with the known state and one root, issuance continues", || {
        let root = rotation.root.clone();
        rotation.store(&root, third)?;
        rotation.fixture.wait_for_usable_ca()?;
        rotation.fixture.wait_for_certificate("late")?;
        rotation.wait_for_copies(&root, third)?;
        rotation.wait_for_pods(&root)
    })
}

impl Rotation<'_> {
    /// Stores this set of roots in the CA's Secret, with the first root as the issuing one.
    fn store(&self, roots: &str, generation: TrustGeneration) -> Result<()> {
        let state = format!(r#"{{"format":1,"trustGeneration":{generation}}}"#);
        self.fixture.patch_ca(&json!({ "root.crt": encoded(roots), "state.json": encoded(&state) }))
    }

    /// Waits until the ConfigMap, `caBundle`, the webhook's Secret and the app's Secret have these roots. Asserts that the
    /// app's Secret has the same certificate as before.
    fn wait_for_copies(&self, roots: &str, generation: TrustGeneration) -> Result<()> {
        let CaFixture { system, kubectl, .. } = &self.fixture;
        wait::until("every copy of the roots", DEFAULT_TIMEOUT, || {
            let published = system.get(&["configmap", "certmint-trust-bundle"])?;
            let configuration = system.get(&["mutatingwebhookconfiguration", "certmint"])?;
            let of_webhook = system.get(&["secret", "certmint-webhook-tls"])?;
            let of_app = kubectl.get(&["secret", &format!("{APP}-certmint-tls")])?;
            let serial = text(&of_app["metadata"]["annotations"]["certmint.dev/serial"])?;
            ensure!(serial == self.serial, "the certificate of {APP} was reissued");
            let (roots, generation) = (encoded(roots), encoded(&generation.to_string()));
            let copies = [
                ("the ConfigMap", encoded(&text(&published["data"]["ca.crt"])?) == roots),
                ("its generation", encoded(&text(&published["data"]["trust-generation"])?) == generation),
                ("caBundle", configuration["webhooks"][0]["clientConfig"]["caBundle"] == *roots),
                ("the webhook's Secret", of_webhook["data"]["ca.crt"] == *roots),
                ("the app's Secret", of_app["data"]["ca.crt"] == *roots),
                ("the generation in the app's Secret", of_app["data"]["trust-generation"] == *generation),
            ];
            let old: Vec<&str> = copies.iter().filter(|(_, is_new)| !is_new).map(|(name, _)| *name).collect();
            Ok(if old.is_empty() { Check::Passed(()) } else { Check::NotYet(format!("{old:?} differ")) })
        })
    }

    /// Waits until each pod of the app has these roots. Asserts that no container has restarted.
    fn wait_for_pods(&self, roots: &str) -> Result<()> {
        let kubectl = &self.fixture.kubectl;
        wait::until("the roots in the pods", DEFAULT_TIMEOUT, || {
            for pod in kubectl.list(&["pods", &format!("--selector=app={APP}")])? {
                let name = text(&pod["metadata"]["name"])?;
                ensure!(workload::is_healthy(&pod), "a container of {name} restarted");
                let found = kubectl.exec(&name, "app", &["cat", ROOTS_FILE])?;
                if found.trim() != roots.trim() {
                    return Ok(Check::NotYet(format!("{name} has other roots")));
                }
            }
            Ok(Check::Passed(()))
        })
    }

    /// Deletes the app's pods until a new pod is injected with this generation. The kubelet takes up to a minute and a
    /// half to update the files of the webhook.
    fn wait_for_new_pod(&self, generation: TrustGeneration) -> Result<()> {
        let kubectl = &self.fixture.kubectl;
        wait::until("a pod with the new generation", DEFAULT_TIMEOUT, || {
            kubectl.run(&["rollout", "restart", &format!("deployment/{APP}")])?;
            let pods = workload::wait_for_rollout(kubectl, APP)?;
            let newest = pods.last().context("the app has no pod")?;
            let containers = newest["spec"]["initContainers"].as_array().context("no init container")?;
            let fetch = containers.iter().find(|container| container["name"] == FETCH_CONTAINER);
            let variables = fetch.and_then(|fetch| fetch["env"].as_array()).context("no environment")?;
            let variable = variables.iter().find(|variable| variable["name"] == ENV_TRUST_GENERATION);
            let found = text(&variable.context("no generation")?["value"])?;
            Ok(if found == generation.to_string() {
                Check::Passed(())
            } else {
                Check::NotYet(format!("its generation is {found}"))
            })
        })
    }
}

fn encoded(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("{value} is not a text"))
}
