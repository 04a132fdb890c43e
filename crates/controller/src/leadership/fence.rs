//! A client that writes only while this replica is the leader.

use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;

use super::{Term, leads};
use crate::api::NotLeading;

/// Wraps a client so that it sends reads always, but writes only while this replica is the leader.
///
/// Work is dropped at the end of a term. But a process that was paused can continue in the middle of its work, possibly
/// after another replica has taken over. Between this check and the network there is no further check; there the
/// resource version protects, which every replacement names.
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
