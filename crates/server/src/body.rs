//! Reads request bodies, and holds response bodies until they are sent, both within the limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certmint_contract::ErrorCode;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::Limits;
use crate::connection_limiter::{BytePermit, ConnectionPermit};

/// Request body with the permits for its bytes. The permits are given back when the last reference to the body is
/// dropped.
#[derive(Debug, Default)]
struct RequestBody {
    bytes: Vec<u8>,
    permits: Vec<BytePermit>,
}

/// Response body with the permit for its bytes.
struct ResponseBody {
    bytes: Bytes,
    _permit: BytePermit,
}

/// Error for a body that the server does not read or send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {0} bytes; send a shorter one")]
    TooLong(usize),
    #[error("this request must not have a body; send it without one")]
    NotAllowed,
    #[error("the body did not arrive within {0:?}; send it faster")]
    TooSlow(Duration),
    #[error("too many large requests at the same time; retry after a second")]
    TooManyBytes,
    #[error("the body is incomplete: {0}; send it again")]
    Incomplete(#[from] hyper::Error),
}

impl BodyError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) | Self::NotAllowed => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyBytes => StatusCode::SERVICE_UNAVAILABLE,
            Self::Incomplete(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the stable code.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::TooManyBytes => ErrorCode::TooManyRequests,
            _ => ErrorCode::BadRequest,
        }
    }
}

/// Reads a request's body.
pub(crate) async fn read(
    body: Incoming,
    limits: &Limits,
    permit: &Arc<ConnectionPermit>,
) -> Result<Bytes, BodyError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let (size, max) = (body.size_hint(), limits.max_body_bytes);
    if max == 0 {
        return Err(BodyError::NotAllowed);
    }
    let within_limit = |length: u64| usize::try_from(length).ok().filter(|length| *length <= max);
    let announced = within_limit(size.lower()).ok_or(BodyError::TooLong(max))?;
    // The announced length only limits the buffer. The server does not reserve memory for bytes that may never arrive.
    let capacity_limit = size.upper().map_or(max, |_| announced);
    tokio::time::timeout(limits.body_timeout, collect(body, capacity_limit, max, permit))
        .await
        .unwrap_or(Err(BodyError::TooSlow(limits.body_timeout)))
}

/// Collects the body. The function takes permits as bytes arrive, so a sender that only announces a long body occupies
/// no memory.
async fn collect(
    mut body: Incoming,
    capacity_limit: usize,
    max: usize,
    permit: &Arc<ConnectionPermit>,
) -> Result<Bytes, BodyError> {
    let mut collected = RequestBody::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = collected.bytes.len() + data.len();
        if length > max {
            return Err(BodyError::TooLong(max));
        }
        // The data is copied out of every frame: a frame of one byte can keep a buffer of many kilobytes in memory.
        let doubled = (collected.bytes.capacity() * 2).min(capacity_limit);
        collected.grow(length.max(doubled), permit).await?;
        collected.bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from_owner(collected))
}

impl RequestBody {
    async fn grow(&mut self, capacity: usize, permit: &Arc<ConnectionPermit>) -> Result<(), BodyError> {
        let more = capacity.saturating_sub(self.bytes.capacity());
        if more > 0 && capacity > self.bytes.len() {
            self.permits.push(permit.wait_for_bytes(more).await.ok_or(BodyError::TooManyBytes)?);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }
}

impl AsRef<[u8]> for RequestBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Waits for a permit for the bytes of a response's body, and returns the body with it. The permit is given back when
/// the body is sent, because a caller that does not read its responses occupies memory too.
pub(crate) async fn hold(
    body: Bytes,
    limits: &Limits,
    permit: &Arc<ConnectionPermit>,
) -> Result<Bytes, BodyError> {
    if body.is_empty() {
        return Ok(body);
    }
    let bytes = tokio::time::timeout(limits.body_timeout, permit.wait_for_bytes(body.len())).await;
    let permit = bytes.ok().flatten().ok_or(BodyError::TooManyBytes)?;
    Ok(Bytes::from_owner(ResponseBody { bytes: body, _permit: permit }))
}

impl AsRef<[u8]> for ResponseBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
