//! Counts the requests to the API server, in a wrapper around the client.

use http::{Method, Request, Uri};
use kube::Client;
use kube::client::Body;

use super::Metrics;
use super::labels::ApiRequestLabels;

/// Wraps a client so that every request is counted after its response or failure.
pub(crate) fn counted(client: Client, metrics: Metrics) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, metrics) = (client.clone(), metrics.clone());
        async move {
            let (resource, is_named) = target(request.uri());
            let verb = verb(request.method(), request.uri(), is_named);
            let response = client.send(request).await;
            let status = match &response {
                Ok(response) => response.status().as_str().to_owned(),
                Err(_) => "error".to_owned(),
            };
            metrics.api_requests.get_or_create(&ApiRequestLabels { verb, resource, status }).inc();
            response
        }
    });
    Client::new(service, namespace)
}

/// Returns the verb as in an RBAC rule.
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

/// Returns the resource of a path, and whether the path names one object.
fn target(uri: &Uri) -> (String, bool) {
    let mut parts = uri.path().trim_start_matches('/').split('/');
    // The path begins with api/VERSION or apis/GROUP/VERSION.
    let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
    let mut parts: Vec<_> = parts.skip(skipped).collect();
    if parts.first() == Some(&"namespaces") && parts.len() > 2 {
        parts.drain(..2);
    }
    (parts.first().map_or("other", |resource| resource).to_owned(), parts.len() > 1)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;
    use kube::api::ListParams;

    use super::*;
    use crate::testing::api_server;

    #[test]
    fn derives_verb_and_resource_from_a_request() {
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
    async fn counts_a_response_by_its_status() {
        let (client, mut server) = api_server();
        let metrics = Metrics::default();
        let secrets = Api::<Secret>::all(counted(client, metrics.clone()));
        let page = ListParams::default();
        let (refused, ()) = tokio::join!(secrets.list(&page), async {
            server.expect("GET", "/api/v1/secrets").await.fail(403, "Forbidden");
        });
        refused.unwrap_err();
        let request = ApiRequestLabels { verb: "list", resource: "secrets".into(), status: "403".into() };
        assert_eq!(metrics.api_requests.get_or_create(&request).get(), 1);
    }
}
