//! Load on the API server, with the client library that the controller uses.

use std::time::Instant;

use anyhow::{Context as _, Result};
use certmint_contract::issuance::AUDIENCE;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, header};
use kube::Client;
use serde_json::{Value, json};

use super::connection::with_timeout;
use super::{ApiCall, CallRounds, ObjectWrites, Pod, ResponseForm, Timings, TokenRequests, Verb};

/// Writes objects. The responses contain only metadata, as in the controller.
pub(super) async fn write(write: ObjectWrites) -> Result<Timings> {
    let ObjectWrites { verb, path, body, numbers, step, clients } = write;
    let calls = numbers.step_by(step).map(|index| {
        vec![ApiCall {
            verb,
            path: fill_placeholders(&path, index),
            body: fill_placeholders(&body, index),
            response_form: ResponseForm::Metadata,
        }]
    });
    run_and_time(calls, clients).await
}

/// Makes each round of calls once.
pub(super) async fn rounds(rounds: CallRounds) -> Result<Timings> {
    run_and_time(rounds.rounds.into_iter(), rounds.clients).await
}

/// Requests tokens, and returns them in the order of their pods.
pub(super) async fn tokens(tokens: &TokenRequests) -> Result<Vec<String>> {
    let client = Client::try_default().await?;
    let TokenRequests { pods, count, clients } = tokens;
    let tokens = stream::iter(pods.iter().cycle().take(*count)).map(async |pod| {
        let answer: Value = serde_json::from_str(&make_call(&client, token_request(pod)).await?)?;
        Ok(answer["status"]["token"].as_str().context("the API server returned no token")?.to_owned())
    });
    tokens.buffered(*clients).try_collect().await
}

fn token_request(Pod { namespace, name, uid }: &Pod) -> ApiCall {
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [AUDIENCE],
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid },
        },
    });
    ApiCall {
        verb: Verb::Create,
        path: format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token"),
        body: request.to_string(),
        response_form: ResponseForm::Whole,
    }
}

async fn run_and_time(rounds: impl Iterator<Item = Vec<ApiCall>>, clients: usize) -> Result<Timings> {
    let client = Client::try_default().await?;
    let begun = Instant::now();
    let took: Vec<f64> = stream::iter(rounds)
        .map(async |round| {
            let begun = Instant::now();
            for call in round {
                make_call(&client, call).await?;
            }
            anyhow::Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
        .buffer_unordered(clients)
        .try_collect()
        .await?;
    Ok(Timings::of(took, begun.elapsed().as_secs_f64()))
}

/// Makes a call, and returns the body of the response.
async fn make_call(client: &Client, call: ApiCall) -> Result<String> {
    let ApiCall { verb, path, body, response_form } = call;
    let request =
        Request::builder().method(verb.method()).uri(&path).header(header::ACCEPT, response_form.accept());
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body.into_bytes())?;
    with_timeout(&path, async {
        client.request_text(request).await.with_context(|| format!("the API server rejected {path}"))
    })
    .await
}

impl Verb {
    fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Create => Method::POST,
            Self::Update => Method::PUT,
        }
    }
}

impl ResponseForm {
    fn accept(self) -> &'static str {
        match self {
            Self::Whole => "application/json",
            Self::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Self::MetadataList => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        }
    }
}

fn fill_placeholders(text: &str, index: usize) -> String {
    text.replace("{index}", &index.to_string())
        .replace("{ten}", &(index / 10).to_string())
        .replace("{hundred}", &(index / 100).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced() {
        assert_eq!(
            fill_placeholders("bench-{hundred}/group-{ten}/w-{index}", 1234),
            "bench-12/group-123/w-1234"
        );
    }

    #[test]
    fn tokens_are_requested_as_by_the_kubelet() {
        let pod = Pod { namespace: "shop".into(), name: "payments-0".into(), uid: "u-1".into() };
        let call = token_request(&pod);
        assert_eq!(call.path, "/api/v1/namespaces/shop/serviceaccounts/default/token");
        assert_eq!(call.verb.method(), Method::POST);
        let spec = &serde_json::from_str::<Value>(&call.body).unwrap()["spec"];
        assert_eq!(spec["audiences"], json!(["certmint.dev"]));
        assert_eq!(spec["boundObjectRef"]["uid"], "u-1");
    }
}
