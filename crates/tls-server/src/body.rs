//! A request's body, whole, within the limits.

use crate::Limits;
use crate::callers::{Place, Room};
use bytes::Bytes;
use certmint_contract::ErrorCode;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use memmap2::MmapMut;
use std::sync::Arc;

/// From so many bytes on a body has pages of its own, which go back to the system with it. What an allocator gets back
/// in between what others hold, it keeps.
const OWN_PAGES: usize = 64 * 1024;

/// Bytes and the room that they hold among all bodies, given back when the last of them is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Storage,
    /// How many bytes there is room for.
    room: usize,
    rooms: Vec<Room>,
}

#[derive(Debug)]
enum Storage {
    Heap(Vec<u8>),
    /// Mapped for the longest that may come; a page takes memory when something is written to it.
    Pages {
        pages: MmapMut,
        length: usize,
    },
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
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
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
    let size = body.size_hint();
    let most = limits.body_bytes;
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
    let mut held = Held::new(longest).ok_or(BodyError::NoRoom)?;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let length = held.as_ref().len() + data.len();
        if length > most {
            return Err(BodyError::TooLong(most));
        }
        let doubled = (held.room * 2).min(longest);
        held.grow(length.max(doubled), place).await.ok_or(BodyError::NoRoom)?;
        // Copied in any case: a frame may be a byte of a buffer of many kilobytes, which it would keep.
        held.bytes.extend(&data).ok_or(BodyError::TooLong(longest))?;
    }
    Ok(Bytes::from_owner(held))
}

impl Held {
    /// Nothing yet, and at most `longest` bytes; `None` when the system has no pages for them.
    fn new(longest: usize) -> Option<Self> {
        let bytes = if longest < OWN_PAGES {
            Storage::Heap(Vec::new())
        } else {
            Storage::Pages { pages: MmapMut::map_anon(longest).ok()?, length: 0 }
        };
        Some(Self { bytes, room: 0, rooms: Vec::new() })
    }

    async fn grow(&mut self, room: usize, place: &Arc<Place>) -> Option<()> {
        if room > self.room {
            self.rooms.push(place.room(room - self.room).await?);
            self.room = room;
            if let Storage::Heap(bytes) = &mut self.bytes {
                bytes.reserve_exact(room - bytes.len());
            }
        }
        Some(())
    }
}

impl Storage {
    /// `None` when that is more than there are pages.
    fn extend(&mut self, data: &[u8]) -> Option<()> {
        match self {
            Self::Heap(bytes) => bytes.extend_from_slice(data),
            Self::Pages { pages, length } => {
                let end = *length + data.len();
                pages.get_mut(*length..end)?.copy_from_slice(data);
                *length = end;
            }
        }
        Some(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        match &self.bytes {
            Storage::Heap(bytes) => bytes,
            Storage::Pages { pages, length } => pages.get(..*length).unwrap_or_default(),
        }
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
