//! Requests to the API server, counted where they leave.

use super::{Metrics, labels::ApiRequest};
use http::{Method, Request, Uri};
use kube::{Client, client::Body};

/// The same API server, with every request counted once it is answered, or cannot be.
pub(crate) fn counted(client: Client, metrics: Metrics) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, metrics) = (client.clone(), metrics.clone());
        async move {
            let (resource, is_named) = target(request.uri());
            let verb = verb(request.method(), request.uri(), is_named);
            let answer = client.send(request).await;
            let status = match &answer {
                Ok(answer) => answer.status().as_str().to_owned(),
                Err(_) => "error".to_owned(),
            };
            metrics.api_requests.get_or_create(&ApiRequest { verb, resource, status }).inc();
            answer
        }
    });
    Client::new(service, namespace)
}

/// As in RBAC.
fn verb(method: &Method, uri: &Uri, is_named: bool) -> &'static str {
    let watches = || uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    match (method.as_str(), is_named) {
        ("GET", true) => "get",
        ("GET", false) if watches() => "watch",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    }
}

/// The resource of a path, and whether the path names one object.
fn target(uri: &Uri) -> (String, bool) {
    let mut parts = uri.path().trim_start_matches('/').split('/');
    // api/VERSION or apis/GROUP/VERSION
    let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
    let mut parts: Vec<_> = parts.skip(skipped).collect();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    (parts.first().map_or("other", |resource| resource).to_owned(), parts.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::api_server;
    use k8s_openapi::api::core::v1::Secret;
    use kube::{Api, api::ListParams};

    #[test]
    fn a_request_is_known_by_its_verb_and_resource() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/namespaces/shop/secrets/payments", ("get", "secrets")),
            (Method::GET, "/api/v1/secrets?limit=500", ("list", "secrets")),
            (Method::GET, "/apis/apps/v1/deployments?watch=true&timeoutSeconds=60", ("watch", "deployments")),
            (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", ("create", "tokenreviews")),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", ("update", "leases")),
            (Method::DELETE, "/api/v1/namespaces/shop/secrets/payments", ("delete", "secrets")),
            (Method::GET, "/api/v1/namespaces/shop", ("get", "namespaces")),
            (Method::GET, "/version", ("list", "other")),
        ] {
            let uri: Uri = path.parse().unwrap();
            let (resource, is_named) = target(&uri);
            assert_eq!((verb(&method, &uri, is_named), &*resource), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_counted_by_its_status() {
        let (client, mut server) = api_server();
        let metrics = Metrics::default();
        let secrets = Api::<Secret>::all(counted(client, metrics.clone()));
        let page = ListParams::default();
        let (refused, ()) = tokio::join!(secrets.list(&page), async {
            server.expect("GET", "/api/v1/secrets").await.fail(403, "Forbidden");
        });
        refused.unwrap_err();
        let request = ApiRequest { verb: "list", resource: "secrets".into(), status: "403".into() };
        assert_eq!(metrics.api_requests.get_or_create(&request).get(), 1);
    }
}
