//! AdmissionReview of `admission.k8s.io/v1`: decodes the fields that the webhook needs, and encodes the answer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmint_contract::{ErrorCode, excerpt};
use certmint_injection::Injection;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::text::printable_warning;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Request of the API server. The objects stay JSON text, so that objects without opt-in cost little.
#[derive(Debug)]
pub(crate) struct ReviewRequest<'a> {
    pub(crate) uid: Cow<'a, str>,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) group: Cow<'a, str>,
    pub(crate) operation: Cow<'a, str>,
    pub(crate) is_subresource: bool,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) object: Option<&'a str>,
    pub(crate) old_object: Option<&'a str>,
}

/// Error for a body that is not a valid AdmissionReview.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error("the body is not the JSON of an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "the body is \"{kind}\" of \"{version}\", not AdmissionReview of admission.k8s.io/v1; list v1 in the webhook's admissionReviewVersions"
    )]
    Version { kind: String, version: String },
    #[error("the AdmissionReview has no request.{0}; only an API server calls this path")]
    Missing(&'static str),
}

/// Decodes the review in the body of a request.
pub(crate) fn read(body: &[u8]) -> Result<ReviewRequest<'_>, ReviewError> {
    let review: WireReview<'_> = serde_json::from_slice(body)?;
    let (kind, version) = (review.kind, review.api_version);
    if kind != KIND || version != API_VERSION {
        return Err(ReviewError::Version { kind: excerpt(&kind), version: excerpt(&version) });
    }
    let request = review.request.ok_or(ReviewError::Missing("uid"))?;
    let is_present = |text: &Cow<'_, str>| !text.is_empty();
    let kind = request.kind.ok_or(ReviewError::Missing("kind"))?;
    Ok(ReviewRequest {
        uid: Some(request.uid).filter(is_present).ok_or(ReviewError::Missing("uid"))?,
        kind: kind.kind,
        group: kind.group,
        operation: Some(request.operation).filter(is_present).ok_or(ReviewError::Missing("operation"))?,
        is_subresource: is_present(&request.sub_resource),
        namespace: request.namespace,
        name: Some(request.name).filter(is_present),
        object: request.object.map(RawValue::get),
        old_object: request.old_object.map(RawValue::get),
    })
}

/// AdmissionReview with the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReviewAnswer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: WireResponse<'a>,
}

impl<'a> ReviewAnswer<'a> {
    pub(crate) fn allowed(uid: &'a str, injection: &Injection) -> Self {
        let Injection { patch, warnings } = injection;
        let mut response = WireResponse { uid, allowed: true, ..WireResponse::default() };
        response.warnings = warnings.iter().map(|warning| printable_warning(warning)).collect();
        if !patch.is_empty() {
            response.patch_type = Some("JSONPatch");
            response.patch = Some(STANDARD.encode(patch.json()));
        }
        Self::new(response)
    }

    pub(crate) fn rejected(uid: &'a str, code: ErrorCode, message: &str) -> Self {
        let message = format!("{code}: {message}");
        let status = Some(WireStatus { status: "Failure", code: http_status(code), message });
        Self::new(WireResponse { uid, allowed: false, status, ..WireResponse::default() })
    }

    fn new(response: WireResponse<'a>) -> Self {
        Self { api_version: API_VERSION, kind: KIND, response }
    }

    /// Encodes the answer as JSON.
    pub(crate) fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        // The capacity is enough for most answers, so that the patch is not copied while the text grows.
        let patch = self.response.patch.as_ref().map_or(0, String::len);
        let mut json = Vec::with_capacity(patch + 512);
        serde_json::to_writer(&mut json, self)?;
        Ok(json)
    }
}

/// Returns the HTTP status that the user's client gets from the API server.
fn http_status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::BadReview => 400,
        ErrorCode::NotAllowed => 403,
        ErrorCode::TooLate | ErrorCode::PodConflict => 409,
        _ => 422,
    }
}

// Wire format. A text that is missing or `null` becomes an empty text.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReview<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    api_version: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<WireRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    kind: Option<WireKind<'a>>,
    #[serde(borrow, default, deserialize_with = "text")]
    operation: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    sub_resource: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    namespace: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    name: Cow<'a, str>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireKind<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    group: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "text")]
    kind: Cow<'a, str>,
}

/// Decodes a text, borrowed from the body unless it has escapes.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    /// serde borrows into a `Cow` that is a field, but not into a `Cow` in an `Option`.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let found = Option::<Text<'a>>::deserialize(deserializer)?;
    Ok(found.map(|Text(text)| text).unwrap_or_default())
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireResponse<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<WireStatus>,
}

/// Fields of a `metav1.Status` that a rejection needs.
#[derive(Debug, Serialize)]
struct WireStatus {
    status: &'static str,
    code: u16,
    message: String,
}
