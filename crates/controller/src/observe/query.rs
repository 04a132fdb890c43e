//! Lists objects and then follows their changes, with one object in memory at a time.
//!
//! kube's own watcher collects a whole page of a list before it decodes the page, and one object can have a MiB or
//! more.

use std::io;
use std::time::Duration;

use certmint_contract::{ErrorCode, Namespace};
use futures::{Stream, stream};
use kube::api::{ApiResource, ListParams, WatchParams};
use kube::core::Request;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::Deserialize;

use super::object::{WatchEvent, WatchedObject};
use super::object_stream::{ObjectStream, ResponseBody};

/// Time after which the API server ends a watch. The controller then starts a new watch from the version that the old
/// watch reached.
const WATCH_TIMEOUT_SECONDS: u32 = 60;
/// Time without data after which the controller stops waiting for a response, because the connection is probably dead.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(WATCH_TIMEOUT_SECONDS as u64 + 5);
/// Objects in one page of a list. The API server has a whole page in memory, the controller does not.
const PAGE_SIZE: u32 = 100;

/// Request for the objects of one kind that match the selectors.
#[derive(Clone)]
pub(crate) struct Query {
    client: Client,
    request: Request,
    labels: Option<String>,
    fields: Option<String>,
    metadata_only: bool,
}

/// Text of a list without its objects.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ListRemainder {
    metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}

/// Continuation after a page of a list.
enum AfterPage {
    /// There is another page. A request with this token returns it.
    NextPage { continue_token: String },
    /// There is no further page. The list shows the objects as they were at this version.
    Complete { version: String },
    /// The API server sent neither a token nor a version.
    NoVersion,
}

/// Position in the sequence of list and watch.
enum Position {
    /// Before the first page of a list.
    Start,
    /// Before a page of a list.
    BeforePage { continue_token: Option<String> },
    /// Within a page of a list.
    InPage(ObjectStream),
    /// After the list, or between two watches.
    BeforeWatch { version: String },
    /// Within the events of a watch.
    InWatch { version: String, events: ObjectStream },
}

/// Event for the caller, if there is one, and the position after it.
type Step = (Option<watcher::Result<Event<WatchedObject>>>, Position);

impl Query {
    /// Creates a query for the objects of a kind in one namespace, or in all.
    pub(crate) fn new(client: Client, resource: &ApiResource, namespace: Option<&Namespace>) -> Self {
        let request = Request::new(WatchedObject::url_path(resource, namespace.map(Namespace::as_str)));
        Self { client, request, labels: None, fields: None, metadata_only: false }
    }

    /// Restricts the query with a label selector.
    pub(crate) fn with_labels(self, selector: String) -> Self {
        Self { labels: Some(selector), ..self }
    }

    /// Restricts the query with a field selector.
    pub(crate) fn with_fields(self, selector: &str) -> Self {
        Self { fields: Some(selector.into()), ..self }
    }

    /// Asks for the metadata of the objects only.
    pub(crate) fn metadata_only(self) -> Self {
        Self { metadata_only: true, ..self }
    }

    /// Lists the objects and then follows their changes. The stream does not end. After an error it starts a new watch,
    /// or lists again if the list failed or the API server no longer knows the version.
    pub(crate) fn changes(self) -> impl Stream<Item = watcher::Result<Event<WatchedObject>>> + Send {
        stream::unfold((self, Position::Start), |(query, mut position)| async {
            let event = query.next_event(&mut position).await;
            Some((event, (query, position)))
        })
    }

    /// Lists the objects once and hands each of them to `each`.
    pub(super) async fn list(&self, mut each: impl FnMut(&WatchedObject)) -> Result<(), kube::Error> {
        let mut token = None;
        loop {
            let mut page = self.request_page(token).await?;
            while let Some(object) = next_of_page(&mut page).await? {
                each(&object);
            }
            match after_page(&page)? {
                AfterPage::NextPage { continue_token } => token = Some(continue_token),
                AfterPage::Complete { .. } | AfterPage::NoVersion => return Ok(()),
            }
        }
    }

    async fn request_page(&self, continue_token: Option<String>) -> Result<ObjectStream, kube::Error> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE_SIZE),
            continue_token,
            ..ListParams::default()
        };
        let request =
            if self.metadata_only { self.request.list_metadata(&params) } else { self.request.list(&params) };
        self.send(request).await.map(ObjectStream::of_list)
    }

    async fn request_watch(&self, version: &str) -> Result<ObjectStream, kube::Error> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_TIMEOUT_SECONDS),
            ..WatchParams::default()
        };
        let request = if self.metadata_only {
            self.request.watch_metadata(&params, version)
        } else {
            self.request.watch(&params, version)
        };
        self.send(request).await.map(ObjectStream::of_watch)
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<ResponseBody, kube::Error> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(Box::pin(self.client.request_stream(request).await?))
    }

    /// Moves the position forward until there is an event or an error for the caller.
    async fn next_event(&self, position: &mut Position) -> watcher::Result<Event<WatchedObject>> {
        loop {
            let (event, next) = match std::mem::replace(position, Position::Start) {
                Position::Start => (Some(Ok(Event::Init)), Position::BeforePage { continue_token: None }),
                Position::BeforePage { continue_token } => match self.request_page(continue_token).await {
                    Ok(page) => (None, Position::InPage(page)),
                    Err(error) => list_failed(error),
                },
                Position::InPage(page) => step_in_page(page).await,
                Position::BeforeWatch { version } => match self.request_watch(&version).await {
                    Ok(events) => (None, Position::InWatch { version, events }),
                    Err(error) => {
                        let next = if is_version_gone(&error) {
                            Position::Start
                        } else {
                            Position::BeforeWatch { version }
                        };
                        (Some(Err(watcher::Error::WatchStartFailed(error))), next)
                    }
                },
                Position::InWatch { version, events } => step_in_watch(version, events).await,
            };
            *position = next;
            if let Some(event) = event {
                return event;
            }
        }
    }
}

fn list_failed(error: kube::Error) -> Step {
    (Some(Err(watcher::Error::InitialListFailed(error))), Position::Start)
}

async fn step_in_page(mut page: ObjectStream) -> Step {
    match next_of_page(&mut page).await {
        Ok(Some(object)) => return (Some(Ok(Event::InitApply(object))), Position::InPage(page)),
        Ok(None) => {}
        Err(error) => return list_failed(error),
    }
    match after_page(&page) {
        Ok(AfterPage::NextPage { continue_token }) => {
            (None, Position::BeforePage { continue_token: Some(continue_token) })
        }
        Ok(AfterPage::Complete { version }) => (Some(Ok(Event::InitDone)), Position::BeforeWatch { version }),
        Ok(AfterPage::NoVersion) => (Some(Err(watcher::Error::NoResourceVersion)), Position::Start),
        Err(error) => list_failed(error),
    }
}

/// Returns the next readable object of a page; `None` at the end of the page.
async fn next_of_page(page: &mut ObjectStream) -> Result<Option<WatchedObject>, kube::Error> {
    loop {
        let next = tokio::time::timeout(SILENCE_TIMEOUT, page.next()).await;
        let next = next.unwrap_or_else(|_| Err(silence_error()));
        let Some(text) = next.map_err(kube::Error::ReadEvents)? else { return Ok(None) };
        match WatchedObject::read(&text) {
            Ok(object) => return Ok(Some(object)),
            Err(error) => warn_skipped(&error),
        }
    }
}

fn after_page(page: &ObjectStream) -> Result<AfterPage, kube::Error> {
    let remainder: ListRemainder =
        serde_json::from_slice(page.remainder()).map_err(kube::Error::SerdeError)?;
    let ListMetadata { resource_version, continue_token } = remainder.metadata;
    let is_set = |text: &String| !text.is_empty();
    Ok(match (continue_token.filter(is_set), resource_version.filter(is_set)) {
        (Some(continue_token), _) => AfterPage::NextPage { continue_token },
        (None, Some(version)) => AfterPage::Complete { version },
        (None, None) => AfterPage::NoVersion,
    })
}

async fn step_in_watch(version: String, mut events: ObjectStream) -> Step {
    let next = tokio::time::timeout(SILENCE_TIMEOUT, events.next()).await;
    let text = match next {
        Ok(Ok(Some(text))) => text,
        // The watch ended, or its connection is dead.
        Ok(Ok(None)) | Err(_) => return (None, Position::BeforeWatch { version }),
        Ok(Err(error)) => {
            let error = watcher::Error::WatchFailed(kube::Error::ReadEvents(error));
            return (Some(Err(error)), Position::BeforeWatch { version });
        }
    };
    let event = match WatchEvent::read(&text) {
        Ok(Some(event)) => event,
        Ok(None) => return (None, Position::InWatch { version, events }),
        Err(error) => {
            warn_skipped(&error);
            return (None, Position::InWatch { version, events });
        }
    };
    let version_of = |object: &WatchedObject| {
        let newer = object.metadata.resource_version.clone().filter(|version| !version.is_empty());
        newer.unwrap_or_else(|| version.clone())
    };
    match event {
        WatchEvent::Apply(object) => {
            let version = version_of(&object);
            (Some(Ok(Event::Apply(object))), Position::InWatch { version, events })
        }
        WatchEvent::Delete(object) => {
            let version = version_of(&object);
            (Some(Ok(Event::Delete(object))), Position::InWatch { version, events })
        }
        WatchEvent::Bookmark(object) => (None, Position::InWatch { version: version_of(&object), events }),
        WatchEvent::Error(status) => {
            let next = if status.code == 410 { Position::Start } else { Position::BeforeWatch { version } };
            (Some(Err(watcher::Error::WatchError(status))), next)
        }
    }
}

/// Returns whether the API server no longer has the version from which a watch was to start.
fn is_version_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

fn silence_error() -> io::Error {
    let message = format!("the API server sent nothing for {} s", SILENCE_TIMEOUT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn warn_skipped(error: &serde_json::Error) {
    let code = ErrorCode::UnreadableObject;
    tracing::warn!(%code, %error, "skipped an entry of a list or a watch that is not an object");
}
