//! A request's body, whole, within the limits.

use crate::Limits;
use bytes::{Bytes, BytesMut};
use certmint_contract::ErrorCode;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body and the room it holds in the budget of all bodies.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {0} bytes; send a shorter one")]
    TooLong(usize),
    #[error("the body did not arrive within {0:?}; send it faster")]
    TooSlow(std::time::Duration),
    #[error("too many large requests at one time; try again")]
    NoRoom,
    #[error("the body broke off: {0}; send it again")]
    Broken(#[from] hyper::Error),
}

impl BodyError {
    /// The code it is reported under.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NoRoom => ErrorCode::TooManyRequests,
            Self::TooLong(_) | Self::TooSlow(_) | Self::Broken(_) => ErrorCode::BadRequest,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

pub(crate) async fn read(
    body: Incoming,
    limits: &Limits,
    budget: &Arc<Semaphore>,
) -> Result<Held, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.body_bytes {
        return Err(BodyError::TooLong(limits.body_bytes));
    }
    tokio::time::timeout(limits.body, collect(body, limits.body_bytes, budget))
        .await
        .unwrap_or(Err(BodyError::TooSlow(limits.body)))
}

/// Room is taken as bytes arrive, not as they are announced: a sender that only promises holds nothing.
async fn collect(mut body: Incoming, longest: usize, budget: &Arc<Semaphore>) -> Result<Held, BodyError> {
    let mut bytes = Bytes::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > longest {
            return Err(BodyError::TooLong(longest));
        }
        let more = u32::try_from(data.len()).map_err(|_| BodyError::TooLong(longest))?;
        let more = Arc::clone(budget).try_acquire_many_owned(more).map_err(|_| BodyError::NoRoom)?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        bytes = joined(bytes, data);
    }
    Ok(Held { bytes, room })
}

/// Most bodies come in one piece, which is passed on as it is.
fn joined(head: Bytes, tail: Bytes) -> Bytes {
    if head.is_empty() {
        return tail;
    }
    let mut whole = BytesMut::from(head);
    whole.extend_from_slice(&tail);
    whole.freeze()
}
