//! Workloads: an opt-in adds labels and annotations, and an opt-out removes exactly those.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

use certmint_testkit::{Object, deployment, workload};
use serde_json::{Value, json};

use common::{admit, created, operations, patched};

const KINDS: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"];

/// Returns the metadata of the pod template.
fn template(object: &Object) -> Value {
    object.value().pointer(&(object.template_path() + "/metadata")).unwrap().clone()
}

/// Returns the label `managed`.
fn managed(object: &Object) -> &Value {
    &object.value()["metadata"]["labels"]["certmint.dev/managed"]
}

/// Admits an update and applies the patch.
fn updated(before: &Object, after: &Object) -> Object {
    patched(after, &admit(after, Some(before)).unwrap())
}

#[test]
fn copies_annotations_to_the_template_of_every_kind() {
    for kind in KINDS {
        let created = created(&workload(kind).annotated("inject", "true").annotated("duration", "12h"));
        assert_eq!(managed(&created), "true", "{kind}");
        assert_eq!(
            template(&created),
            json!({
                "labels": {"app": "payments", "certmint.dev/inject": "true"},
                "annotations": {
                    "certmint.dev/inject": "true",
                    "certmint.dev/duration": "12h",
                    "certmint.dev/copied": "inject,duration",
                    "certmint.dev/workload": format!("{kind}/payments"),
                }
            })
        );
    }
}

#[test]
fn does_not_mark_windows_pods_for_injection() {
    let linux = created(&deployment().annotated("inject", "true"));
    let windows = |object: Object| object.with("/spec/template/spec", "os", json!({"name": "windows"}));
    for created in [
        created(&windows(deployment().annotated("inject", "true"))),
        updated(&linux, &windows(linux.clone())),
    ] {
        assert_eq!(managed(&created), "true");
        assert!(template(&created)["labels"]["certmint.dev/inject"].is_null());
    }
}

#[test]
fn an_opt_out_restores_the_template() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "Job") {
        let plain = workload(kind).template_annotated("mount-path", "/tls");
        let opted_in = created(&plain.clone().annotated("inject", "true").annotated("duration", "12h"));
        let removed = opted_in.clone().without_annotation("inject").without_annotation("duration");
        assert_eq!(template(&updated(&opted_in, &removed)), template(&plain), "{kind}");
        assert!(managed(&updated(&opted_in, &removed)).is_null());
        let opted_out = updated(&opted_in, &opted_in.clone().annotated("inject", "false"));
        assert_eq!(template(&opted_out), template(&plain), "{kind}");
        assert!(managed(&opted_out).is_null());
    }
}

#[test]
fn copies_follow_changed_and_removed_annotations() {
    let opted_in = created(&deployment().annotated("inject", "true").annotated("duration", "12h"));
    let changed = updated(&opted_in, &opted_in.clone().annotated("duration", "1h"));
    assert_eq!(template(&changed)["annotations"]["certmint.dev/duration"], "1h");
    let removed = updated(&changed, &changed.clone().without_annotation("duration"));
    assert!(template(&removed)["annotations"]["certmint.dev/duration"].is_null());
    assert_eq!(template(&removed)["annotations"]["certmint.dev/copied"], "inject");
}

#[test]
fn an_annotation_on_the_template_opts_in_and_stays() {
    let own = created(&deployment().template_annotated("inject", "true"));
    assert_eq!(managed(&own), "true");
    assert!(template(&own)["annotations"]["certmint.dev/copied"].is_null());
    let injection = admit(&own.clone().annotated("inject", "false"), Some(&own)).unwrap();
    assert!(injection.patch.is_empty());
    assert_eq!(
        injection.warnings,
        [
            "certmint: SuspiciousSetting: the pod template itself says certmint.dev/inject=true, so the Deployment stays opted in; change it there too"
        ]
    );
}

#[test]
fn the_annotation_on_the_object_has_priority() {
    let both = deployment()
        .annotated("inject", "true")
        .annotated("duration", "1h")
        .template_annotated("duration", "2h");
    let injection = admit(&both, None).unwrap();
    assert_eq!(
        injection.warnings,
        [
            "certmint: SuspiciousSetting: annotation certmint.dev/duration on the pod template is overridden by the one on the Deployment"
        ]
    );
    let annotations = template(&patched(&both, &injection))["annotations"].clone();
    assert_eq!(annotations["certmint.dev/duration"], "1h");
    assert_eq!(annotations["certmint.dev/copied"], "inject,duration");
}

#[test]
fn ignores_objects_that_a_workload_controls() {
    for (kind, owner) in [("ReplicaSet", "Deployment"), ("Job", "CronJob")] {
        let owned = workload(kind).annotated("inject", "true").owned_by(owner, "web");
        assert!(admit(&owned, None).unwrap().patch.is_empty());
    }
}

#[test]
fn an_object_of_a_foreign_owner_is_a_workload() {
    for kind in KINDS {
        for (version, owner) in [
            ("example.com/v1", "Platform"),
            ("argoproj.io/v1alpha1", "Rollout"),
            ("jobset.x-k8s.io/v1alpha2", "JobSet"),
            ("apps.kruise.io/v1alpha1", "Deployment"),
            ("example.com/v1", "CronJob"),
        ] {
            let owned = workload(kind).annotated("inject", "true").controlled_by(version, owner, "web");
            let created = created(&owned);
            assert_eq!(managed(&created), "true", "{kind} of {owner}");
            let workload_annotation = &template(&created)["annotations"]["certmint.dev/workload"];
            assert_eq!(workload_annotation, &format!("{kind}/payments"), "{kind} of {owner}");
        }
    }
}

/// Returns a ReplicaSet or Job as the controller of its Deployment or CronJob creates it, without its owner reference.
fn orphan_of(owner: &str, kind: &str, name: &str) -> Object {
    let owner_object = created(&workload(owner).annotated("inject", "true"));
    let metadata = template(&owner_object);
    workload(kind)
        .with("/metadata", "name", name.into())
        .with("/spec/template", "metadata", metadata)
        .with("/metadata/labels", "certmint.dev/inject", "true".into())
        .annotated("inject", "true")
}

#[test]
fn an_orphan_keeps_its_template() {
    for (owner, kind, name) in
        [("Deployment", "ReplicaSet", "payments-6c9f7d5b88"), ("CronJob", "Job", "payments-29000000")]
    {
        let orphan = orphan_of(owner, kind, name);
        let owned = orphan.clone().owned_by(owner, "payments");
        for before in [&owned, &orphan] {
            assert_eq!(admit(&orphan, Some(before)).unwrap(), Default::default(), "{kind}");
        }
    }
    let restored = orphan_of("Deployment", "ReplicaSet", "payments-6c9f7d5b88");
    assert_eq!(admit(&restored, None).unwrap(), Default::default());
}

#[test]
fn an_annotated_orphan_becomes_a_workload() {
    let orphan = orphan_of("Deployment", "ReplicaSet", "payments-6c9f7d5b88");
    let opted_out = updated(&orphan, &orphan.clone().without_annotation("inject"));
    assert!(template(&opted_out)["annotations"]["certmint.dev/inject"].is_null());
    let other = updated(&orphan, &orphan.clone().annotated("duration", "12h"));
    let recorded = |object: &Object| template(object)["annotations"]["certmint.dev/workload"].clone();
    assert_eq!(recorded(&other), "ReplicaSet/payments-6c9f7d5b88");
    // No Deployment adopts a copy with another name. No CronJob adopts a Job.
    let copy = created(&orphan.with("/metadata", "name", "copy".into()));
    assert_eq!(recorded(&copy), "ReplicaSet/copy");
    let job = created(&orphan_of("CronJob", "Job", "payments-29000000"));
    assert_eq!(recorded(&job), "Job/payments-29000000");
    // A foreign owner may use the template of a Deployment (`workloadRef` of a Rollout).
    let rollout = orphan_of("Deployment", "ReplicaSet", "payments-6c9f7d5b88").controlled_by(
        "argoproj.io/v1alpha1",
        "Rollout",
        "payments",
    );
    assert_eq!(recorded(&created(&rollout)), "ReplicaSet/payments-6c9f7d5b88");
}

#[test]
fn a_job_can_opt_in_only_at_its_creation() {
    let job = workload("Job");
    let annotated = job.clone().annotated("inject", "true");
    let rejection = admit(&annotated, Some(&job)).unwrap_err();
    assert_eq!(
        format!("{}: {rejection}", rejection.code()),
        "TooLate: the pod template of Job/payments cannot change any more; delete the Job and create it with certmint.dev/inject=true (a CronJob can be annotated at any time)"
    );
    let stored = created(&annotated);
    assert!(
        admit(&stored.clone().with("/spec", "suspend", json!(true)), Some(&stored)).unwrap().patch.is_empty()
    );
    let missed = annotated.clone().with("/spec", "suspend", json!(true));
    let injection = admit(&missed, Some(&annotated)).unwrap();
    assert!(
        operations(&injection.patch).iter().all(|operation| !operation.path().as_str().starts_with("/spec"))
    );
    let opted_out = updated(&stored, &stored.clone().without_annotation("inject"));
    assert_eq!(template(&opted_out), template(&stored));
    assert!(managed(&opted_out).is_null());
}

#[test]
fn an_error_from_before_the_update_is_a_warning() {
    let invalid = deployment().annotated("inject", "true").annotated("duration", "1m");
    assert!(admit(&invalid, None).is_err());
    let scaled = invalid.clone().with("/spec", "replicas", json!(3));
    let injection = admit(&scaled, Some(&invalid)).unwrap();
    assert!(injection.patch.is_empty());
    assert!(injection.warnings[0].starts_with("certmint: NotAllowed: annotation certmint.dev/duration"));
    assert!(admit(&invalid, Some(&deployment())).is_err());
    let opted_in = created(&deployment().annotated("inject", "true"));
    let misspelled = opted_in.clone().annotated("durration", "1h");
    assert!(admit(&misspelled, Some(&opted_in)).is_err());
}

#[test]
fn checks_the_template_when_the_workload_opts_in() {
    let conflict =
        deployment().annotated("inject", "true").with_spec("containers", json!([{"name": "certmint"}]));
    assert_eq!(admit(&conflict, None).unwrap_err().code().to_string(), "PodConflict");
}

#[test]
fn warns_of_kinds_that_keep_running_pods() {
    let warnings =
        |object: &Object| admit(&object.clone().annotated("inject", "true"), Some(object)).unwrap().warnings;
    assert_eq!(
        warnings(&workload("ReplicaSet")),
        [
            "certmint: SuspiciousSetting: a ReplicaSet does not replace its running pods: delete them, and the new pods get a certificate"
        ]
    );
    let on_delete = workload("DaemonSet").with("/spec", "updateStrategy", json!({"type": "OnDelete"}));
    assert!(warnings(&on_delete)[0].contains("OnDelete"));
    assert!(warnings(&deployment()).is_empty());
}

#[test]
fn accepts_a_job_without_name_and_a_template_without_metadata() {
    let job = workload("Job").annotated("inject", "true").with("/metadata", "name", Value::Null);
    assert!(template(&created(&job))["annotations"]["certmint.dev/workload"].is_null());
    let bare = deployment().annotated("inject", "true").with("/spec/template", "metadata", Value::Null);
    assert_eq!(template(&created(&bare))["labels"]["certmint.dev/inject"], "true");
}

#[test]
fn rejects_a_workload_without_metadata() {
    let template = deployment().template_annotated("inject", "true").value()["spec"].clone();
    let object = Object::from(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": template}));
    assert_eq!(admit(&object, None).unwrap_err().code().to_string(), "BadReview");
}

#[test]
fn warns_of_annotations_without_inject() {
    let warnings = |object: &Object| admit(object, None).unwrap().warnings;
    assert_eq!(
        warnings(&deployment().annotated("duration", "1h").template_annotated("order", "last")),
        [
            "certmint: SuspiciousSetting: annotations certmint.dev/duration, certmint.dev/order have no effect without certmint.dev/inject=true"
        ]
    );
    assert!(warnings(&deployment().annotated("duration", "1h").annotated("inject", "false")).is_empty());
    assert!(warnings(&deployment()).is_empty());
}

#[test]
fn warns_of_long_running_pods_without_renewal() {
    for kind in KINDS {
        let opted_in = workload(kind).annotated("inject", "true").annotated("renew", "false");
        let expected = format!(
            "certmint: SuspiciousSetting: with renew: \"false\" nothing renews the certificate in the pods of a {kind}, which run longer than it is valid; leave it out, or restart them in time"
        );
        let warned = admit(&opted_in, None).unwrap().warnings.contains(&expected);
        assert_eq!(warned, !["Job", "CronJob"].contains(&kind), "{kind}");
    }
}

/// Returns a Deployment with labels under Certmint's prefix, on itself and on its template.
fn labelled(object: &[(&str, &str)], template: &[(&str, &str)]) -> Object {
    let label = |map: &'static str| {
        move |to: Object, (key, value): &(&str, &str)| {
            to.with(map, &format!("certmint.dev/{key}"), (*value).into())
        }
    };
    let labelled = object.iter().fold(deployment(), label("/metadata/labels"));
    template.iter().fold(labelled, label("/spec/template/metadata/labels"))
}

#[test]
fn rejects_an_opt_in_by_label() {
    let sentence = "label certmint.dev/inject has no effect, because Certmint reads annotations; move it from labels to annotations";
    let inject = [("inject", "true")];
    for wrong in [
        labelled(&inject, &[]),
        labelled(&[], &inject),
        labelled(&inject, &inject),
        labelled(&[("inject", "enabled")], &[]),
    ] {
        for before in [None, Some(&deployment())] {
            let rejection = admit(&wrong, before).unwrap_err();
            assert_eq!(
                (rejection.code().to_string(), rejection.to_string()),
                ("WrittenAsLabel".into(), sentence.into())
            );
        }
        // A label that was there before the update causes a warning only, and stays.
        let injection = admit(&wrong.clone().with("/spec", "replicas", json!(3)), Some(&wrong)).unwrap();
        assert_eq!(injection.warnings, [format!("certmint: WrittenAsLabel: {sentence}")]);
        assert!(injection.patch.is_empty());
    }
    let others = labelled(&[("duration", "1h")], &[("mode", "secret")]).annotated("inject", "true");
    assert!(
        admit(&others, None)
            .unwrap_err()
            .to_string()
            .starts_with("label certmint.dev/duration, certmint.dev/mode has")
    );
}

#[test]
fn accepts_labels_next_to_the_annotation() {
    let inject = [("inject", "true")];
    for valid in [
        labelled(&inject, &inject).annotated("inject", "true"),
        labelled(&inject, &[]).template_annotated("inject", "true"),
        labelled(&inject, &[]).annotated("inject", "false"),
        labelled(&[("inject", "false")], &[("inject", "false")]),
    ] {
        assert!(admit(&valid, None).unwrap().warnings.is_empty());
    }
    // The user creates a copy of a workload that opted in, without the annotation on the workload itself.
    let opted_in = created(&deployment().annotated("inject", "true"));
    let copied = opted_in.clone().without_annotation("inject");
    assert!(template(&created(&copied))["labels"]["certmint.dev/inject"].is_null());
    let edited = copied.with("/spec/template/metadata", "annotations", Value::Null);
    assert!(template(&updated(&opted_in, &edited))["labels"]["certmint.dev/inject"].is_null());
    // A ReplicaSet has the labels of the template that it was created from.
    let rollout = workload("ReplicaSet").with("/metadata/labels", "certmint.dev/inject", "true".into());
    assert!(admit(&rollout, None).unwrap().warnings.is_empty());
}

#[test]
fn explains_how_to_undo_an_opt_in_after_a_rollback() {
    for kind in ["StatefulSet", "DaemonSet"] {
        let plain = workload(kind);
        let opted_in = created(&plain.clone().annotated("inject", "true"));
        let undone = opted_in.clone().with("/spec", "template", plain.value()["spec"]["template"].clone());
        let injection = admit(&undone, Some(&opted_in)).unwrap();
        assert_eq!(patched(&undone, &injection), opted_in, "{kind}");
        let command =
            format!("kubectl -n shop annotate {}/payments certmint.dev/inject-", kind.to_lowercase());
        let [warning] = &*injection.warnings else { panic!("{:?}", injection.warnings) };
        assert!(warning.contains(&command) && warning.len() < 250, "{warning}");

        let opted_out = updated(&opted_in, &opted_in.clone().without_annotation("inject"));
        let redone =
            opted_out.clone().with("/spec", "template", opted_in.value()["spec"]["template"].clone());
        let injection = admit(&redone, Some(&opted_out)).unwrap();
        assert_eq!(template(&patched(&redone, &injection)), template(&opted_out), "{kind}");
        let command =
            format!("kubectl -n shop annotate {}/payments certmint.dev/inject=true", kind.to_lowercase());
        let [warning] = &*injection.warnings else { panic!("{:?}", injection.warnings) };
        assert!(warning.contains(&command) && warning.len() < 250, "{warning}");
    }
}

#[test]
fn a_later_update_repairs_a_missed_injection() {
    for kind in KINDS.into_iter().filter(|kind| *kind != "Job") {
        let relabelled = |object: &Object| object.clone().with("/metadata/labels", "team", "shop".into());
        let plain = workload(kind);
        let opted_in = created(&plain.clone().annotated("inject", "true"));
        let missed = plain.clone().annotated("inject", "true");
        assert_eq!(template(&updated(&missed, &relabelled(&missed))), template(&opted_in), "{kind}");
        let stale = opted_in.without_annotation("inject");
        let repaired = updated(&stale, &relabelled(&stale));
        assert_eq!(template(&repaired)["labels"], template(&plain)["labels"], "{kind}");
        assert_eq!(template(&repaired)["annotations"], json!({}), "{kind}");
        assert!(managed(&repaired).is_null());
        let own = plain.template_annotated("inject", "true");
        assert_eq!(updated(&own, &relabelled(&own)), relabelled(&created(&own)), "{kind}");
    }
}
