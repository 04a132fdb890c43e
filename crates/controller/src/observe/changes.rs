//! Lists objects and then follows their changes, one object in memory at a time.

use super::{
    decode::{Seen, Told},
    pieces::{Body, Pieces},
};
use certmint_contract::{ErrorCode, Namespace};
use futures::{Stream, stream};
use kube::{
    Client, Resource,
    api::{ApiResource, ListParams, WatchParams},
    core::Request,
    runtime::watcher::{self, Event},
};
use serde::Deserialize;
use std::{io, time::Duration};

/// After this time the API server ends a watch, which then goes on where it was.
const WATCH_SECONDS: u32 = 60;
/// An answer of which nothing was heard for that long is given up: its connection is dead.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// Objects in one piece of a list. The API server holds them all at once; we do not.
const PAGE: u32 = 100;

/// Which objects are asked for.
#[derive(Clone)]
pub(super) struct Query {
    client: Client,
    request: Request,
    labels: Option<String>,
    fields: Option<String>,
    metadata_only: bool,
}

/// What a list has beside its objects.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Rest {
    metadata: ListMeta,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    token: Option<String>,
}

/// What follows a page of a list.
enum Next {
    Page(String),
    /// The list is complete as of this version.
    Nothing(String),
}

enum State {
    Empty,
    Page(Option<String>),
    Listing(Pieces),
    Listed(String),
    Watching(String, Pieces),
}

impl Query {
    /// Objects of that kind, in one namespace or in all.
    pub(super) fn new(client: Client, resource: &ApiResource, namespace: Option<&Namespace>) -> Self {
        let request = Request::new(Seen::url_path(resource, namespace.map(Namespace::as_str)));
        Self { client, request, labels: None, fields: None, metadata_only: false }
    }

    /// Only those with these labels.
    pub(super) fn labelled(self, selector: String) -> Self {
        Self { labels: Some(selector), ..self }
    }

    /// Only those with these fields.
    pub(super) fn with_fields(self, selector: &str) -> Self {
        Self { fields: Some(selector.into()), ..self }
    }

    /// Only their metadata.
    pub(super) fn metadata_only(self) -> Self {
        Self { metadata_only: true, ..self }
    }

    /// Lists, and then follows, for ever; after an error it goes on as that allows.
    pub(super) fn changes(self) -> impl Stream<Item = watcher::Result<Event<Seen>>> + Send {
        stream::unfold((self, State::Empty), |(query, mut state)| async {
            let next = query.next(&mut state).await;
            Some((next, (query, state)))
        })
    }

    /// Hands over every object there is.
    pub(super) async fn list(&self, mut each: impl FnMut(&Seen)) -> Result<(), kube::Error> {
        let mut token = None;
        loop {
            let mut pieces = self.page(token).await?;
            while let Some(seen) = next_listed(&mut pieces).await? {
                each(&seen);
            }
            match after(&pieces)? {
                Some(Next::Page(next)) => token = Some(next),
                _ => return Ok(()),
            }
        }
    }

    async fn page(&self, token: Option<String>) -> Result<Pieces, kube::Error> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: token,
            ..ListParams::default()
        };
        let request =
            if self.metadata_only { self.request.list_metadata(&params) } else { self.request.list(&params) };
        self.body(request).await.map(Pieces::of_list)
    }

    async fn follow(&self, version: &str) -> Result<Pieces, kube::Error> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            ..WatchParams::default()
        };
        let request = if self.metadata_only {
            self.request.watch_metadata(&params, version)
        } else {
            self.request.watch(&params, version)
        };
        self.body(request).await.map(Pieces::of_watch)
    }

    async fn body(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Body, kube::Error> {
        let request = request.map_err(kube::Error::BuildRequest)?;
        Ok(Box::pin(self.client.request_stream(request).await?))
    }

    async fn next(&self, state: &mut State) -> watcher::Result<Event<Seen>> {
        loop {
            let (event, next) = match std::mem::replace(state, State::Empty) {
                State::Empty => (Some(Ok(Event::Init)), State::Page(None)),
                State::Page(token) => match self.page(token).await {
                    Ok(pieces) => (None, State::Listing(pieces)),
                    Err(error) => (Some(Err(watcher::Error::InitialListFailed(error))), State::Empty),
                },
                State::Listing(pieces) => listing(pieces).await,
                State::Listed(version) => match self.follow(&version).await {
                    Ok(pieces) => (None, State::Watching(version, pieces)),
                    Err(error) => {
                        let state = if is_gone(&error) { State::Empty } else { State::Listed(version) };
                        (Some(Err(watcher::Error::WatchStartFailed(error))), state)
                    }
                },
                State::Watching(version, pieces) => watching(version, pieces).await,
            };
            *state = next;
            if let Some(event) = event {
                return event;
            }
        }
    }
}

type Step = (Option<watcher::Result<Event<Seen>>>, State);

async fn listing(mut pieces: Pieces) -> Step {
    let failed = |error| (Some(Err(watcher::Error::InitialListFailed(error))), State::Empty);
    match next_listed(&mut pieces).await {
        Ok(Some(seen)) => (Some(Ok(Event::InitApply(seen))), State::Listing(pieces)),
        Ok(None) => match after(&pieces) {
            Ok(Some(Next::Page(token))) => (None, State::Page(Some(token))),
            Ok(Some(Next::Nothing(version))) => (Some(Ok(Event::InitDone)), State::Listed(version)),
            Ok(None) => (Some(Err(watcher::Error::NoResourceVersion)), State::Empty),
            Err(error) => failed(error),
        },
        Err(error) => failed(error),
    }
}

/// The next object of a page that can be read at all.
async fn next_listed(pieces: &mut Pieces) -> Result<Option<Seen>, kube::Error> {
    loop {
        let next = tokio::time::timeout(SILENCE, pieces.next()).await.unwrap_or_else(|_| Err(silence()));
        let Some(piece) = next.map_err(kube::Error::ReadEvents)? else { return Ok(None) };
        match Seen::read(&piece) {
            Ok(seen) => return Ok(Some(seen)),
            Err(error) => pass_over(&error),
        }
    }
}

fn after(pieces: &Pieces) -> Result<Option<Next>, kube::Error> {
    let rest: Rest = serde_json::from_slice(pieces.rest()).map_err(kube::Error::SerdeError)?;
    let ListMeta { resource_version, token } = rest.metadata;
    let is_there = |text: &String| !text.is_empty();
    let page = token.filter(is_there).map(Next::Page);
    Ok(page.or_else(|| resource_version.filter(is_there).map(Next::Nothing)))
}

async fn watching(version: String, mut pieces: Pieces) -> Step {
    let next = tokio::time::timeout(SILENCE, pieces.next()).await;
    let piece = match next {
        Ok(Ok(Some(piece))) => piece,
        Ok(Ok(None)) | Err(_) => return (None, State::Listed(version)),
        Ok(Err(error)) => {
            let error = watcher::Error::WatchFailed(kube::Error::ReadEvents(error));
            return (Some(Err(error)), State::Listed(version));
        }
    };
    let told = match Told::read(&piece) {
        Ok(Some(told)) => told,
        Ok(None) => return (None, State::Watching(version, pieces)),
        Err(error) => {
            pass_over(&error);
            return (None, State::Watching(version, pieces));
        }
    };
    let version_of = |seen: &Seen| {
        let told = seen.metadata.resource_version.clone().filter(|version| !version.is_empty());
        told.unwrap_or_else(|| version.clone())
    };
    match told {
        Told::Apply(seen) => {
            let version = version_of(&seen);
            (Some(Ok(Event::Apply(seen))), State::Watching(version, pieces))
        }
        Told::Delete(seen) => {
            let version = version_of(&seen);
            (Some(Ok(Event::Delete(seen))), State::Watching(version, pieces))
        }
        Told::Bookmark(seen) => (None, State::Watching(version_of(&seen), pieces)),
        Told::Error(status) => {
            let state = if status.code == 410 { State::Empty } else { State::Listed(version) };
            (Some(Err(watcher::Error::WatchError(status))), state)
        }
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

fn silence() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing was heard for {} s", SILENCE.as_secs()))
}

fn pass_over(error: &serde_json::Error) {
    let code = ErrorCode::UnreadableObject;
    tracing::warn!(%code, %error, "passed over: an object of a list or a watch is no object");
}
