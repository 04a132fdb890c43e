//! A client that writes only while this replica is the leader.

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;

use super::{Term, leads};
use crate::api::NotLeading;

/// Wraps a client so that it always sends reads, but sends writes only while this replica is the leader.
///
/// Work is dropped at the end of a term. But a process that was paused can continue in the middle of its work, possibly
/// after another replica has become the leader. The process may also be paused after this check and before the request
/// is sent. Then the resource version protects Secrets: each replacement of a Secret contains the resource version, and
/// the API server rejects the replacement if the Secret has changed.
pub(crate) fn fenced(client: Client, terms: watch::Receiver<Term>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, terms) = (client.clone(), terms.clone());
        async move {
            if request.method() == Method::GET || leads(&terms) {
                client.send(request).await
            } else {
                Err(kube::Error::Service(NotLeading.into()))
            }
        }
    });
    Client::new(service, namespace)
}
