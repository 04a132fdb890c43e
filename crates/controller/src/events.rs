//! Collects Events on workloads and other objects, and writes them to the API server.
//!
//! A separate task writes the Events one after the other. So a slow API server does not delay certificates, and Events
//! about many certificates follow later. If too many Events wait, new Events are dropped. The log contains the same
//! information.

mod involved_object;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use certmint_contract::ErrorCode;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use kube::{Api, Client};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api::{self, ApiErrorKind};

pub(crate) use involved_object::InvolvedObject;

/// Queue for Events that are to be written.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<PendingEvent>,
    reporter: Arc<str>,
    recent: Arc<Mutex<HashMap<InvolvedObject, RecentWarning>>>,
    dropped: Counter,
}

/// The last warning on an object.
struct RecentWarning {
    /// Hash of code and note.
    hash: u64,
    at: Instant,
}

/// An Event that waits to be written. It has only what is needed to build the [`Event`], because thousands may wait.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    pub(crate) object: InvolvedObject,
    pub(crate) reason: &'static str,
    pub(crate) note: Box<str>,
    /// `Normal` or `Warning`.
    event_type: &'static str,
    action: &'static str,
    at: Timestamp,
    reporter: Arc<str>,
}

/// Maximum number of Events that wait: one for each certificate of a large cluster. With the longest notes they take
/// about 20 MiB.
const MAX_PENDING: usize = 10_000;
/// Time after which an unchanged warning is repeated. The API server keeps Events for one hour by default.
const REPEAT_AFTER: Duration = Duration::from_secs(3600);
/// Maximum number of objects whose last warning is remembered. At the limit all are forgotten. Without a limit, a user
/// who creates many workloads that are refused could exhaust the memory.
const MAX_RECENT: usize = 10_000;
/// Wait times between attempts to write an Event while the API server is busy. If the attempt after the last wait
/// fails, the Event is dropped.
const BUSY_WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// Maximum length of a note that the API server accepts, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

impl Events {
    /// Creates the queue. [`write()`] takes the Events from the receiver.
    pub(crate) fn new(reporter: &str) -> (Self, mpsc::Receiver<PendingEvent>) {
        let (queue, pending) = mpsc::channel(MAX_PENDING);
        let dropped = Counter::default();
        (Self { queue, reporter: reporter.into(), recent: Arc::default(), dropped }, pending)
    }

    /// Sets the counter of dropped Events.
    pub(crate) fn with_dropped_counter(self, dropped: Counter) -> Self {
        Self { dropped, ..self }
    }

    /// Adds an Event about an issued certificate, and forgets the last warning on the object.
    pub(crate) fn issued(&self, object: &InvolvedObject, reason: &'static str, note: &str) {
        self.forget(object);
        self.push(object, "Normal", reason, "Issue", note);
    }

    /// Adds a warning, unless it repeats the last warning on the object within [`REPEAT_AFTER`]. Returns `false` for
    /// such a repetition.
    pub(crate) fn warn(&self, object: &InvolvedObject, code: ErrorCode, note: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (code, note).hash(&mut hasher);
        let (hash, now) = (hasher.finish(), Instant::now());
        let is_recent = |warning: &RecentWarning| now - warning.at < REPEAT_AFTER;
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.get(object).is_some_and(|warning| warning.hash == hash && is_recent(warning)) {
                return false;
            }
            // The controller does not notice the deletion of every object, so old warnings are removed by their age.
            recent.retain(|_, warning| is_recent(warning));
            if recent.len() >= MAX_RECENT {
                recent.clear();
            }
            recent.insert(object.clone(), RecentWarning { hash, at: now });
        }
        self.push(object, "Warning", code.as_str(), "Plan", note);
        true
    }

    /// Forgets the last warning on an object, because its cause or the object no longer exists.
    pub(crate) fn forget(&self, object: &InvolvedObject) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }

    fn push(
        &self,
        object: &InvolvedObject,
        event_type: &'static str,
        reason: &'static str,
        action: &'static str,
        note: &str,
    ) {
        let pending = PendingEvent {
            object: object.clone(),
            reason,
            note: note.get(..note.floor_char_boundary(MAX_NOTE_BYTES)).unwrap_or(note).into(),
            event_type,
            action,
            at: Timestamp::now(),
            reporter: Arc::clone(&self.reporter),
        };
        if self.queue.try_send(pending).is_err() {
            self.dropped.inc();
            tracing::debug!(%object, reason, "dropped an Event, because too many wait");
        }
    }
}

/// Writes Events until all senders are dropped.
pub(crate) async fn write(client: Client, mut queue: mpsc::Receiver<PendingEvent>) {
    let params = api::post_params();
    while let Some(pending) = queue.recv().await {
        let namespace = pending.object.namespace.clone();
        let api = Api::<Event>::namespaced(client.clone(), &namespace);
        let event = pending.into_event();
        let mut waits = BUSY_WAITS.into_iter();
        loop {
            let call = format!("create an Event in {namespace}");
            let Err(error) = api::call(call, api.create(&params, &event)).await else { break };
            let busy = matches!(error.kind(), ApiErrorKind::Busy);
            let Some(wait) = waits.next().filter(|_| busy) else {
                tracing::warn!(code = %error.code(), %error, "could not write an Event; an earlier log line has the same text");
                break;
            };
            tokio::time::sleep(wait).await;
        }
    }
}

impl PendingEvent {
    fn into_event(self) -> Event {
        let Self { object, reason, note, event_type, action, at, reporter } = self;
        Event {
            metadata: ObjectMeta {
                namespace: Some(object.namespace.to_string()),
                generate_name: Some(object.event_name_prefix()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            type_: Some(event_type.into()),
            reason: Some(reason.into()),
            action: Some(action.into()),
            note: Some(note.into()),
            regarding: Some(object.reference()),
            reporting_controller: Some("certmint.dev/controller".into()),
            reporting_instance: Some(reporter.to_string()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_warning_is_repeated_when_it_changes_or_after_an_hour() {
        let (events, mut queue) = Events::new("controller-0");
        let mut notes =
            || std::iter::from_fn(|| queue.try_recv().ok()).map(|event| event.note).collect::<Vec<_>>();
        let payments = InvolvedObject::deployment("payments");
        for (note, is_added) in [("a", true), ("a", false), ("b", true), ("b", false)] {
            assert_eq!(events.warn(&payments, ErrorCode::NotAllowed, note), is_added);
        }
        assert_eq!(notes(), ["a".into(), "b".into()]);
        tokio::time::advance(REPEAT_AFTER).await;
        events.warn(&payments, ErrorCode::NotAllowed, "b");
        assert_eq!(notes(), ["b".into()]);
        events.forget(&payments);
        events.warn(&payments, ErrorCode::NotAllowed, "b");
        assert_eq!(notes(), ["b".into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn old_warnings_take_no_memory() {
        let (events, _queue) = Events::new("controller-0");
        for index in 0..100 {
            let job = InvolvedObject::deployment(&format!("job-{index}"));
            events.warn(&job, ErrorCode::ForeignSecret, "a");
        }
        tokio::time::advance(REPEAT_AFTER).await;
        events.warn(&InvolvedObject::deployment("payments"), ErrorCode::ForeignSecret, "a");
        assert_eq!(events.recent.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_remembered_warnings_is_limited() {
        let (events, _queue) = Events::new("controller-0");
        for index in 0..=MAX_RECENT {
            let job = InvolvedObject::deployment(&format!("job-{index}"));
            events.recent.lock().unwrap().insert(job, RecentWarning { hash: 0, at: Instant::now() });
        }
        events.warn(&InvolvedObject::deployment("payments"), ErrorCode::ForeignSecret, "a");
        assert_eq!(events.recent.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_drops_events_and_counts_them() {
        let (events, _queue) = Events::new("controller-0");
        let dropped = Counter::default();
        let events = events.with_dropped_counter(dropped.clone());
        for _ in 0..MAX_PENDING + 10 {
            events.issued(&InvolvedObject::deployment("payments"), "Issued", "note");
        }
        assert_eq!(dropped.get(), 10);
    }
}
