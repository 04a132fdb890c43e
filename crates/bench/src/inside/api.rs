//! Load on the API server, by the same client library that the controller uses.

use std::time::Instant;

use anyhow::{Context as _, Result};
use certmint_contract::issuance::AUDIENCE;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, Request, header};
use kube::Client;
use serde_json::{Value, json};

use super::connection::in_time;
use super::{Answer, Call, Pace, Pod, Rounds, Tokens, Verb, Write};

/// Writes the objects. They are answered with their metadata alone, as the controller asks for it.
pub(super) async fn write(write: Write) -> Result<Pace> {
    let Write { verb, path, body, numbers, step, clients } = write;
    let calls = numbers.step_by(step).map(|index| {
        vec![Call {
            verb,
            path: numbered(&path, index),
            body: numbered(&body, index),
            answer: Answer::Metadata,
        }]
    });
    timed(calls, clients).await
}

/// Makes each round of calls once.
pub(super) async fn rounds(rounds: Rounds) -> Result<Pace> {
    timed(rounds.rounds.into_iter(), rounds.clients).await
}

/// The tokens, in the order of their pods.
pub(super) async fn tokens(tokens: &Tokens) -> Result<Vec<String>> {
    let client = Client::try_default().await?;
    let Tokens { pods, count, clients } = tokens;
    let asked = stream::iter(pods.iter().cycle().take(*count)).map(async |pod| {
        let answer: Value = serde_json::from_str(&called(&client, token_request(pod)).await?)?;
        Ok(answer["status"]["token"].as_str().context("the API server gave no token")?.to_owned())
    });
    asked.buffered(*clients).try_collect().await
}

fn token_request(Pod { namespace, name, uid }: &Pod) -> Call {
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "audiences": [AUDIENCE],
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid },
        },
    });
    Call {
        verb: Verb::Create,
        path: format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token"),
        body: request.to_string(),
        answer: Answer::Whole,
    }
}

async fn timed(rounds: impl Iterator<Item = Vec<Call>>, clients: usize) -> Result<Pace> {
    let client = Client::try_default().await?;
    let begun = Instant::now();
    let took: Vec<f64> = stream::iter(rounds)
        .map(async |round| {
            let begun = Instant::now();
            for call in round {
                called(&client, call).await?;
            }
            anyhow::Ok(begun.elapsed().as_secs_f64() * 1e3)
        })
        .buffer_unordered(clients)
        .try_collect()
        .await?;
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

/// What the API server answers.
async fn called(client: &Client, call: Call) -> Result<String> {
    let Call { verb, path, body, answer } = call;
    let request = Request::builder().method(verb.method()).uri(&path).header(header::ACCEPT, answer.accept());
    let request = request.header(header::CONTENT_TYPE, "application/json").body(body.into_bytes())?;
    in_time(&path, async {
        client.request_text(request).await.with_context(|| format!("the API server refused {path}"))
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

impl Answer {
    fn accept(self) -> &'static str {
        match self {
            Self::Whole => "application/json",
            Self::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Self::MetadataList => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        }
    }
}

fn numbered(text: &str, index: usize) -> String {
    text.replace("{index}", &index.to_string())
        .replace("{ten}", &(index / 10).to_string())
        .replace("{hundred}", &(index / 100).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_by_its_number() {
        assert_eq!(numbered("bench-{hundred}/group-{ten}/w-{index}", 1234), "bench-12/group-123/w-1234");
    }

    #[test]
    fn a_token_is_asked_for_as_kubelet_does() {
        let pod = Pod { namespace: "shop".into(), name: "payments-0".into(), uid: "u-1".into() };
        let call = token_request(&pod);
        assert_eq!(call.path, "/api/v1/namespaces/shop/serviceaccounts/default/token");
        assert_eq!(call.verb.method(), Method::POST);
        let spec = &serde_json::from_str::<Value>(&call.body).unwrap()["spec"];
        assert_eq!(spec["audiences"], json!(["certmint.dev"]));
        assert_eq!(spec["boundObjectRef"]["uid"], "u-1");
    }
}
