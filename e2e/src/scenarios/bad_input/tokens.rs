//! Tokens at the issuance API, each reviewed by a real API server.

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::workload::{await_pods, manifest};
use certmint_local_cluster::{command, images};
use serde_json::{Value, json};

use crate::story::PATIENCE;

const NAME: &str = "bad-tokens";
/// The audience of the projected token.
const OURS: &str = "certmint.dev";
/// The API server's own audience.
const API_SERVER: &str = "https://kubernetes.default.svc.cluster.local";
/// What most are answered with.
const UNAUTHENTICATED: &str = "401 Unauthenticated";
/// `{"alg":"none"}`, as JWTs encode it.
const ALG_NONE: &str = "eyJhbGciOiJub25lIn0";
/// Asks for a bundle with the headers from standard input, and prints the body, then the status.
const ASK: &str = "curl --silent --insecure --http1.1 --request POST --max-time 30 --header @- \
    --write-out '\\n%{http_code}' https://certmint-controller.certmint-system.svc/v1/bundle";

/// Somebody in a pod, who has got hold of tokens.
struct Attacker<'a> {
    kubectl: &'a Kubectl<'a>,
}

/// What somebody shows, and what has to come of it.
struct Attempt {
    shows: &'static str,
    headers: String,
    answer: &'static str,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, installation::SHORT_LIVED)?;
    let (shop, elsewhere) =
        (namespace(cluster, NAME, &[])?, namespace(cluster, "bad-tokens-elsewhere", &[])?);
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("pods that opted in, and pods that did not", || pods(&shop, &elsewhere, &image))?;
    let tokens = Tokens::of(&shop, &elsewhere)?;
    let attacker = Attacker { kubectl: &elsewhere };
    for Attempt { shows, headers, answer } in misshapen(&tokens).into_iter().chain(strange(&tokens, &shop)?) {
        step(&format!("{shows}: {answer}"), || {
            let (found, _) = attacker.ask(&headers)?;
            ensure!(found == answer, "{shows} was answered with {found}, not {answer}");
            Ok(())
        })?;
    }
    // A token is what a pod is known by: whoever has it gets what that pod gets, from wherever they ask, until the
    // pod is gone or the hour is over. That is said in the documentation; here, that it is no more than that.
    step("a token from another pod gives its own pod's certificate, and no other", || {
        own_certificate(&attacker, &shop, &tokens.good)
    })?;
    step("no token stands in a log", || in_no_log(cluster, &tokens))?;
    note("certificate requests (CSRs) come with mode `pod`, which is not there yet");
    Ok(())
}

fn pods(shop: &Kubectl<'_>, elsewhere: &Kubectl<'_>, image: &str) -> Result<()> {
    let opted_in = json!({ "certmint.dev/inject": "true" });
    shop.apply(&manifest("pod", "payments", image, &opted_in).to_string())?;
    shop.apply(&manifest("pod", "brief", image, &json!({})).to_string())?;
    for namespace in [shop, elsewhere] {
        namespace.apply(&manifest("pod", "plain", image, &json!({})).to_string())?;
    }
    await_pods(shop, "payments", true)?;
    for (namespace, name) in [(shop, "brief"), (shop, "plain"), (elsewhere, "plain")] {
        await_pods(namespace, name, false)?;
    }
    Ok(())
}

/// Tokens for us.
struct Tokens {
    /// Of the pod that opted in.
    good: String,
    /// Of one beside it that did not.
    plain: String,
    /// Of one that is deleted.
    late: String,
    /// Of one of another namespace that did not opt in.
    foreign: String,
}

impl Tokens {
    fn of(shop: &Kubectl<'_>, elsewhere: &Kubectl<'_>) -> Result<Self> {
        let good = token(shop, Some("payments"), OURS)?;
        let plain = token(shop, Some("plain"), OURS)?;
        let late = token(shop, Some("brief"), OURS)?;
        shop.run(&["delete", "pod", "brief", &format!("--timeout={}s", PATIENCE.as_secs())])?;
        let foreign = token(elsewhere, Some("plain"), OURS)?;
        Ok(Self { good, plain, late, foreign })
    }
}

/// The good token, shown well and badly, and what is no token.
fn misshapen(Tokens { good, plain, .. }: &Tokens) -> [Attempt; 11] {
    [
        attempt("the pod's own token", bearer(good), "200"),
        attempt("the scheme in lower case", format!("authorization: bearer {good}"), "200"),
        attempt("no token", "X-Nothing: 1".into(), UNAUTHENTICATED),
        attempt("an empty token", "Authorization: Bearer ;".into(), UNAUTHENTICATED),
        attempt("another scheme", format!("Authorization: Basic {good}"), UNAUTHENTICATED),
        attempt("garbage", bearer("garbage"), UNAUTHENTICATED),
        attempt("what is not ASCII", bearer("é"), UNAUTHENTICATED),
        attempt("the same token twice", format!("{0}\n{0}", bearer(good)), UNAUTHENTICATED),
        attempt("two tokens", format!("{}\n{}", bearer(plain), bearer(good)), UNAUTHENTICATED),
        attempt("a token of 13 kB", bearer(&"a".repeat(13_000)), UNAUTHENTICATED),
        attempt("a token of 1 MB", bearer(&"a".repeat(1_000_000)), "431"),
    ]
}

/// Tokens for others, of others, and forged ones.
fn strange(Tokens { good, plain, late, foreign }: &Tokens, shop: &Kubectl<'_>) -> Result<[Attempt; 9]> {
    let ([head, _, signature], [_, claims, _]) = (parts(plain)?, parts(good)?);
    let for_api_server = token(shop, Some("payments"), API_SERVER)?;
    let for_vault = token(shop, Some("payments"), "vault")?;
    let of_no_pod = token(shop, None, OURS)?;
    let swapped = format!("{head}.{claims}.{signature}");
    Ok([
        attempt("a token for the API server", bearer(&for_api_server), UNAUTHENTICATED),
        attempt("a token for somebody else", bearer(&for_vault), UNAUTHENTICATED),
        attempt("a token that no pod is bound to", bearer(&of_no_pod), UNAUTHENTICATED),
        attempt("a token whose pod was deleted", bearer(late), UNAUTHENTICATED),
        attempt("claims under another token's signature", bearer(&swapped), UNAUTHENTICATED),
        attempt("claims without a signature", bearer(&format!("{head}.{claims}.")), UNAUTHENTICATED),
        attempt("alg: none", bearer(&format!("{ALG_NONE}.{claims}.")), UNAUTHENTICATED),
        attempt("a pod's that did not opt in", bearer(plain), "403 NotOptedIn"),
        attempt("a pod's of another namespace that did not opt in", bearer(foreign), "403 NotOptedIn"),
    ])
}

fn attempt(shows: &'static str, headers: String, answer: &'static str) -> Attempt {
    Attempt { shows, headers, answer }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// Head, claims and signature.
fn parts(token: &str) -> Result<[String; 3]> {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().ok().context("a token does not have three parts")
}

fn own_certificate(attacker: &Attacker<'_>, shop: &Kubectl<'_>, good: &str) -> Result<()> {
    let (_, bundle) = attacker.ask(&bearer(good))?;
    let secret = shop.get(&["secret", "payments-certmint-tls"])?;
    let serial = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str().unwrap_or_default();
    let shown = attacker.serial(bundle["certificate"].as_str().context("there is no certificate")?)?;
    ensure!(!serial.is_empty() && shown == serial, "the certificate is {shown}, the Secret's is {serial}");
    Ok(())
}

/// A token of the namespace's default account, bound to a pod.
fn token(kubectl: &Kubectl<'_>, pod: Option<&str>, audience: &str) -> Result<String> {
    let mut create = vec!["create", "token", "default", "--audience", audience];
    if let Some(pod) = pod {
        create.extend(["--bound-object-kind=Pod", "--bound-object-name", pod]);
    }
    Ok(kubectl.run(&create)?.trim().to_owned())
}

impl Attacker<'_> {
    /// Asks with those headers: the status and the code, and the whole answer.
    fn ask(&self, headers: &str) -> Result<(String, Value)> {
        let printed = self.shell(ASK, headers)?;
        let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or_default();
        Ok((format!("{} {code}", status.trim()).trim().to_owned(), body))
    }

    /// The serial number of a certificate, in the form of the Secret's annotation.
    fn serial(&self, pem: &str) -> Result<String> {
        let printed = self.shell("openssl x509 -noout -serial", pem)?;
        let serial = printed.trim().strip_prefix("serial=").context("openssl printed no serial")?;
        Ok(serial.to_lowercase())
    }

    fn shell(&self, script: &str, input: &str) -> Result<String> {
        let arguments = ["exec", "--stdin", "plain", "--container", "app", "--", "sh", "-c", script];
        command::output_with_input(&mut self.kubectl.command(&arguments), input)
    }
}

fn in_no_log(cluster: &Cluster, Tokens { good, plain, late, foreign }: &Tokens) -> Result<()> {
    let tokens = [good, plain, late, foreign];
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    for pod in kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let log = kubectl.logs(name, "controller")?;
        // What follows the claims is the secret part; a log that has only that has too much.
        let secrets = tokens.iter().filter_map(|token| token.rsplit('.').next());
        if let Some(token) = secrets.into_iter().find(|secret| log.contains(*secret)) {
            let line = log.lines().find(|line| line.contains(token)).unwrap_or_default();
            bail!("a token stands in the log of {name}: {line}");
        }
    }
    Ok(())
}
