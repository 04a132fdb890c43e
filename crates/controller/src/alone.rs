//! Has pods that no workload serves stand alone, and tells on pod and workload why that is, and what to type.

use crate::{
    events::{Events, Subject},
    leadership::{self, Term},
    missed::{opt_in_again, opt_out_again},
    observe::{Alone, Observed, WorkloadKey, serves},
    planning::Planning,
};
use certmint_contract::{ErrorCode, OptIn, WorkloadRef};
use certmint_planner::Workload;
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// Judges pods, and tells.
pub(crate) struct AlonePods {
    /// Where pods and workloads are known.
    pub(crate) observed: Arc<Observed>,
    /// Where a workload is looked up that no watch tells of.
    pub(crate) planning: Planning,
    /// Whether this replica is the one that tells.
    pub(crate) terms: watch::Receiver<Term>,
    /// Where it is told.
    pub(crate) events: Events,
}

/// Why a pod stands alone.
struct Cause {
    code: ErrorCode,
    /// A clause that begins with the workload.
    why: String,
    /// A clause.
    remedy: Option<String>,
    /// The workload, if it still is.
    subject: Option<Subject>,
}

/// How often pods are judged.
const PACE: Duration = Duration::from_secs(1);
/// Pods that wait to be told of at most: each may cost a call. The log has the others' certificates.
const BACKLOG: usize = 1000;

impl AlonePods {
    /// Judges and tells until dropped; never returns.
    pub(crate) async fn run(self) {
        let (untold, backlog) = mpsc::channel(BACKLOG);
        tokio::join!(self.judge(untold), self.tell(backlog));
    }

    async fn judge(&self, untold: mpsc::Sender<Alone>) {
        self.observed.synced().await;
        let mut led = false;
        loop {
            let started = self.observed.judge_pods();
            let leads = leadership::leads(&self.terms);
            // Whoever leads next tells of what it found as a follower.
            let news = if leads && !led { self.observed.pods_alone() } else { started };
            if leads {
                for alone in news {
                    // What finds no room is in the log, with its certificate.
                    let _ = untold.try_send(alone);
                }
                self.observed.opt_outs_missed().iter().for_each(|workload| self.tell_opt_out(workload));
            }
            led = leads;
            tokio::time::sleep(PACE).await;
        }
    }

    async fn tell(&self, mut backlog: mpsc::Receiver<Alone>) {
        while let Some(alone) = backlog.recv().await {
            self.tell_of(&alone).await;
        }
    }

    async fn tell_of(&self, Alone { pod, workload }: &Alone) {
        let cause = match self.cause(workload, &pod.service_account).await {
            Ok(Some(cause)) => cause,
            // It is served again.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(code = %error.code(), %error, %pod, "it is not known why the pod has a certificate of its own");
                return;
            }
        };
        let Cause { code, why, remedy, subject } = cause;
        let name = &pod.reference.name;
        let note = format!(
            "Pod {name} has a certificate of its own until it is gone: {why}{}",
            then(remedy.as_deref())
        );
        tracing::warn!(%code, %pod, note, "a pod has a certificate of its own");
        self.events.refused(&Subject::of(pod), code, &note);
        if let Some(subject) = subject {
            self.events.refused(&subject, code, &workload_note(&why, remedy.as_deref()));
        }
    }

    async fn cause(&self, key: &WorkloadKey, account: &str) -> Result<Option<Cause>, crate::api::ApiError> {
        let Some(found) = self.planning.look(key).await? else {
            let why = format!("{} is gone", key.workload);
            return Ok(Some(Cause { code: ErrorCode::ServedAlone, why, remedy: None, subject: None }));
        };
        let kind = key.workload.kind;
        let subject = Some(Subject::of_key(key, found.metadata.uid.as_deref().unwrap_or_default()));
        let workload = found.workload(kind).ok().flatten();
        let opted_in = workload.as_ref().filter(|workload| !matches!(workload.request, Ok(OptIn::No)));
        Ok(match opted_in {
            Some(workload) if !found.is_managed() => {
                let why = format!(
                    "{} asks for certificates, but no webhook was asked when that was written",
                    workload.reference
                );
                let remedy = Some(opt_in_again(key));
                Some(Cause { code: ErrorCode::OptInMissed, why, remedy, subject })
            }
            Some(workload) if serves(workload, account) => None,
            Some(Workload { reference, service_account, .. }) => {
                let why = format!(
                    "the pods of {reference} are to run as service account {service_account} now, and some still run as {account}"
                );
                Some(Cause { code: ErrorCode::ServedAlone, why, remedy: None, subject })
            }
            None if found.keeps_injecting(kind) && workload.is_some() => {
                let remedy = Some(opt_out_again(key));
                Some(Cause {
                    code: ErrorCode::OptOutMissed,
                    why: opt_out_missed(&key.workload),
                    remedy,
                    subject,
                })
            }
            None => {
                let why = format!("{} did not opt in, or not any more", key.workload);
                Some(Cause { code: ErrorCode::ServedAlone, why, remedy: None, subject })
            }
        })
    }

    fn tell_opt_out(&self, workload: &Workload) {
        let (code, key) = (ErrorCode::OptOutMissed, WorkloadKey::of(workload));
        let note = workload_note(&opt_out_missed(&key.workload), Some(&opt_out_again(&key)));
        if self.events.refused(&Subject::of(workload), code, &note) {
            tracing::warn!(%code, %workload, note, "opted out without the webhook");
        }
    }
}

fn opt_out_missed(workload: &WorkloadRef) -> String {
    format!("{workload} opted out, but no webhook was asked, so its pod template is still injected")
}

fn workload_note(why: &str, remedy: Option<&str>) -> String {
    format!("{why}; its injected pods have certificates of their own{}", then(remedy))
}

fn then(remedy: Option<&str>) -> String {
    remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::fixture::{DEPLOYMENT, Fixture, fixture, seen, workload};
    use serde_json::{Value, json};

    /// A pod of the fixture's Deployment that runs as that account and stands alone.
    fn alone(fixture: &Fixture, account: &str) -> Alone {
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
        fixture.observed.see_pod(&seen(&pod));
        fixture.observed.stand_alone(&"shop".parse().unwrap(), "payments-1-x", "p-1");
        fixture.observed.pods_alone().pop().unwrap()
    }

    /// What is told of it, as `REASON KIND` and the note, while the Deployment is as `live` says.
    async fn told(account: &str, live: Option<Value>) -> Vec<(String, String)> {
        let mut fixture = fixture();
        let alone = alone(&fixture, account);
        let teller = AlonePods {
            observed: Arc::clone(&fixture.observed),
            planning: fixture.reconciler.planning.clone(),
            terms: watch::channel(None).1,
            events: fixture.reconciler.events.clone(),
        };
        tokio::join!(teller.tell_of(&alone), async {
            let call = fixture.server.expect("GET", DEPLOYMENT).await;
            match live {
                Some(live) => call.ok(live),
                None => call.fail(404, "NotFound"),
            }
        });
        let events = std::iter::from_fn(|| fixture.told.try_recv().ok());
        events.map(|told| (format!("{} {}", told.reason, told.subject.kind), told.note.into())).collect()
    }

    fn labelled(mut workload: Value) -> Value {
        workload["metadata"]["labels"] = json!({ "certmint.dev/managed": "true" });
        workload
    }

    #[tokio::test(start_paused = true)]
    async fn pod_and_workload_are_told_why_and_what_to_type() {
        let restart = "run: kubectl rollout restart deployment/payments --namespace shop";
        let mut opted_out = labelled(workload());
        opted_out["metadata"]["annotations"] = json!({});
        let mut injected = opted_out.clone();
        injected["spec"]["template"]["metadata"]["annotations"] =
            json!({ "certmint.dev/inject": "true", "certmint.dev/copied": "inject" });
        let cases = [
            (workload(), "default", "OptInMissed", restart),
            (injected, "default", "OptOutMissed", restart),
            (opted_out, "default", "ServedAlone", "Deployment/payments did not opt in, or not any more"),
            (
                labelled(workload()),
                "clerk",
                "ServedAlone",
                "are to run as service account default now, and some still run as clerk",
            ),
        ];
        for (live, account, code, words) in cases {
            let told = told(account, Some(live)).await;
            let titles: Vec<_> = told.iter().map(|(title, _)| &**title).collect();
            assert_eq!(titles, [format!("{code} Pod"), format!("{code} Deployment")]);
            for (_, note) in told {
                assert!(note.contains(words), "{note}");
            }
        }
        let told = told("default", None).await;
        let note =
            "Pod payments-1-x has a certificate of its own until it is gone: Deployment/payments is gone";
        assert_eq!(told, [("ServedAlone Pod".to_owned(), note.to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_pod_that_is_served_again_nothing_is_told() {
        assert!(told("default", Some(labelled(workload()))).await.is_empty());
    }
}
