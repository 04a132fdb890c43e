//! The expected response to each input of the program `hostile`.

/// Name of an input, and the expected response.
type ExpectedResponse = (&'static str, &'static str);

/// Responses of the webhook.
pub(super) const WEBHOOK: &[ExpectedResponse] = &[
    ("review", "200 patched"),
    ("charset parameter", "200 patched"),
    ("empty", "400 BadReview"),
    ("truncated", "400 BadReview"),
    ("null", "400 BadReview"),
    ("empty object", "400 BadReview"),
    ("empty list", "400 BadReview"),
    ("no request", "400 BadReview"),
    ("a ConfigMap instead", "400 BadReview"),
    ("a review of a ConfigMap", "200 allowed"),
    ("a ConfigMap as if it were a Pod", "200 rejected PodConflict"),
    ("v1beta1", "400 BadReview"),
    ("v99", "400 BadReview"),
    ("no uid", "400 BadReview"),
    ("100,000 deep", "400 BadReview"),
    // The webhook does not parse this part of the object, so its depth does not matter.
    ("100,000 deep in an ignored field", "200 patched"),
    ("100,000 unknown annotations", "200 rejected BadReview"),
    ("300,000 names", "200 rejected InvalidAnnotation"),
    ("gzip bomb", "415 BadRequest"),
    ("wrong content type", "415 BadRequest"),
    ("no content type", "415 BadRequest"),
    ("1,000 connections without a handshake", "200 patched"),
    ("100 requests that withhold their bodies", "200 patched"),
    ("body at one byte per second", "408 BadRequest"),
    ("unexpected body", "405 BadRequest"),
];

/// Responses of the controller's issuance API. The requests have no token.
pub(super) const CONTROLLER: &[ExpectedResponse] = &[
    ("1,000 connections without a handshake", "401 Unauthenticated"),
    ("100 requests that withhold their bodies", "401 Unauthenticated"),
    // The issuance API does not accept a body, so it does not wait for the body.
    ("body at one byte per second", "413 BadRequest"),
    ("unexpected body", "413 BadRequest"),
];

/// Responses of both servers.
pub(super) const BOTH: &[ExpectedResponse] = &[
    ("GET", "405 BadRequest"),
    ("another path", "404 BadRequest"),
    ("not HTTP", "400"),
    ("100 MB announced", "413 BadRequest"),
    ("100 MB unannounced", "413 BadRequest"),
    ("endless headers", "431"),
    ("1,000 headers", "431"),
    ("head at one byte per second", "ended"),
    ("no request after the handshake", "ended"),
    ("no handshake", "ended"),
    ("handshake at one byte per second", "ended"),
    ("garbage instead of TLS", "ended"),
    ("plain HTTP on the TLS port", "400 BadRequest"),
    ("TLS 1.2", "received fatal alert: ProtocolVersion"),
    ("no ALPN", "405 BadRequest"),
    ("unknown ALPN", "received fatal alert: NoApplicationProtocol"),
    ("HTTP/2", "received fatal alert: NoApplicationProtocol"),
    ("HTTP/2 without negotiation", "ended"),
    ("1,000 connections to the probes' port", "200"),
];
