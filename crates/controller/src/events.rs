//! Events on workloads: what happened, where `kubectl describe` shows it.
//!
//! They are written on the side, one by one: a slow API server delays no certificate, and when they pile up
//! they are dropped, for the log has them too.

use crate::api;
use certmint_contract::{ErrorCode, Namespace};
use certmint_planner::Workload;
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Client, api::ObjectMeta};
use prometheus_client::metrics::counter::Counter;
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    /// As in `apps/v1`.
    pub(crate) api_version: &'static str,
    /// As in `Deployment`.
    pub(crate) kind: &'static str,
    /// Where it is.
    pub(crate) namespace: Box<str>,
    /// Its name.
    pub(crate) name: Box<str>,
    /// Its uid, where it is known.
    pub(crate) uid: Option<Box<str>>,
}

/// Takes Events to be written.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Event>,
    reporter: Arc<str>,
    told: Arc<Mutex<HashMap<Subject, (u64, Instant)>>>,
    dropped: Counter,
}

/// Events that wait at most.
const BACKLOG: usize = 1024;
/// How long a refusal that has not changed is not told again; Events live for an hour by default.
const SILENCE: Duration = Duration::from_secs(3600);
/// Subjects remembered at most, then memory starts anew: whoever may create workloads may create many that are refused.
const MOST_REMEMBERED: usize = 10_000;
/// The longest note that the API server takes.
const LONGEST_NOTE: usize = 1024;
/// A name has 253 characters at most.
const LONGEST_PREFIX: usize = 240;

impl Events {
    /// Where Events go in, and where [`write()`] takes them from.
    pub(crate) fn new(reporter: &str) -> (Self, mpsc::Receiver<Event>) {
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
        self.tell(subject, "Warning", &code.to_string(), "Plan", note);
        true
    }

    /// Nothing is wrong with it any more, or it is gone.
    pub(crate) fn forget(&self, subject: &Subject) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
    }

    fn tell(&self, subject: &Subject, kind: &str, reason: &str, action: &str, note: &str) {
        let event = Event {
            metadata: ObjectMeta {
                namespace: Some(subject.namespace.to_string()),
                generate_name: Some(subject.event_prefix()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some(kind.into()),
            reason: Some(reason.into()),
            action: Some(action.into()),
            note: Some(note.get(..note.floor_char_boundary(LONGEST_NOTE)).unwrap_or(note).into()),
            regarding: Some(subject.reference()),
            reporting_controller: Some("certmint.dev/controller".into()),
            reporting_instance: Some(self.reporter.to_string()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            self.dropped.inc();
            tracing::debug!(%subject, reason, "no room for an Event");
        }
    }
}

/// Writes Events until nobody sends any more.
pub(crate) async fn write(client: Client, mut backlog: mpsc::Receiver<Event>) {
    let params = api::post_params();
    while let Some(event) = backlog.recv().await {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api = Api::<Event>::namespaced(client.clone(), &namespace);
        let call = format!("create an Event in {namespace}");
        if let Err(error) = api::call(call, api.create(&params, &event)).await {
            tracing::warn!(code = %error.code(), %error, "an Event was not written; the log line before it says the same");
        }
    }
}

impl Subject {
    /// The subject that a workload is.
    pub(crate) fn of(workload: &Workload) -> Self {
        let (kind, namespace): (_, &Namespace) = (workload.reference.kind, &workload.namespace);
        Self {
            api_version: kind.api_version(),
            kind: kind.as_str(),
            namespace: namespace.as_str().into(),
            name: workload.reference.name.clone(),
            uid: Some(workload.uid.clone()),
        }
    }

    /// The subject that a Secret is. `kubectl events --for secret/NAME` shows its Events, `kubectl describe` does
    /// not.
    pub(crate) fn secret(namespace: &Namespace, name: &str, uid: &str) -> Self {
        Self {
            api_version: "v1",
            kind: "Secret",
            namespace: namespace.as_str().into(),
            name: name.into(),
            uid: Some(uid.into()),
        }
    }

    /// A Deployment with its uid, without which `kubectl describe` shows none of its Events; as it is when the
    /// API server does not tell.
    pub(crate) async fn identified(self, client: &Client) -> Self {
        let deployments = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let call = format!("get {self}");
        match api::call(call, deployments.get_metadata(&self.name)).await {
            Ok(found) => Self { uid: found.metadata.uid.map(Into::into), ..self },
            Err(error) => {
                tracing::warn!(code = %error.code(), %error, "kubectl describe deployment will not show Events of the CA; kubectl get events does");
                self
            }
        }
    }

    /// What the names of its Events begin with; the API server adds five characters.
    fn event_prefix(&self) -> String {
        let head: String = self.name.chars().take(LONGEST_PREFIX).collect();
        format!("{}-", head.trim_end_matches(['-', '.']))
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version.into()),
            kind: Some(self.kind.into()),
            namespace: Some(self.namespace.to_string()),
            name: Some(self.name.to_string()),
            uid: self.uid.as_deref().map(Into::into),
            ..ObjectReference::default()
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn subject(name: &str) -> Subject {
        Subject {
            api_version: "apps/v1",
            kind: "Deployment",
            namespace: "shop".into(),
            name: name.into(),
            uid: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_once_until_it_changes_or_an_hour_passes() {
        let (events, mut backlog) = Events::new("controller-0");
        let mut notes = || std::iter::from_fn(|| backlog.try_recv().ok()?.note).collect::<Vec<_>>();
        for (note, news) in [("a", true), ("a", false), ("b", true), ("b", false)] {
            assert_eq!(events.refused(&subject("payments"), ErrorCode::NotAllowed, note), news);
        }
        assert_eq!(notes(), ["a", "b"]);
        tokio::time::advance(SILENCE).await;
        events.refused(&subject("payments"), ErrorCode::NotAllowed, "b");
        assert_eq!(notes(), ["b"]);
        events.forget(&subject("payments"));
        events.refused(&subject("payments"), ErrorCode::NotAllowed, "b");
        assert_eq!(notes(), ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_long_ago_takes_no_memory() {
        let (events, _backlog) = Events::new("controller-0");
        for index in 0..100 {
            events.refused(&subject(&format!("job-{index}")), ErrorCode::ForeignSecret, "a");
        }
        tokio::time::advance(SILENCE).await;
        events.refused(&subject("payments"), ErrorCode::ForeignSecret, "a");
        assert_eq!(events.told.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn however_much_is_refused_the_memory_of_it_is_bounded() {
        let (events, _backlog) = Events::new("controller-0");
        for index in 0..=MOST_REMEMBERED {
            events.told.lock().unwrap().insert(subject(&format!("job-{index}")), (0, Instant::now()));
        }
        events.refused(&subject("payments"), ErrorCode::ForeignSecret, "a");
        assert_eq!(events.told.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_deployment_is_told_by_its_uid() {
        const PATH: &str = "/apis/apps/v1/namespaces/shop/deployments/payments";
        let (client, mut server) = crate::testing::api_server();
        let (found, ()) = tokio::join!(subject("payments").identified(&client), async {
            server.expect("GET", PATH).await.ok(json!({ "metadata": { "name": "payments", "uid": "d-1" } }));
        });
        assert_eq!(found.uid.as_deref(), Some("d-1"));
        let (missed, ()) = tokio::join!(subject("payments").identified(&client), async {
            server.expect("GET", PATH).await.fail(404, "NotFound");
        });
        assert_eq!(missed, subject("payments"));
    }

    #[tokio::test]
    async fn a_full_backlog_blocks_nobody_and_what_is_dropped_is_counted() {
        let (events, _backlog) = Events::new("controller-0");
        let dropped = Counter::default();
        let events = events.counting(dropped.clone());
        for _ in 0..BACKLOG + 10 {
            events.issued(&subject("payments"), "Issued", "note");
        }
        assert_eq!(dropped.get(), 10);
    }
}
