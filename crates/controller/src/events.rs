//! Events on workloads: what happened, where `kubectl describe` shows it.
//!
//! They are written on the side, one by one: a slow API server delays no certificate, and a burst of certificates is
//! told of after it. When they pile up beyond that they are dropped, for the log has them too.

mod subject;

use crate::api::{self, Fault};
use certmint_contract::ErrorCode;
use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{Api, Client, api::ObjectMeta};
use prometheus_client::metrics::counter::Counter;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

pub(crate) use subject::Subject;

/// Takes Events to be written.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Unwritten>,
    reporter: Arc<str>,
    told: Arc<Mutex<HashMap<Subject, (u64, Instant)>>>,
    dropped: Counter,
}

/// What an Event is made of when its turn comes: thousands may wait, so no more than that.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) subject: Subject,
    pub(crate) reason: &'static str,
    pub(crate) note: Box<str>,
    /// `Normal` or `Warning`.
    kind: &'static str,
    action: &'static str,
    at: Timestamp,
    reporter: Arc<str>,
}

/// Events that wait at most. One for each certificate of a large cluster, and with the longest notes some 20 MiB.
const BACKLOG: usize = 10_000;
/// How long a refusal that has not changed is not told again; Events live for an hour by default.
const SILENCE: Duration = Duration::from_secs(3600);
/// Subjects remembered at most, then memory starts anew: whoever may create workloads may create many that are refused.
const MOST_REMEMBERED: usize = 10_000;
/// The waits between attempts while the API server is busy; then the Event is given up.
const BUSY_WAITS: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// The longest note that the API server takes.
const LONGEST_NOTE: usize = 1024;

impl Events {
    /// Where Events go in, and where [`write()`] takes them from.
    pub(crate) fn new(reporter: &str) -> (Self, mpsc::Receiver<Unwritten>) {
        let (queue, backlog) = mpsc::channel(BACKLOG);
        let dropped = Counter::default();
        (Self { queue, reporter: reporter.into(), told: Arc::default(), dropped }, backlog)
    }

    /// The same, with those that find no room counted there.
    pub(crate) fn counting(self, dropped: Counter) -> Self {
        Self { dropped, ..self }
    }

    /// A certificate was issued.
    pub(crate) fn issued(&self, subject: &Subject, reason: &'static str, note: &str) {
        self.forget(subject);
        self.tell(subject, "Normal", reason, "Issue", note);
    }

    /// Something was refused; told once, then again after an hour or when it changes. Returns whether it was news.
    pub(crate) fn refused(&self, subject: &Subject, code: ErrorCode, note: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (code, note).hash(&mut hasher);
        let (hash, now) = (hasher.finish(), Instant::now());
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.get(subject).is_some_and(|(known, at)| *known == hash && now - *at < SILENCE) {
                return false;
            }
            // What became of a refused workload is not always learned: silence ends all memory of it.
            told.retain(|_, (_, at)| now - *at < SILENCE);
            if told.len() >= MOST_REMEMBERED {
                told.clear();
            }
            told.insert(subject.clone(), (hash, now));
        }
        self.tell(subject, "Warning", code.as_str(), "Plan", note);
        true
    }

    /// Nothing is wrong with it any more, or it is gone.
    pub(crate) fn forget(&self, subject: &Subject) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
    }

    fn tell(
        &self,
        subject: &Subject,
        kind: &'static str,
        reason: &'static str,
        action: &'static str,
        note: &str,
    ) {
        let unwritten = Unwritten {
            subject: subject.clone(),
            reason,
            note: note.get(..note.floor_char_boundary(LONGEST_NOTE)).unwrap_or(note).into(),
            kind,
            action,
            at: Timestamp::now(),
            reporter: Arc::clone(&self.reporter),
        };
        if self.queue.try_send(unwritten).is_err() {
            self.dropped.inc();
            tracing::debug!(%subject, reason, "no room for an Event");
        }
    }
}

/// Writes Events until nobody sends any more.
pub(crate) async fn write(client: Client, mut backlog: mpsc::Receiver<Unwritten>) {
    let params = api::post_params();
    while let Some(unwritten) = backlog.recv().await {
        let namespace = unwritten.subject.namespace.clone();
        let api = Api::<Event>::namespaced(client.clone(), &namespace);
        let event = unwritten.event();
        let mut waits = BUSY_WAITS.into_iter();
        loop {
            let call = format!("create an Event in {namespace}");
            let Err(error) = api::call(call, api.create(&params, &event)).await else { break };
            let busy = matches!(error.fault(), Fault::Busy);
            let Some(wait) = waits.next().filter(|_| busy) else {
                tracing::warn!(code = %error.code(), %error, "an Event was not written; the log line before it says the same");
                break;
            };
            tokio::time::sleep(wait).await;
        }
    }
}

impl Unwritten {
    fn event(self) -> Event {
        let Self { subject, reason, note, kind, action, at, reporter } = self;
        Event {
            metadata: ObjectMeta {
                namespace: Some(subject.namespace.to_string()),
                generate_name: Some(subject.event_prefix()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            action: Some(action.into()),
            note: Some(note.into()),
            regarding: Some(subject.reference()),
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
    async fn a_refusal_is_told_once_until_it_changes_or_an_hour_passes() {
        let (events, mut backlog) = Events::new("controller-0");
        let mut notes =
            || std::iter::from_fn(|| backlog.try_recv().ok()).map(|told| told.note).collect::<Vec<_>>();
        for (note, news) in [("a", true), ("a", false), ("b", true), ("b", false)] {
            assert_eq!(events.refused(&Subject::deployment("payments"), ErrorCode::NotAllowed, note), news);
        }
        assert_eq!(notes(), ["a".into(), "b".into()]);
        tokio::time::advance(SILENCE).await;
        events.refused(&Subject::deployment("payments"), ErrorCode::NotAllowed, "b");
        assert_eq!(notes(), ["b".into()]);
        events.forget(&Subject::deployment("payments"));
        events.refused(&Subject::deployment("payments"), ErrorCode::NotAllowed, "b");
        assert_eq!(notes(), ["b".into()]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_long_ago_takes_no_memory() {
        let (events, _backlog) = Events::new("controller-0");
        for index in 0..100 {
            events.refused(&Subject::deployment(&format!("job-{index}")), ErrorCode::ForeignSecret, "a");
        }
        tokio::time::advance(SILENCE).await;
        events.refused(&Subject::deployment("payments"), ErrorCode::ForeignSecret, "a");
        assert_eq!(events.told.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_is_refused_the_memory_of_it_is_bounded() {
        let (events, _backlog) = Events::new("controller-0");
        for index in 0..=MOST_REMEMBERED {
            events
                .told
                .lock()
                .unwrap()
                .insert(Subject::deployment(&format!("job-{index}")), (0, Instant::now()));
        }
        events.refused(&Subject::deployment("payments"), ErrorCode::ForeignSecret, "a");
        assert_eq!(events.told.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_full_backlog_blocks_nobody_and_what_is_dropped_is_counted() {
        let (events, _backlog) = Events::new("controller-0");
        let dropped = Counter::default();
        let events = events.counting(dropped.clone());
        for _ in 0..BACKLOG + 10 {
            events.issued(&Subject::deployment("payments"), "Issued", "note");
        }
        assert_eq!(dropped.get(), 10);
    }
}
