//! A request's body, whole, within the limits.

use crate::Limits;
use crate::callers::{Place, Room};
use bytes::Bytes;
use certmint_contract::ErrorCode;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;

/// Bytes and the room that they hold among all bodies, given back when the last of them is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    rooms: Vec<Room>,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {0} bytes; send a shorter one")]
    TooLong(usize),
    #[error("this request takes no body; send none")]
    Unwanted,
    #[error("the body did not arrive within {0:?}; send it faster")]
    TooSlow(std::time::Duration),
    #[error("too many large requests at one time; try again")]
    NoRoom,
    #[error("the body broke off: {0}; send it again")]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) | Self::Unwanted => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The code it is reported under.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NoRoom => ErrorCode::TooManyRequests,
            _ => ErrorCode::BadRequest,
        }
    }
}

pub(crate) async fn read(body: Incoming, limits: &Limits, place: &Arc<Place>) -> Result<Bytes, BodyError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let (size, most) = (body.size_hint(), limits.body_bytes);
    if most == 0 {
        return Err(BodyError::Unwanted);
    }
    let fits = |length: u64| usize::try_from(length).ok().filter(|length| *length <= most);
    let announced = fits(size.lower()).ok_or(BodyError::TooLong(most))?;
    // What a sender announces is believed only as far as that it will not be more.
    let longest = size.upper().map_or(most, |_| announced);
    tokio::time::timeout(limits.body, collect(body, longest, most, place))
        .await
        .unwrap_or(Err(BodyError::TooSlow(limits.body)))
}

/// Room is taken as bytes arrive, not as they are announced: a sender that only promises holds nothing.
async fn collect(
    mut body: Incoming,
    longest: usize,
    most: usize,
    place: &Arc<Place>,
) -> Result<Bytes, BodyError> {
    let mut held = Held::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = held.bytes.len() + data.len();
        if length > most {
            return Err(BodyError::TooLong(most));
        }
        // Copied in any case: a frame may be a byte of a buffer of many kilobytes, which it would keep.
        let doubled = (held.bytes.capacity() * 2).min(longest);
        held.grow(length.max(doubled), place).await.ok_or(BodyError::NoRoom)?;
        held.bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from_owner(held))
}

impl Held {
    async fn grow(&mut self, capacity: usize, place: &Arc<Place>) -> Option<()> {
        let more = capacity.saturating_sub(self.bytes.capacity());
        if more > 0 && capacity > self.bytes.len() {
            self.rooms.push(place.room(more).await?);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Some(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A response's body, which holds room until it is sent: a caller that asks and never reads holds memory too.
pub(crate) async fn held(body: Bytes, limits: &Limits, place: &Arc<Place>) -> Result<Bytes, BodyError> {
    if body.is_empty() {
        return Ok(body);
    }
    let room = tokio::time::timeout(limits.body, place.room(body.len())).await;
    let room = room.ok().flatten().ok_or(BodyError::NoRoom)?;
    Ok(Bytes::from_owner(Response { body, _room: room }))
}

struct Response {
    body: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Response {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}
