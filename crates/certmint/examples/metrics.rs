//! Prints the metrics of `certmint` as the tables of the reference page on metrics.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use certmint_contract::Policy;
use certmint_server::{Handler, ServingKeyPair};
use certmint_webhook::{Admission, Endpoint, Metrics};
use http::Request;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::runtime::Builder;

/// Label that a histogram adds to its own labels.
const BUCKET: &str = "le";

fn main() -> Result<(), Box<dyn Error>> {
    let key_pair = key_pair()?;
    let mut controller = certmint_controller::every_metric();
    certmint_server::metrics::register(&mut controller, Arc::clone(&key_pair));
    section("The controller", &controller)?;
    section("The webhook", &webhook(key_pair)?)
}

/// Returns a key pair with a certificate, so that the metric of its expiry is printed.
fn key_pair() -> Result<Arc<ServingKeyPair>, Box<dyn Error>> {
    let key_pair = ServingKeyPair::default();
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(["a".to_owned()])?.self_signed(&key)?;
    key_pair.replace(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())?;
    Ok(Arc::new(key_pair))
}

/// Returns all metrics of the webhook. Some of them appear with the first request, so this function sends a request
/// that is not a review.
fn webhook(key_pair: Arc<ServingKeyPair>) -> Result<Registry, Box<dyn Error>> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry, key_pair);
    let endpoint = Endpoint(Arc::new(Admission::new(Policy::default(), metrics)));
    let request = Request::post("/mutate").header("content-type", "application/json");
    let request = request.body(Bytes::from_static(b"null"))?;
    drop(Builder::new_current_thread().build()?.block_on(endpoint.handle(request)));
    Ok(registry)
}

fn section(title: &str, registry: &Registry) -> Result<(), Box<dyn Error>> {
    let mut exposition = String::new();
    encode(&mut exposition, registry)?;
    let (kinds, meanings) =
        (texts_by_metric(&exposition, "# TYPE "), texts_by_metric(&exposition, "# HELP "));
    println!("### {title}\n\n| name, type | labels | what it is |\n|---|---|---|");
    for (name, kind) in kinds {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let meaning = meanings.get(name).map_or("", |help| help.trim_end_matches('.'));
        println!("| `{name}{suffix}`<br>{kind} | {} | {meaning} |", labels(&exposition, name));
    }
    println!();
    Ok(())
}

/// Returns the text for each metric, from the lines that consist of `mark`, the metric's name and the text.
fn texts_by_metric<'a>(exposition: &'a str, mark: &str) -> BTreeMap<&'a str, &'a str> {
    exposition.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(' ')).collect()
}

/// Returns the labels of a metric's first sample.
fn labels(exposition: &str, name: &str) -> String {
    let sample = exposition.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        let known = ["{", " ", "_total", "_info", "_bucket", "_sum", "_count"];
        known.iter().any(|next| rest.starts_with(next)).then_some(rest)
    });
    let labels =
        sample.and_then(|rest| rest.split_once('{')?.1.split_once('}')).map_or("", |(labels, _)| labels);
    let names = labels.split(',').filter_map(|label| label.split_once('=').map(|(name, _)| name));
    let names: Vec<_> = names.filter(|name| *name != BUCKET).map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
