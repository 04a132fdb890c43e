//! Makes pods standalone, and reports them. It also reports workloads that a user opted out while the API server could
//! not call the webhook. The cache decides which pods are standalone (`observe/standalone.rs`).
//!
//! An Event on the pod and on its workload says why no workload serves the pod, and which command corrects that.

use std::sync::Arc;
use std::time::Duration;

use certmint_contract::{ErrorCode, OptIn, WorkloadRef};
use certmint_planner::Workload;
use tokio::sync::{mpsc, watch};

use crate::api::ApiError;
use crate::decisions::Decider;
use crate::events::{Events, InvolvedObject};
use crate::leadership::{self, Term};
use crate::missed_injection::{opt_in_command, opt_out_command};
use crate::observe::{Cache, StandalonePod, WatchedObject, WorkloadKey, is_responsible_for};

/// Makes unserved pods standalone, and reports them while this replica leads.
pub(crate) struct StandalonePodReporter {
    /// Cache of pods and workloads.
    pub(crate) cache: Arc<Cache>,
    /// Reads the pods' workloads from the API server, because a watch may not deliver them.
    pub(crate) decider: Decider,
    /// Leadership of this replica.
    pub(crate) terms: watch::Receiver<Term>,
    /// Writer of the Events about standalone pods.
    pub(crate) events: Events,
}

/// Reason why a pod is standalone.
struct StandaloneReason {
    code: ErrorCode,
    /// Clause that begins with the workload.
    why: String,
    /// Clause with the command that corrects the cause.
    remedy: Option<String>,
    /// The workload, if it still exists.
    object: Option<InvolvedObject>,
}

/// Time between two updates of the standalone pods.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of pods that wait to be reported. Each report may cost a call to the API server. Further pods are not
/// reported; the log has a line for each of their certificates.
const MAX_UNREPORTED: usize = 1000;

impl StandalonePodReporter {
    /// Runs until it is dropped; never returns.
    pub(crate) async fn run(self) {
        let (unreported, backlog) = mpsc::channel(MAX_UNREPORTED);
        tokio::join!(self.update_pods(unreported), self.report_all(backlog));
    }

    async fn update_pods(&self, unreported: mpsc::Sender<StandalonePod>) {
        self.cache.wait_for_sync().await;
        let mut led = false;
        loop {
            let new_pods = self.cache.update_standalone_pods();
            let leads = leadership::leads(&self.terms);
            // A new leader also reports the pods that became standalone before it led.
            let pods = if leads && !led { self.cache.standalone_pods() } else { new_pods };
            if leads {
                for pod in pods {
                    // If the channel is full, the pod is not reported. The log has a line for its certificate.
                    let _ = unreported.try_send(pod);
                }
                let missed = self.cache.missed_opt_outs();
                missed.iter().for_each(|workload| self.report_missed_opt_out(workload));
            }
            led = leads;
            tokio::time::sleep(UPDATE_INTERVAL).await;
        }
    }

    async fn report_all(&self, mut backlog: mpsc::Receiver<StandalonePod>) {
        while let Some(pod) = backlog.recv().await {
            self.report(&pod).await;
        }
    }

    async fn report(&self, StandalonePod { pod, workload }: &StandalonePod) {
        let reason = match self.reason(workload, &pod.service_account).await {
            Ok(Some(reason)) => reason,
            // A workload serves the pod again.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(code = %error.code(), %error, %pod, "cannot find out why the pod has a certificate of its own");
                return;
            }
        };
        let StandaloneReason { code, why, remedy, object } = reason;
        let name = &pod.reference.name;
        let note = format!(
            "Pod {name} has a certificate of its own until it is deleted: {why}{}",
            remedy_clause(remedy.as_deref())
        );
        tracing::warn!(%code, %pod, note, "a pod has a certificate of its own");
        self.events.warn(&InvolvedObject::of(pod), code, &note);
        if let Some(object) = object {
            self.events.warn(&object, code, &workload_note(&why, remedy.as_deref()));
        }
    }

    /// Finds out why the workload does not serve pods that run as the service account; `None` if it serves them.
    async fn reason(
        &self,
        key: &WorkloadKey,
        service_account: &str,
    ) -> Result<Option<StandaloneReason>, ApiError> {
        let Some(live) = self.decider.fetch(key).await? else {
            let why = format!("{} was deleted", key.workload);
            let code = ErrorCode::StandalonePod;
            return Ok(Some(StandaloneReason { code, why, remedy: None, object: None }));
        };
        let object = InvolvedObject::of_key(key, live.metadata.uid.as_deref().unwrap_or_default());
        let reason = reason_of_live_workload(key, &live, service_account);
        Ok(reason.map(|reason| StandaloneReason { object: Some(object), ..reason }))
    }

    fn report_missed_opt_out(&self, workload: &Workload) {
        let (code, key) = (ErrorCode::OptOutMissed, WorkloadKey::of(workload));
        let note = workload_note(&missed_opt_out_clause(&key.workload), Some(&opt_out_command(&key)));
        if self.events.warn(&InvolvedObject::of(workload), code, &note) {
            tracing::warn!(%code, %workload, note, "a workload opted out without the webhook");
        }
    }
}

/// Returns the reason why an existing workload does not serve pods that run as the service account; `None` if it serves
/// them.
fn reason_of_live_workload(
    key: &WorkloadKey,
    live: &WatchedObject,
    service_account: &str,
) -> Option<StandaloneReason> {
    let kind = key.workload.kind;
    let workload = live.workload(kind).ok().flatten();
    let opted_in = workload.as_ref().filter(|workload| !matches!(workload.opt_in, Ok(OptIn::No)));
    let reason = |code, why| StandaloneReason { code, why, remedy: None, object: None };
    match opted_in {
        Some(workload) if !live.is_managed() => {
            let why = format!(
                "{} opts in, but the API server did not call the webhook when that was written",
                workload.reference
            );
            let remedy = Some(opt_in_command(key));
            Some(StandaloneReason { remedy, ..reason(ErrorCode::OptInMissed, why) })
        }
        Some(workload) if is_responsible_for(workload, service_account) => None,
        Some(Workload { reference, service_account: of_template, .. }) => {
            let why = format!(
                "the pods of {reference} run as service account {of_template} now, and some still run as {service_account}"
            );
            Some(reason(ErrorCode::StandalonePod, why))
        }
        None if live.template_is_injected(kind) && workload.is_some() => {
            let remedy = Some(opt_out_command(key));
            let why = missed_opt_out_clause(&key.workload);
            Some(StandaloneReason { remedy, ..reason(ErrorCode::OptOutMissed, why) })
        }
        None => {
            let why = format!("{} did not opt in, or has opted out", key.workload);
            Some(reason(ErrorCode::StandalonePod, why))
        }
    }
}

fn missed_opt_out_clause(workload: &WorkloadRef) -> String {
    format!(
        "{workload} opted out, but the API server did not call the webhook, so its pod template is still injected"
    )
}

fn workload_note(why: &str, remedy: Option<&str>) -> String {
    format!("{why}; its injected pods have certificates of their own{}", remedy_clause(remedy))
}

fn remedy_clause(remedy: Option<&str>) -> String {
    remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::reconcile::fixture::{DEPLOYMENT, Fixture, fixture, seen, workload};

    /// Returns a standalone pod of the fixture's Deployment that runs as that service account.
    fn standalone_pod(fixture: &Fixture, account: &str) -> StandalonePod {
        let pod = json!({
            "metadata": {
                "name": "payments-1-x", "namespace": "shop", "uid": "p-1", "resourceVersion": "1",
                "labels": { "certmint.dev/injected": "true", "pod-template-hash": "1" },
                "annotations": { "certmint.dev/inject": "true" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "payments-1", "uid": "r-1",
                    "controller": true,
                }],
            },
            "spec": { "serviceAccountName": account },
        });
        fixture.cache.insert_pod(&seen(&pod));
        fixture.cache.make_standalone(&"shop".parse().unwrap(), "payments-1-x", "p-1");
        fixture.cache.standalone_pods().pop().unwrap()
    }

    /// Returns the Events about the pod, as `REASON KIND` and note. The API server has the Deployment `live`.
    async fn events_about_pod(account: &str, live: Option<Value>) -> Vec<(String, String)> {
        let mut fixture = fixture();
        let pod = standalone_pod(&fixture, account);
        let reporter = StandalonePodReporter {
            cache: Arc::clone(&fixture.cache),
            decider: fixture.reconciler.decider.clone(),
            terms: watch::channel(None).1,
            events: fixture.reconciler.events.clone(),
        };
        tokio::join!(reporter.report(&pod), async {
            let call = fixture.server.expect("GET", DEPLOYMENT).await;
            match live {
                Some(live) => call.ok(live),
                None => call.fail(404, "NotFound"),
            }
        });
        let events = std::iter::from_fn(|| fixture.events.try_recv().ok());
        events.map(|event| (format!("{} {}", event.reason, event.object.kind), event.note.into())).collect()
    }

    fn labelled(mut workload: Value) -> Value {
        workload["metadata"]["labels"] = json!({ "certmint.dev/managed": "true" });
        workload
    }

    #[tokio::test(start_paused = true)]
    async fn events_on_pod_and_workload_have_reason_and_command() {
        let restart = "run: kubectl rollout restart deployment/payments --namespace shop";
        let mut opted_out = labelled(workload());
        opted_out["metadata"]["annotations"] = json!({});
        let mut injected = opted_out.clone();
        injected["spec"]["template"]["metadata"]["annotations"] =
            json!({ "certmint.dev/inject": "true", "certmint.dev/copied": "inject" });
        let cases = [
            (workload(), "default", "OptInMissed", restart),
            (injected, "default", "OptOutMissed", restart),
            (opted_out, "default", "StandalonePod", "Deployment/payments did not opt in, or has opted out"),
            (
                labelled(workload()),
                "clerk",
                "StandalonePod",
                "run as service account default now, and some still run as clerk",
            ),
        ];
        for (live, account, code, words) in cases {
            let events = events_about_pod(account, Some(live)).await;
            let titles: Vec<_> = events.iter().map(|(title, _)| &**title).collect();
            assert_eq!(titles, [format!("{code} Pod"), format!("{code} Deployment")]);
            for (_, note) in events {
                assert!(note.contains(words), "{note}");
            }
        }
        let events = events_about_pod("default", None).await;
        let note = "Pod payments-1-x has a certificate of its own until it is deleted: Deployment/payments was deleted";
        assert_eq!(events, [("StandalonePod Pod".to_owned(), note.to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_report_a_pod_that_is_served_again() {
        assert!(events_about_pod("default", Some(labelled(workload()))).await.is_empty());
    }
}
