//! A client that changes nothing unless this replica leads.

use super::{Term, leads};
use crate::api::NotLeading;
use http::{Method, Request};
use kube::{Client, client::Body};
use tokio::sync::watch;

/// The same API server, which is asked everything, but sent a change only while this replica leads.
///
/// Work is dropped at the end of a term, but a process that was stopped wakes up in the middle of its work,
/// perhaps after another has taken over. What is between this look and the wire is left to the version that
/// every replacement names.
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
