//! Row `tokens`: the issuance API with real TokenReviews. The baseline is a plain client of the API server. Each token
//! is used once, because the API server caches the result of a token's authentication for some seconds.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use certmint_contract::issuance::AUDIENCE;
use certmint_contract::keys;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{progress, workload};
use serde_json::json;

use crate::audit::Mark;
use crate::common;
use crate::in_cluster::{
    ApiCall, BundleRequests, CallRounds, Pod, ResponseForm, Task, Timings, TokenRequests, Verb,
};
use crate::process::{CONTROLLER, Process};
use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::statistics::median;

const ROW: &str = "tokens";
const NAMESPACE: &str = "bench-tokens";
const SECRET: &str = "payments-certmint-tls";
/// Number of connections at the same time, far below the limit of 64 that the issuance API has for one address.
const CLIENTS: usize = 8;
/// Number of the Deployment's pods.
const PODS: usize = 20;
/// Number of sides, the groups of requests that a round compares: TokenReviews, bundles, and the API calls that a
/// bundle needs.
const SIDES: usize = 3;

/// A pod and a token that was not used before.
struct Requester<'a> {
    pod: &'a Pod,
    token: &'a str,
}

/// Results of the rounds.
#[derive(Default)]
struct TokenRounds {
    /// Timings of TokenReviews by the plain client.
    reviews: Vec<Timings>,
    /// Timings of requests to the issuance API.
    bundles: Vec<Timings>,
    /// Timings of the API calls that a bundle needs, made by the plain client.
    same_calls: Vec<Timings>,
    /// Number of the controller's API requests for the bundles.
    calls: usize,
    /// Processor time of the controller for the bundles, in seconds.
    cpu: f64,
}

/// Measures the time from the start of the connection to the end of the response with the certificate.
pub(crate) fn tokens(run: &Run) -> Result<Vec<Measurement>> {
    let cluster = run.installation()?;
    let (rounds, count) = if run.quick { (1, 40) } else { (3, 2_000) };
    common::in_namespace(cluster, NAMESPACE, |kubectl| {
        let pods = pods(kubectl)?;
        let tokens = new_tokens(cluster, &pods, rounds * SIDES * count)?;
        let requesters: Vec<Requester<'_>> =
            pods.iter().cycle().zip(&tokens).map(|(pod, token)| Requester { pod, token }).collect();
        let server = issuance_api(cluster, kubectl)?;
        let mut measured = TokenRounds::default();
        for round in requesters.chunks(SIDES * count) {
            measured.round(cluster, &server, round, count)?;
        }
        Ok(measured.measurements())
    })
}

impl TokenRounds {
    /// Measures each of the three sides once, with `count` tokens for each.
    fn round(
        &mut self,
        cluster: &Cluster,
        server: &BundleRequests,
        requesters: &[Requester<'_>],
        count: usize,
    ) -> Result<()> {
        let (for_reviews, others) = requesters.split_at(count.min(requesters.len()));
        let (for_bundles, for_same) = others.split_at(count.min(others.len()));
        let run_plain_calls =
            |rounds| Task::Rounds(CallRounds { rounds, clients: CLIENTS }).run::<Timings>(cluster);
        self.reviews
            .push(run_plain_calls(for_reviews.iter().map(|requester| vec![review(requester)]).collect())?);
        let (mark, process) = (Mark::now(cluster)?, Process::only(cluster, CONTROLLER)?);
        let before = process.cpu()?;
        let tokens = for_bundles.iter().map(|requester| requester.token.to_owned()).collect();
        self.bundles.push(Task::Bundles(BundleRequests { tokens, ..server.clone() }).run(cluster)?);
        self.cpu += process.cpu()? - before;
        let calls = mark.since(cluster)?;
        self.calls += calls.reads + calls.reviews;
        self.same_calls.push(run_plain_calls(for_same.iter().map(calls_of_a_bundle).collect())?);
        Ok(())
    }

    fn measurements(&self) -> Vec<Measurement> {
        let median_of = |side: &[Timings], part: fn(&Timings) -> f64| median(side.iter().map(part).collect());
        let count = self.bundles.iter().map(|timings| timings.count).sum::<usize>() as f64;
        let rate = median_of(&self.bundles, Timings::rate);
        let measurement = |what: &str, value, unit| Measurement::new(ROW, what, value, unit);
        let timing = |what: &str, part: fn(&Timings) -> f64| {
            measurement(what, median_of(&self.bundles, part), "ms")
                .compared_with("only a TokenReview", median_of(&self.reviews, part))
        };
        vec![
            measurement("bundles over new TLS connections", rate, "/s")
                .compared_with("TokenReviews by a plain client", median_of(&self.reviews, Timings::rate))
                .target(Target::MinTimes(0.7)),
            measurement("bundles over new TLS connections", rate, "/s").compared_with(
                "the same calls by a plain client",
                median_of(&self.same_calls, Timings::rate),
            ),
            timing("time for a bundle, p50", |timings| timings.p50),
            timing("time for a bundle, p99", |timings| timings.p99),
            measurement("API calls for each bundle", self.calls as f64 / count, ""),
            measurement("controller CPU for each bundle", self.cpu / count * 1e3, "ms"),
        ]
    }
}

/// Creates pods that are never scheduled, and waits for their Deployment's Secret.
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
            Check::Passed(pods)
        } else {
            Check::NotYet(format!("{} pods", pods.len()))
        })
    })?;
    pods.iter().map(Pod::of).collect()
}

/// Requests `count` tokens for the pods in turn.
fn new_tokens(cluster: &Cluster, pods: &[Pod], count: usize) -> Result<Vec<String>> {
    let tokens = Task::Tokens(TokenRequests { pods: pods.to_vec(), count, clients: CLIENTS });
    let tokens: Vec<String> = progress::step(&format!("{count} tokens"), || tokens.run(cluster))?;
    let different = tokens.iter().collect::<BTreeSet<_>>().len();
    ensure!(different == count, "of {count} tokens only {different} are different");
    Ok(tokens)
}

/// Returns a request to the issuance API without tokens.
fn issuance_api(cluster: &Cluster, kubectl: &Kubectl<'_>) -> Result<BundleRequests> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let roots = kubectl.run(&[
        "get",
        "secret",
        SECRET,
        "--output=go-template={{index .data \"ca.crt\" | base64decode}}",
    ])?;
    Ok(BundleRequests {
        address: common::address(&system, "app.kubernetes.io/component=controller")?,
        host: format!("certmint-controller.{SYSTEM_NAMESPACE}.svc"),
        roots,
        tokens: Vec::new(),
        clients: CLIENTS,
    })
}

fn review(requester: &Requester<'_>) -> ApiCall {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": requester.token, "audiences": [AUDIENCE] },
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews".to_owned();
    ApiCall { verb: Verb::Create, path, body: review.to_string(), response_form: ResponseForm::Whole }
}

/// Returns the API calls that every response of the issuance API needs: a TokenReview, the pod, and the Secret.
fn calls_of_a_bundle(requester: &Requester<'_>) -> Vec<ApiCall> {
    let get = |path| {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/{path}");
        ApiCall { verb: Verb::Get, path, body: String::new(), response_form: ResponseForm::Whole }
    };
    vec![review(requester), get(format!("pods/{}", requester.pod.name)), get(format!("secrets/{SECRET}"))]
}
