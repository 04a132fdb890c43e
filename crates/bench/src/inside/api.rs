//! Load on the API server, by the same client library that the controller uses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Method, Request, header};
use kube::Client;

use super::{Call, Create, Pace, Repeat};

/// What is created is answered with its metadata alone, as the controller asks for it.
const METADATA_ALONE: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
/// An answer as a whole.
const ALL: HeaderValue = HeaderValue::from_static("application/json");

/// Creates the objects.
pub(super) async fn create(create: Create) -> Result<Pace> {
    let client = Client::try_default().await?;
    let Create { path, body, numbers, step, clients } = create;
    let begun = Instant::now();
    let created = stream::iter(numbers.step_by(step)).map(|index| {
        let call = Call { path: numbered(&path, index), body: Some(numbered(&body, index)) };
        let client = client.clone();
        async move { timed(&client, &[call], METADATA_ALONE).await }
    });
    let took: Vec<f64> = created.buffer_unordered(clients).try_collect().await?;
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

/// Makes the rounds of calls in turn, by each client from another one on.
pub(super) async fn repeat(repeat: Repeat) -> Result<Pace> {
    let client = Client::try_default().await?;
    let Repeat { rounds, clients, seconds } = repeat;
    let rounds = Arc::new(rounds);
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let workers = (0..clients).map(|first| {
        let (client, rounds) = (client.clone(), Arc::clone(&rounds));
        async move {
            let mut took = Vec::new();
            for round in rounds.iter().cycle().skip(first).step_by(clients) {
                if Instant::now() >= end {
                    break;
                }
                took.push(timed(&client, round, ALL).await?);
            }
            anyhow::Ok(took)
        }
    });
    let took = futures::future::try_join_all(workers).await?.concat();
    Ok(Pace::of(took, begun.elapsed().as_secs_f64()))
}

/// Milliseconds that the calls took, one after the other.
async fn timed(client: &Client, calls: &[Call], accept: HeaderValue) -> Result<f64> {
    let begun = Instant::now();
    for Call { path, body } in calls {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept.clone());
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body.clone().unwrap_or_default().into_bytes())?;
        client.request_text(request).await.with_context(|| format!("the API server refused {path}"))?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
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
}
