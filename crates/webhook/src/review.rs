//! The AdmissionReview of `admission.k8s.io/v1`, as far as it is read, and its answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certmint_contract::ErrorCode;
use certmint_injection::Injection;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What the API server asks. The object stays text until it is known to concern us.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) uid: Cow<'a, str>,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) group: Cow<'a, str>,
    pub(crate) operation: Cow<'a, str>,
    pub(crate) subresource: bool,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) name: Option<Cow<'a, str>>,
    pub(crate) object: Option<&'a str>,
    pub(crate) before: Option<&'a str>,
}

/// Why a body is no review that can be answered as one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error("the body is not the JSON of an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "the body is \"{kind}\" of \"{version}\", not AdmissionReview of admission.k8s.io/v1; list v1 in the webhook's admissionReviewVersions"
    )]
    Version { kind: String, version: String },
    #[error("the AdmissionReview has no request.{0}; only an API server should ask here")]
    Missing(&'static str),
}

/// Reads a review.
pub(crate) fn read(body: &[u8]) -> Result<Request<'_>, ReviewError> {
    let review: Wire<'_> = serde_json::from_slice(body)?;
    let (kind, version) = (review.kind, review.api_version);
    if kind != KIND || version != API_VERSION {
        let shown = |text: &str| text.chars().take(80).collect();
        return Err(ReviewError::Version { kind: shown(&kind), version: shown(&version) });
    }
    let request = review.request.ok_or(ReviewError::Missing("uid"))?;
    let written = |text: &Cow<'_, str>| !text.is_empty();
    let kind = request.kind.ok_or(ReviewError::Missing("kind"))?;
    Ok(Request {
        uid: Some(request.uid).filter(written).ok_or(ReviewError::Missing("uid"))?,
        kind: kind.kind,
        group: kind.group,
        operation: Some(request.operation).filter(written).ok_or(ReviewError::Missing("operation"))?,
        subresource: written(&request.sub_resource),
        namespace: request.namespace,
        name: Some(request.name).filter(written),
        object: request.object.map(RawValue::get),
        before: request.old_object.map(RawValue::get),
    })
}

/// The answer to a review.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

impl<'a> Answer<'a> {
    pub(crate) fn allowed(uid: &'a str, injection: &Injection) -> Self {
        let Injection { patch, warnings } = injection;
        let mut response = Response::new(uid, true);
        response.warnings = warnings.iter().map(|warning| fitting(warning)).collect();
        if !patch.is_empty() {
            response.patch_type = Some("JSONPatch");
            response.patch = Some(STANDARD.encode(patch.json()));
        }
        Self::of(response)
    }

    pub(crate) fn denied(uid: &'a str, code: ErrorCode, message: &str) -> Self {
        let mut response = Response::new(uid, false);
        response.status = Some(Status {
            status: "Failure",
            code: status_code(code),
            message: format!("{code}: {message}"),
        });
        Self::of(response)
    }

    fn of(response: Response<'a>) -> Self {
        Self { api_version: API_VERSION, kind: KIND, response }
    }

    /// The JSON that the API server gets.
    pub(crate) fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        // Room for most of what stands around the patch, so that its text does not move while it grows.
        let patch = self.response.patch.as_ref().map_or(0, String::len);
        let mut json = Vec::with_capacity(patch + 512);
        serde_json::to_writer(&mut json, self)?;
        Ok(json)
    }
}

/// The HTTP status that the user's client gets.
fn status_code(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::BadReview => 400,
        ErrorCode::NotAllowed => 403,
        ErrorCode::TooLate | ErrorCode::PodConflict => 409,
        _ => 422,
    }
}

/// The API server cuts warnings at 256 characters when they are many; better whole words and a sign of the cut.
fn fitting(warning: &str) -> String {
    printable(warning, 250)
}

/// A refusal as it is told and logged. It quotes the object, whose names the API server has not judged yet: they may be
/// megabytes long, or hold line breaks that would forge a log.
pub(crate) fn told(refusal: &impl ToString) -> String {
    printable(&refusal.to_string(), 4096)
}

fn printable(text: &str, longest: usize) -> String {
    let (kept, cut) = match text.char_indices().nth(longest) {
        Some((end, _)) => (text.get(..end).unwrap_or_default(), "…"),
        None => (text, ""),
    };
    kept.replace(char::is_control, " ") + cut
}

// What is missing or `null` is empty here.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
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

/// Borrowed, unless it has escapes.
fn text<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    /// serde borrows into a `Cow` that is a field, not into one in an `Option`.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    let found = Option::<Text<'a>>::deserialize(deserializer)?;
    Ok(found.map(|Text(text)| text).unwrap_or_default())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl<'a> Response<'a> {
    fn new(uid: &'a str, allowed: bool) -> Self {
        Self { uid, allowed, patch_type: None, patch: None, warnings: Vec::new(), status: None }
    }
}

/// `metav1.Status`, as far as a denial needs it.
#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
    code: u16,
    message: String,
}
