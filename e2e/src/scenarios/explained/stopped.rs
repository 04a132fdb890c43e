//! What keeps a certificate away after the annotation was taken.

use anyhow::{Context as _, Result, ensure};
use certmint_local_cluster::kubectl::Kubectl;
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::workload;
use serde_json::json;

use super::told::Told;
use crate::story::PATIENCE;

/// What a webhook that was there would have refused or changed.
pub(super) fn early(told: &Told<'_>) -> Result<()> {
    told.opted_in("unheard", &json!({}))?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    let mut missed = told.deployment("missed", &json!({}), &json!({}));
    missed["spec"]["template"]["metadata"]["annotations"] = opted_in.clone();
    missed["spec"]["template"]["metadata"]["labels"]["certmint.dev/inject"] = "true".into();
    told.kubectl.apply(&missed.to_string())?;
    workload::await_pods(&told.kubectl, "missed", false)?;

    // As if the policy had been wider when it was annotated.
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/dns-names": "pay.example.com" });
    let mut greedy = told.deployment("greedy", &annotations, &json!({}));
    greedy["metadata"]["labels"]["certmint.dev/managed"] = "true".into();
    greedy["spec"]["template"]["metadata"]["annotations"] = annotations;
    greedy["spec"]["template"]["metadata"]["annotations"]["certmint.dev/copied"] = "inject,dns-names".into();
    told.kubectl.apply(&greedy.to_string()).map(drop)
}

pub(super) fn early_is_told(told: &Told<'_>) -> Result<()> {
    told.workload("unheard", "OptInMissed")?;
    told.pod("missed", "NotInjected")?;
    told.workload("greedy", "NotAllowed")?;
    // The remedy that was told.
    told.kubectl.run(&["annotate", "deployment/unheard", "certmint.dev/inject-"])?;
    told.kubectl.run(&["annotate", "deployment/unheard", "certmint.dev/inject=true"])?;
    workload::await_pods(&told.kubectl, "unheard", true).map(drop)
}

/// A Secret of somebody's, and two workloads that want one Secret.
pub(super) fn in_the_way(told: &Told<'_>) -> Result<()> {
    told.kubectl.run(&["create", "secret", "generic", "foreign-certmint-tls", "--from-literal=mine=yes"])?;
    told.opted_in("foreign", &json!({}))?;
    let shared = json!({ "certmint.dev/secret-name": "shared" });
    told.opted_in("first", &shared)?;
    workload::await_pods(&told.kubectl, "first", true)?;
    // Under another account: the first one's certificate is no use to it.
    told.kubectl.run(&["create", "serviceaccount", "other"])?;
    let annotations = json!({ "certmint.dev/inject": "true", "certmint.dev/secret-name": "shared" });
    let second = told.deployment("second", &annotations, &json!({ "serviceAccountName": "other" }));
    told.kubectl.apply(&second.to_string()).map(drop)
}

pub(super) fn in_the_way_is_told(told: &Told<'_>) -> Result<()> {
    told.workload("foreign", "ForeignSecret")?;
    told.pod("foreign", "ForeignSecret")?;
    told.events("secret/foreign-certmint-tls", "ForeignSecret")?;
    told.workload("second", "SecretClaimed")?;
    told.pod("second", "SecretClaimed")?;
    told.events("secret/shared", "SecretClaimed")?;
    // kubectl describe shows no Events of Secrets, but annotations.
    says(told, "certmint.dev/workload: Deployment/first")
}

/// The Secret of `first`, which has a certificate by now.
pub(super) fn damaged(told: &Told<'_>) -> Result<()> {
    let patch = json!({ "stringData": { "tls.crt": "junk" } }).to_string();
    told.kubectl.run(&["patch", "secret/shared", "--patch", &patch])?;
    told.workload("first", "SecretDamaged")?;
    told.events("secret/shared", "SecretDamaged")?;
    says(told, "certmint.dev/reason: damaged:")
}

fn says(told: &Told<'_>, words: &str) -> Result<()> {
    wait::until(&format!("kubectl describe secret to say {words}"), PATIENCE, || {
        let text = told.kubectl.run(&["describe", "secret/shared"])?;
        Ok(if text.contains(words) { Observed::Yes(()) } else { Observed::NotYet(text) })
    })
}

pub(super) fn nameless(told: &Told<'_>) -> Result<()> {
    let described = told.kubectl.run(&["describe", "deployment/first"])?;
    ensure!(
        described.contains("no Service selects its pods"),
        "nothing says that there are no names: {described}"
    );
    Ok(())
}

/// A pod that finds no Service by name, which to it is as good as a network that lets nothing through.
pub(super) fn unreachable(told: &Told<'_>) -> Result<()> {
    // The Secret that would make it start without the API is held back by a Secret in its place.
    told.kubectl.run(&["create", "secret", "generic", "deaf-certmint-tls", "--from-literal=mine=yes"])?;
    let opted_in = json!({ "certmint.dev/inject": "true" });
    let deaf = told.deployment("deaf", &opted_in, &json!({ "dnsPolicy": "Default" }));
    told.kubectl.apply(&deaf.to_string())?;
    told.pod("deaf", "DeadlineExceeded")?;
    told.pod("deaf", "Unreachable")
}

/// Deletes the CA, shows what is told, and puts it back.
pub(super) fn without_ca(told: &Told<'_>, system: &Kubectl<'_>) -> Result<()> {
    let mut ca = system.get(&["secret", "certmint-ca"])?;
    let metadata = ca["metadata"].as_object_mut().context("the CA's Secret has no metadata")?;
    metadata.retain(|key, _| matches!(key.as_str(), "name" | "labels" | "annotations"));
    system.delete(&["secret", "certmint-ca"])?;
    let shown = (|| {
        told.describe(system, "deployment/certmint-controller", "CaUnavailable")?;
        told.opted_in("orphan", &json!({}))?;
        told.workload("orphan", "CaUnavailable")?;
        told.pod("orphan", "CaUnavailable")
    })();
    system.apply(&ca.to_string())?;
    shown?;
    wait::until("what waited for the CA to be issued", PATIENCE, || {
        Ok(match told.kubectl.get(&["secret/orphan-certmint-tls"]) {
            Ok(_) => Observed::Yes(()),
            Err(error) => Observed::NotYet(format!("{error:#}")),
        })
    })
}
