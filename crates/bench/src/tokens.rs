//! The issuance API with real TokenReviews, beside what a plain client has of the API server.

use anyhow::{Context as _, Result};
use certmint_contract::issuance::AUDIENCE;
use certmint_contract::keys;
use certmint_e2e::cluster::Cluster;
use certmint_e2e::kubectl::Kubectl;
use certmint_e2e::story::installation::SYSTEM_NAMESPACE;
use certmint_e2e::story::{PATIENCE, namespace, workload};
use certmint_e2e::wait::{self, Observed};
use serde_json::json;

use crate::Run;
use crate::audit::Mark;
use crate::figure::{Figure, Target};
use crate::inside::{Bundles, Call, Pace, Repeat, Task};
use crate::process::Process;

const ROW: &str = "tokens";
const NAMESPACE: &str = "bench-tokens";
const SECRET: &str = "payments-certmint-tls";
/// Connections at one time: enough for both processors, and far from the 64 that one address may have.
const CLIENTS: usize = 8;
/// Pods of one Deployment, each asking with a token of its own.
const PODS: usize = 20;

/// A pod that asks.
struct Asker {
    pod: String,
    token: String,
}

/// From the connection to the end of the answer, which has the certificate.
pub(crate) fn tokens(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let kubectl = namespace(cluster, NAMESPACE, &[])?;
    let askers = askers(&kubectl)?;
    let seconds = if run.quick { 1.0 } else { 10.0 };
    let repeat = |rounds| Task::Repeat(Repeat { rounds, clients: CLIENTS, seconds }).run::<Pace>(cluster);
    let reviews = repeat(askers.iter().map(|asker| vec![review(asker)]).collect())?;
    let (mark, process) = (Mark::now(cluster)?, Process::only(cluster, "^/certmint controller")?);
    let before = process.cpu()?;
    let bundles: Pace = bundles(cluster, &kubectl, &askers, seconds)?.run(cluster)?;
    let cpu = process.cpu()? - before;
    let calls = mark.since(cluster)?;
    let same = repeat(askers.iter().map(calls_of_ours).collect())?;
    kubectl.delete(&["namespace", NAMESPACE, "--wait=false"])?;

    let count = bundles.count as f64;
    let figure = |what: &str, value, unit| Figure::new(ROW, what, value, unit);
    Ok(vec![
        figure("bundles over new TLS connections", bundles.rate(), "/s")
            .beside("TokenReviews by a plain client", reviews.rate())
            .target(Target::LeastTimes(0.7)),
        figure("bundles over new TLS connections", bundles.rate(), "/s")
            .beside("the same calls by a plain client", same.rate()),
        figure("p50", bundles.p50, "ms").beside("TokenReview", reviews.p50),
        figure("p99", bundles.p99, "ms").beside("TokenReview", reviews.p99),
        figure("API calls a bundle", (calls.reads + calls.reviews) as f64 / count, ""),
        figure("controller CPU a bundle", cpu / count * 1e3, "ms"),
    ])
}

/// Pods that wait to be scheduled for ever, whose Deployment has its Secret.
fn askers(kubectl: &Kubectl<'_>) -> Result<Vec<Asker>> {
    let mut deployment =
        workload::manifest("deployment", "payments", "none", &json!({ (keys::INJECT): keys::TRUE }));
    deployment["spec"]["replicas"] = PODS.into();
    deployment["spec"]["template"]["spec"]["schedulingGates"] =
        json!([{ "name": "bench.certmint.dev/never" }]);
    kubectl.apply(&deployment.to_string())?;
    kubectl.apply(&workload::service("payments").to_string())?;
    let pods = wait::until("the pods and their Secret", PATIENCE, || {
        let pods = kubectl.list(&["pods"])?;
        let secret = kubectl.get(&["secret", SECRET])?;
        let named = secret["metadata"]["annotations"][keys::DNS_NAMES].is_string();
        Ok(if pods.len() == PODS && named {
            Observed::Yes(pods)
        } else {
            Observed::NotYet(format!("{} pods", pods.len()))
        })
    })?;
    let asker = |pod: &serde_json::Value| {
        let pod = pod["metadata"]["name"].as_str().context("a pod without a name")?.to_owned();
        let bound = ["--bound-object-kind=Pod", "--bound-object-name", &pod];
        let token =
            kubectl.run(&[&["create", "token", "default", "--audience", AUDIENCE][..], &bound].concat())?;
        Ok(Asker { pod, token: token.trim().to_owned() })
    };
    pods.iter().map(asker).collect()
}

fn bundles(cluster: &Cluster, kubectl: &Kubectl<'_>, askers: &[Asker], seconds: f64) -> Result<Task> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let pods = system.list(&["pods", "--selector=app.kubernetes.io/component=controller"])?;
    let address = pods.first().and_then(|pod| pod["status"]["podIP"].as_str()).context("no controller")?;
    let roots = kubectl.run(&[
        "get",
        "secret",
        SECRET,
        "--output=go-template={{index .data \"ca.crt\" | base64decode}}",
    ])?;
    Ok(Task::Bundles(Bundles {
        address: format!("{address}:8443"),
        host: format!("certmint-controller.{SYSTEM_NAMESPACE}.svc"),
        roots,
        tokens: askers.iter().map(|asker| asker.token.clone()).collect(),
        clients: CLIENTS,
        seconds,
    }))
}

fn review(asker: &Asker) -> Call {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": asker.token, "audiences": [AUDIENCE] },
    });
    Call { path: "/apis/authentication.k8s.io/v1/tokenreviews".to_owned(), body: Some(review.to_string()) }
}

/// What no answer can do without: whose token it is, whether the pod lives and whose it is, and the Secret.
fn calls_of_ours(asker: &Asker) -> Vec<Call> {
    let get = |path| Call { path: format!("/api/v1/namespaces/{NAMESPACE}/{path}"), body: None };
    vec![review(asker), get(format!("pods/{}", asker.pod)), get(format!("secrets/{SECRET}"))]
}
