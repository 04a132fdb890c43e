//! What each input of the hostile caller has to come to.

/// An input and its outcome.
type Answer = (&'static str, &'static str);

/// From the webhook: bodies, and what a good review is answered in the end.
pub(super) const WEBHOOK: &[Answer] = &[
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
    ("a ConfigMap as if it were a Pod", "200 denied PodConflict"),
    ("v1beta1", "400 BadReview"),
    ("v99", "400 BadReview"),
    ("no uid", "400 BadReview"),
    ("100,000 deep", "400 BadReview"),
    // Depth where nobody looks is only text.
    ("100,000 deep where nobody looks", "200 patched"),
    ("100,000 unknown annotations", "200 denied BadReview"),
    ("300,000 names", "200 denied InvalidAnnotation"),
    ("gzip bomb", "415 BadRequest"),
    ("wrong content type", "415 BadRequest"),
    ("no content type", "415 BadRequest"),
    ("1,000 connections without a handshake", "200 patched"),
    ("100 requests that withhold their bodies", "200 patched"),
    ("body a byte a second", "408 BadRequest"),
    ("a body that nobody asked for", "405 BadRequest"),
];

/// From the issuance API, which asks for a token first.
pub(super) const CONTROLLER: &[Answer] = &[
    ("1,000 connections without a handshake", "401 Unauthenticated"),
    ("100 requests that withhold their bodies", "401 Unauthenticated"),
    // It takes no body, so that it waits for none.
    ("body a byte a second", "413 BadRequest"),
    ("a body that nobody asked for", "413 BadRequest"),
];

/// From both.
pub(super) const BOTH: &[Answer] = &[
    ("GET", "405 BadRequest"),
    ("another path", "404 BadRequest"),
    ("not HTTP", "400"),
    ("100 MB announced", "413 BadRequest"),
    ("100 MB unannounced", "413 BadRequest"),
    ("endless headers", "431"),
    ("1,000 headers", "431"),
    ("head a byte a second", "ended"),
    ("no request after the handshake", "ended"),
    ("no handshake", "ended"),
    ("handshake a byte a second", "ended"),
    ("garbage instead of TLS", "ended"),
    ("plain HTTP on the TLS port", "400 BadRequest"),
    ("TLS 1.2", "received fatal alert: ProtocolVersion"),
    ("no ALPN", "405 BadRequest"),
    ("unknown ALPN", "received fatal alert: NoApplicationProtocol"),
    ("HTTP/2", "received fatal alert: NoApplicationProtocol"),
    ("HTTP/2 that was not agreed upon", "ended"),
    ("1,000 connections to the probes' port", "200"),
];
