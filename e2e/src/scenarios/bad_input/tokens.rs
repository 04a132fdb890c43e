//! The scenario `bad-tokens` sends valid, malformed, foreign and forged tokens to the issuance API.
//!
//! An attacker's pod sends each request, and a real API server reviews the tokens. The scenario asserts status and
//! error code of each response. It also asserts that a valid token returns only its own pod's certificate, and that
//! no log of the controller contains a token.

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::DEFAULT_TIMEOUT;
use certmint_local_cluster::workload::{manifest, wait_for_injected_pods, wait_for_pods_without_injection};
use certmint_local_cluster::{command, images};
use serde_json::{Value, json};

const NAME: &str = "bad-tokens";
/// Audience of the projected token.
const CERTMINT_AUDIENCE: &str = "certmint.dev";
/// Audience of the API server.
const API_SERVER_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";
/// Response to most wrong tokens.
const UNAUTHENTICATED: &str = "401 Unauthenticated";
/// The header `{"alg":"none"}` of a JWT.
const ALG_NONE: &str = "eyJhbGciOiJub25lIn0";
/// Shell command that requests a bundle with the headers from standard input, and prints the body, then the status.
const REQUEST_BUNDLE: &str = "curl --silent --insecure --http1.1 --request POST --max-time 30 --header @- \
    --write-out '\\n%{http_code}' https://certmint-controller.certmint-system.svc/v1/bundle";

/// An attacker that has obtained tokens, and sends requests from a pod.
struct Attacker<'a> {
    kubectl: &'a Kubectl<'a>,
}

/// A request with a token, and the expected response.
struct Attempt {
    description: &'static str,
    headers: String,
    expected: &'static str,
}

pub(super) fn run(cluster: &Cluster) -> Result<()> {
    installation::install_and_wait(cluster, installation::ALLOW_SHORT_LIFETIMES)?;
    let (shop, elsewhere) =
        (create_namespace(cluster, NAME, &[])?, create_namespace(cluster, "bad-tokens-elsewhere", &[])?);
    let image = cluster.provide(&images::tools(cluster.cache())?)?;
    step("some pods opt in, and others do not", || start_pods(&shop, &elsewhere, &image))?;
    let tokens = Tokens::create(&shop, &elsewhere)?;
    let attacker = Attacker { kubectl: &elsewhere };
    let attempts = valid_or_malformed(&tokens).into_iter().chain(foreign_or_forged(&tokens, &shop)?);
    for Attempt { description, headers, expected } in attempts {
        step(&format!("the response to {description} is {expected}"), || {
            let (found, _) = attacker.request_bundle(&headers)?;
            ensure!(found == expected, "the response to {description} was {found}, not {expected}");
            Ok(())
        })?;
    }
    // The token identifies the pod. The documentation says that anyone who has the token gets the pod's certificate
    // until the pod is deleted or the token expires. This step asserts that the token gives nothing more than that.
    step("a stolen token returns its own pod's certificate and no other", || {
        assert_own_certificate(&attacker, &shop, &tokens.valid)
    })?;
    step("no log contains a token", || assert_not_logged(cluster, &tokens))?;
    note("certificate requests (CSRs) are part of mode `pod`, which does not exist yet");
    Ok(())
}

fn start_pods(shop: &Kubectl<'_>, elsewhere: &Kubectl<'_>, image: &str) -> Result<()> {
    let opted_in = json!({ "certmint.dev/inject": "true" });
    shop.apply(&manifest("pod", "payments", image, &opted_in).to_string())?;
    shop.apply(&manifest("pod", "brief", image, &json!({})).to_string())?;
    for namespace in [shop, elsewhere] {
        namespace.apply(&manifest("pod", "plain", image, &json!({})).to_string())?;
    }
    wait_for_injected_pods(shop, "payments")?;
    for (namespace, name) in [(shop, "brief"), (shop, "plain"), (elsewhere, "plain")] {
        wait_for_pods_without_injection(namespace, name)?;
    }
    Ok(())
}

/// Tokens for the audience of the issuance API.
struct Tokens {
    /// Token of a pod that opted in.
    valid: String,
    /// Token of a pod in the same namespace that did not opt in.
    not_opted_in: String,
    /// Token of a pod that was deleted.
    of_deleted_pod: String,
    /// Token of a pod in another namespace that did not opt in.
    other_namespace: String,
}

impl Tokens {
    /// Creates the tokens, and deletes the pod of one of them.
    fn create(shop: &Kubectl<'_>, elsewhere: &Kubectl<'_>) -> Result<Self> {
        let valid = create_token(shop, Some("payments"), CERTMINT_AUDIENCE)?;
        let not_opted_in = create_token(shop, Some("plain"), CERTMINT_AUDIENCE)?;
        let of_deleted_pod = create_token(shop, Some("brief"), CERTMINT_AUDIENCE)?;
        shop.run(&["delete", "pod", "brief", &format!("--timeout={}s", DEFAULT_TIMEOUT.as_secs())])?;
        let other_namespace = create_token(elsewhere, Some("plain"), CERTMINT_AUDIENCE)?;
        Ok(Self { valid, not_opted_in, of_deleted_pod, other_namespace })
    }
}

/// Returns attempts with the valid token in well-formed and malformed headers, and with texts that are not tokens.
fn valid_or_malformed(Tokens { valid, not_opted_in, .. }: &Tokens) -> [Attempt; 11] {
    [
        attempt("the pod's own token", bearer(valid), "200"),
        attempt("the scheme in lower case", format!("authorization: bearer {valid}"), "200"),
        attempt("no token", "X-Nothing: 1".into(), UNAUTHENTICATED),
        attempt("an empty token", "Authorization: Bearer ;".into(), UNAUTHENTICATED),
        attempt("another scheme", format!("Authorization: Basic {valid}"), UNAUTHENTICATED),
        attempt("garbage", bearer("garbage"), UNAUTHENTICATED),
        attempt("a token that is not ASCII", bearer("é"), UNAUTHENTICATED),
        attempt("the same token twice", format!("{0}\n{0}", bearer(valid)), UNAUTHENTICATED),
        attempt("two tokens", format!("{}\n{}", bearer(not_opted_in), bearer(valid)), UNAUTHENTICATED),
        attempt("a token of 13 kB", bearer(&"a".repeat(13_000)), UNAUTHENTICATED),
        attempt("a token of 1 MB", bearer(&"a".repeat(1_000_000)), "431"),
    ]
}

/// Returns attempts with tokens for other audiences, tokens of other pods, and forged tokens.
fn foreign_or_forged(tokens: &Tokens, shop: &Kubectl<'_>) -> Result<[Attempt; 9]> {
    let Tokens { valid, not_opted_in, of_deleted_pod, other_namespace } = tokens;
    let ([header, _, signature], [_, claims, _]) = (parts(not_opted_in)?, parts(valid)?);
    let for_api_server = create_token(shop, Some("payments"), API_SERVER_AUDIENCE)?;
    let for_vault = create_token(shop, Some("payments"), "vault")?;
    let of_no_pod = create_token(shop, None, CERTMINT_AUDIENCE)?;
    let swapped = format!("{header}.{claims}.{signature}");
    Ok([
        attempt("a token for the API server", bearer(&for_api_server), UNAUTHENTICATED),
        attempt("a token for another audience", bearer(&for_vault), UNAUTHENTICATED),
        attempt("a token that is not bound to a pod", bearer(&of_no_pod), UNAUTHENTICATED),
        attempt("a token whose pod was deleted", bearer(of_deleted_pod), UNAUTHENTICATED),
        attempt("claims with the signature of another token", bearer(&swapped), UNAUTHENTICATED),
        attempt("claims without a signature", bearer(&format!("{header}.{claims}.")), UNAUTHENTICATED),
        attempt("a token with alg: none", bearer(&format!("{ALG_NONE}.{claims}.")), UNAUTHENTICATED),
        attempt("a token of a pod that did not opt in", bearer(not_opted_in), "403 NotOptedIn"),
        attempt(
            "a token of a pod of another namespace that did not opt in",
            bearer(other_namespace),
            "403 NotOptedIn",
        ),
    ])
}

fn attempt(description: &'static str, headers: String, expected: &'static str) -> Attempt {
    Attempt { description, headers, expected }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// Returns header, claims and signature of a token.
fn parts(token: &str) -> Result<[String; 3]> {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().ok().context("a token does not have three parts")
}

fn assert_own_certificate(attacker: &Attacker<'_>, shop: &Kubectl<'_>, token: &str) -> Result<()> {
    let (_, bundle) = attacker.request_bundle(&bearer(token))?;
    let secret = shop.get(&["secret", "payments-certmint-tls"])?;
    let serial = secret["metadata"]["annotations"]["certmint.dev/serial"].as_str().unwrap_or_default();
    let certificate = bundle["certificate"].as_str().context("the bundle has no certificate")?;
    let received = attacker.serial(certificate)?;
    ensure!(
        !serial.is_empty() && received == serial,
        "the attacker received the certificate {received}, and the pod's Secret has {serial}"
    );
    Ok(())
}

/// Creates a token of the namespace's default account that is bound to the pod, if one is given.
fn create_token(kubectl: &Kubectl<'_>, pod: Option<&str>, audience: &str) -> Result<String> {
    let mut create = vec!["create", "token", "default", "--audience", audience];
    if let Some(pod) = pod {
        create.extend(["--bound-object-kind=Pod", "--bound-object-name", pod]);
    }
    Ok(kubectl.run(&create)?.trim().to_owned())
}

impl Attacker<'_> {
    /// Requests a bundle with these headers. Returns status and error code, and the whole body.
    fn request_bundle(&self, headers: &str) -> Result<(String, Value)> {
        let printed = self.shell(REQUEST_BUNDLE, headers)?;
        let (body, status) = printed.rsplit_once('\n').context("curl printed no status")?;
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or_default();
        Ok((format!("{} {code}", status.trim()).trim().to_owned(), body))
    }

    /// Returns the serial number of a certificate in the format of the Secret's annotation.
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

fn assert_not_logged(cluster: &Cluster, tokens: &Tokens) -> Result<()> {
    let Tokens { valid, not_opted_in, of_deleted_pod, other_namespace } = tokens;
    let tokens = [valid, not_opted_in, of_deleted_pod, other_namespace];
    let kubectl = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    for pod in kubectl.list(&["pods", "--selector=app.kubernetes.io/component=controller"])? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let log = kubectl.logs(name, "controller")?;
        // The signature is the secret part of a token, so a log must not contain even the signature alone.
        let signatures = tokens.iter().filter_map(|token| token.rsplit('.').next());
        if let Some(signature) = signatures.into_iter().find(|signature| log.contains(*signature)) {
            let line = log.lines().find(|line| line.contains(signature)).unwrap_or_default();
            bail!("the log of {name} contains a token: {line}");
        }
    }
    Ok(())
}
