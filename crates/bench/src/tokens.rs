//! The issuance API with real TokenReviews, beside what a plain client has of the API server. Each token is shown
//! once: the API server remembers for seconds whose a token is.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use certmint_contract::issuance::AUDIENCE;
use certmint_contract::keys;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, DEFAULT_TIMEOUT, Observed};
use certmint_local_cluster::{progress, workload};
use serde_json::json;

use crate::audit::Mark;
use crate::figure::{Figure, Target};
use crate::inside::{Answer, Bundles, Call, Pace, Pod, Rounds, Task, Tokens, Verb};
use crate::process::{CONTROLLER, Process};
use crate::run::Run;
use crate::shared;
use crate::statistics::median;

const ROW: &str = "tokens";
const NAMESPACE: &str = "bench-tokens";
const SECRET: &str = "payments-certmint-tls";
/// Connections at one time: enough for both processors, and far from the 64 that one address may have.
const CLIENTS: usize = 8;
/// Pods of one Deployment.
const PODS: usize = 20;
/// Who is measured in each round: TokenReviews, ours, and the same calls.
const SIDES: usize = 3;

/// A pod that asks, with a token that nobody has seen.
struct Asker<'a> {
    pod: &'a Pod,
    token: &'a str,
}

/// How the rounds went.
#[derive(Default)]
struct Measured {
    reviews: Vec<Pace>,
    bundles: Vec<Pace>,
    same: Vec<Pace>,
    /// The controller's requests and its seconds of processor time for the bundles.
    calls: usize,
    cpu: f64,
}

/// From the connection to the end of the answer, which has the certificate.
pub(crate) fn tokens(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let (rounds, count) = if run.quick { (1, 40) } else { (3, 2_000) };
    shared::within(cluster, NAMESPACE, |kubectl| {
        let pods = pods(kubectl)?;
        let fresh = fresh(cluster, &pods, rounds * SIDES * count)?;
        let askers: Vec<Asker<'_>> =
            pods.iter().cycle().zip(&fresh).map(|(pod, token)| Asker { pod, token }).collect();
        let server = server(cluster, kubectl)?;
        let mut measured = Measured::default();
        for round in askers.chunks(SIDES * count) {
            measured.round(cluster, &server, round, count)?;
        }
        Ok(measured.figures())
    })
}

impl Measured {
    /// Each side with as many askers of its own, one side after the other.
    fn round(
        &mut self,
        cluster: &Cluster,
        server: &Bundles,
        askers: &[Asker<'_>],
        count: usize,
    ) -> Result<()> {
        let (for_reviews, others) = askers.split_at(count.min(askers.len()));
        let (for_bundles, for_same) = others.split_at(count.min(others.len()));
        let plain = |rounds| Task::Rounds(Rounds { rounds, clients: CLIENTS }).run::<Pace>(cluster);
        self.reviews.push(plain(for_reviews.iter().map(|asker| vec![review(asker)]).collect())?);
        let (mark, process) = (Mark::now(cluster)?, Process::only(cluster, CONTROLLER)?);
        let before = process.cpu()?;
        let tokens = for_bundles.iter().map(|asker| asker.token.to_owned()).collect();
        self.bundles.push(Task::Bundles(Bundles { tokens, ..server.clone() }).run(cluster)?);
        self.cpu += process.cpu()? - before;
        let calls = mark.since(cluster)?;
        self.calls += calls.reads + calls.reviews;
        self.same.push(plain(for_same.iter().map(calls_of_ours).collect())?);
        Ok(())
    }

    fn figures(&self) -> Vec<Figure> {
        let of = |side: &[Pace], part: fn(&Pace) -> f64| median(side.iter().map(part).collect());
        let count = self.bundles.iter().map(|pace| pace.count).sum::<usize>() as f64;
        let rate = of(&self.bundles, Pace::rate);
        let figure = |what: &str, value, unit| Figure::new(ROW, what, value, unit);
        let beside = |what: &str, part: fn(&Pace) -> f64| {
            figure(what, of(&self.bundles, part), "ms").beside("TokenReview", of(&self.reviews, part))
        };
        vec![
            figure("bundles over new TLS connections", rate, "/s")
                .beside("TokenReviews by a plain client", of(&self.reviews, Pace::rate))
                .target(Target::LeastTimes(0.7)),
            figure("bundles over new TLS connections", rate, "/s")
                .beside("the same calls by a plain client", of(&self.same, Pace::rate)),
            beside("p50", |pace| pace.p50),
            beside("p99", |pace| pace.p99),
            figure("API calls a bundle", self.calls as f64 / count, ""),
            figure("controller CPU a bundle", self.cpu / count * 1e3, "ms"),
        ]
    }
}

/// Pods that wait to be scheduled for ever, whose Deployment has its Secret.
fn pods(kubectl: &Kubectl<'_>) -> Result<Vec<Pod>> {
    let mut deployment =
        workload::manifest("deployment", "payments", "none", &json!({ (keys::INJECT): keys::TRUE }));
    deployment["spec"]["replicas"] = PODS.into();
    deployment["spec"]["template"]["spec"]["schedulingGates"] =
        json!([{ "name": "bench.certmint.dev/never" }]);
    kubectl.apply(&deployment.to_string())?;
    kubectl.apply(&workload::service("payments").to_string())?;
    let pods = wait::until("the pods and their Secret", DEFAULT_TIMEOUT, || {
        let pods = kubectl.list(&["pods"])?;
        let secret = kubectl.get(&["secret", SECRET])?;
        let named = secret["metadata"]["annotations"][keys::DNS_NAMES].is_string();
        Ok(if pods.len() == PODS && named {
            Observed::Yes(pods)
        } else {
            Observed::NotYet(format!("{} pods", pods.len()))
        })
    })?;
    pods.iter().map(Pod::of).collect()
}

/// As many tokens, of the pods in turn.
fn fresh(cluster: &Cluster, pods: &[Pod], count: usize) -> Result<Vec<String>> {
    let tokens = Task::Tokens(Tokens { pods: pods.to_vec(), count, clients: CLIENTS });
    let tokens: Vec<String> = progress::step(&format!("{count} tokens"), || tokens.run(cluster))?;
    let different = tokens.iter().collect::<BTreeSet<_>>().len();
    ensure!(different == count, "of {count} tokens only {different} differ");
    Ok(tokens)
}

/// What is asked, with no token yet.
fn server(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<Bundles> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let roots = kubectl.run(&[
        "get",
        "secret",
        SECRET,
        "--output=go-template={{index .data \"ca.crt\" | base64decode}}",
    ])?;
    Ok(Bundles {
        address: shared::address(&system, "app.kubernetes.io/component=controller")?,
        host: format!("certmint-controller.{SYSTEM_NAMESPACE}.svc"),
        roots,
        tokens: Vec::new(),
        clients: CLIENTS,
    })
}

fn review(asker: &Asker<'_>) -> Call {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": asker.token, "audiences": [AUDIENCE] },
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews".to_owned();
    Call { verb: Verb::Create, path, body: review.to_string(), answer: Answer::Whole }
}

/// What no answer can do without: whose token it is, whether the pod lives and whose it is, and the Secret.
fn calls_of_ours(asker: &Asker<'_>) -> Vec<Call> {
    let get = |path| {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{path}");
        Call { verb: Verb::Get, path, body: String::new(), answer: Answer::Whole }
    };
    vec![review(asker), get(format!("pods/{}", asker.pod.name)), get(format!("secrets/{SECRET}"))]
}
