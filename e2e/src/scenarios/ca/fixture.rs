//! Objects of the scenario `ca-accidents`, and functions that change and inspect them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::create_namespace;
use certmint_local_cluster::progress::note;
use certmint_local_cluster::wait::{self, Check, DEFAULT_TIMEOUT};
use certmint_local_cluster::{command, workload};
use serde_json::{Value, json};

use crate::support::{events, metrics};

/// kubectl option that selects the controller's pods.
pub(super) const CONTROLLERS: &str = "--selector=app.kubernetes.io/component=controller";

/// The cluster, and kubectl for Certmint's namespace and for the scenario's.
pub(super) struct CaFixture<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) system: Kubectl<'a>,
    pub(super) kubectl: Kubectl<'a>,
}

/// Serial number, issuer and root of the certificate in a workload's Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) serial: String,
    /// Key identifier of the issuing CA.
    pub(super) issuer: String,
    pub(super) root: String,
}

impl<'a> CaFixture<'a> {
    pub(super) fn new(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
        Ok(Self { cluster, system, kubectl: create_namespace(cluster, name, &[])? })
    }
}

impl CaFixture<'_> {
    /// Returns the CA's Secret.
    pub(super) fn stored_ca(&self) -> Result<Value> {
        self.system.get(&["secret", "certmint-ca"])
    }

    /// Changes these entries of the CA's Secret.
    pub(super) fn patch_ca(&self, data: &Value) -> Result<()> {
        let patch = json!({ "data": data }).to_string();
        self.system.run(&["patch", "secret", "certmint-ca", "--patch", &patch]).map(drop)
    }

    /// Replaces entries of the issuing CA in the CA's Secret by the entries in `damaged`. Waits for an Event that
    /// contains `cause`, and asserts that the same root has signed a new issuing CA.
    pub(super) fn damage_and_wait_for_repair(&self, damaged: &Value, cause: &str) -> Result<()> {
        let before = self.stored_ca()?;
        self.patch_ca(damaged)?;
        let deployment = "Deployment/certmint-controller";
        let event =
            events::wait_for_event(&self.system, deployment, "SecretDamaged", |note| note.contains(cause))?;
        note(&event);
        let after = self.stored_ca()?;
        for key in ["root.crt", "root.key"] {
            ensure!(after["data"][key] == before["data"][key], "{key} changed");
        }
        for key in ["issuing.crt", "issuing.key"] {
            ensure!(
                after["data"][key] != before["data"][key],
                "{key} is still the one from before the damage"
            );
            ensure!(after["data"][key] != damaged[key], "{key} is still the damaged one");
        }
        Ok(())
    }

    /// Applies an opted-in Deployment without pods. The scenario needs only its Secret.
    pub(super) fn opt_in(&self, name: &str) -> Result<()> {
        let deployment = workload::deployment_without_pods(name, &workload::opt_in_annotations(&[]));
        self.kubectl.apply(&deployment.to_string()).map(drop)
    }

    pub(super) fn wait_for_certificate(&self, name: &str) -> Result<Certificate> {
        self.wait_for_secret(name, |_| true)
    }

    /// Waits until the workload has another certificate than `before`.
    pub(super) fn wait_for_reissue(&self, name: &str, before: &Certificate) -> Result<Certificate> {
        self.wait_for_secret(name, |certificate| certificate.serial != before.serial)
    }

    fn wait_for_secret(&self, name: &str, accepts: impl Fn(&Certificate) -> bool) -> Result<Certificate> {
        let secret = format!("{name}-certmint-tls");
        wait::until(&format!("Secret {secret}"), DEFAULT_TIMEOUT, || {
            let found = self.kubectl.get(&["secret", &secret])?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let annotations = &found["metadata"]["annotations"];
            let certificate = Certificate {
                serial: text(&annotations["certmint.dev/serial"]),
                issuer: text(&annotations["certmint.dev/issuer"]),
                root: text(&found["data"]["ca.crt"]),
            };
            Ok(if accepts(&certificate) {
                Check::Passed(certificate)
            } else {
                Check::NotYet(format!("{certificate:?}"))
            })
        })
    }

    pub(super) fn assert_unchanged(&self, name: &str, before: &Certificate) -> Result<()> {
        let current = self.wait_for_certificate(name)?;
        ensure!(current == *before, "the certificate of {name} was reissued: {current:?}");
        Ok(())
    }

    /// Waits until an Event on the controller's Deployment says that the CA cannot be used, with `cause`, and until the
    /// metrics of all controllers report the same.
    pub(super) fn wait_for_refusal(&self, cause: &str) -> Result<()> {
        let event = wait_for_unavailable_ca(&self.system, "Deployment/certmint-controller", cause)?;
        note(&event);
        let described = self.system.run(&["describe", "deployment", "certmint-controller"])?;
        ensure!(
            described.contains(cause),
            "kubectl describe deployment does not contain {cause:?}:\n{described}"
        );
        self.wait_for_gauge("0")
    }

    pub(super) fn assert_no_ca(&self) -> Result<()> {
        let secret = self.system.get(&["secret", "certmint-ca"]);
        ensure!(secret.is_err(), "the controller has created another CA");
        Ok(())
    }

    pub(super) fn wait_for_usable_ca(&self) -> Result<()> {
        self.wait_for_gauge("1")
    }

    /// Waits until the metric `certmint_ca_usable` of every controller has this value.
    fn wait_for_gauge(&self, value: &str) -> Result<()> {
        wait::until(&format!("certmint_ca_usable to be {value}"), DEFAULT_TIMEOUT, || {
            let pods = self.system.list(&["pods", CONTROLLERS])?;
            let mut seen = Vec::new();
            for pod in &pods {
                let gauge = metrics::value(self.cluster, pod, "certmint_ca_usable")?;
                seen.push(gauge.unwrap_or_default());
            }
            let all_equal = !seen.is_empty() && seen.iter().all(|gauge| gauge == value);
            Ok(if all_equal { Check::Passed(()) } else { Check::NotYet(format!("{seen:?}")) })
        })
    }

    /// Waits until an Event on the Deployment says that its certificate cannot be issued.
    pub(super) fn wait_for_refused_workload(&self, name: &str) -> Result<()> {
        let deployment = format!("Deployment/{name}");
        wait_for_unavailable_ca(&self.kubectl, &deployment, "no usable CA").map(drop)
    }

    /// Waits until exactly two controllers run, and both are ready.
    pub(super) fn wait_for_ready_controllers(&self) -> Result<()> {
        self.wait_for_controllers("two running and ready controllers", |pod| is_true(pod, "Ready"))
    }

    /// Waits until exactly two controllers run, and neither is ready.
    pub(super) fn wait_for_unready_controllers(&self) -> Result<()> {
        self.wait_for_controllers("two running controllers, neither ready", |pod| !is_true(pod, "Ready"))
    }

    fn wait_for_controllers(&self, what: &str, is_expected: fn(&Value) -> bool) -> Result<()> {
        wait::until(what, DEFAULT_TIMEOUT, || {
            let pods = self.system.list(&["pods", CONTROLLERS])?;
            let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            let expected = running.filter(|pod| is_expected(pod)).count();
            Ok(if expected == 2 && pods.len() == 2 {
                Check::Passed(())
            } else {
                Check::NotYet(format!("{expected} of {}", pods.len()))
            })
        })
    }

    /// Replaces the CA's Secret by the one in this manifest.
    pub(super) fn replace_ca(&self, manifest: &str) -> Result<()> {
        let mut replace = self.system.command(&["replace", "--filename=-"]);
        command::output_with_input(&mut replace, manifest).map(drop)
    }

    /// Asserts that the backup contains the CA's Secret, and that neither Alice nor Bob can decrypt it alone.
    pub(super) fn assert_encrypted_backup(&self) -> Result<()> {
        let home = backup_directory(self.cluster)?;
        let encrypted = fs::read_to_string(home.join("certmint-ca.cms"))?;
        for keys in [&["alice.key"][..], &["bob.key"]] {
            let alone = decrypt(&home, &encrypted, keys).unwrap_or_default();
            ensure!(!alone.contains("root.key"), "one person alone can decrypt the backup with {keys:?}");
        }
        let backup = decrypt(&home, &encrypted, &["bob.key", "alice.key"])?;
        let key = self.stored_ca()?["data"]["root.key"].as_str().unwrap_or_default().to_owned();
        ensure!(!key.is_empty() && backup.contains(&key), "the backup does not contain the root's key");
        Ok(())
    }

    /// Restores the backup of the CA, and waits until the controllers can use it.
    pub(super) fn restore_backup(&self) -> Result<()> {
        let home = backup_directory(self.cluster)?;
        let encrypted = fs::read_to_string(home.join("certmint-ca.cms"))?;
        // The documentation's commands encrypted the backup first for Alice, and then for Bob.
        self.replace_ca(&decrypt(&home, &encrypted, &["bob.key", "alice.key"])?)?;
        self.wait_for_usable_ca()
    }
}

/// Decrypts a text with these keys in `home`, one after the other.
fn decrypt(home: &Path, encrypted: &str, keys: &[&str]) -> Result<String> {
    keys.iter().try_fold(encrypted.to_owned(), |encrypted, key| {
        let mut decrypt = Command::new("openssl");
        decrypt.args(["cms", "-decrypt", "-inform", "PEM", "-inkey"]).arg(home.join(key));
        command::output_with_input(&mut decrypt, &encrypted)
    })
}

/// Waits for an Event on the object (`Kind/name`) which says that the CA cannot be used and contains `words`. Returns
/// the note of the Event.
fn wait_for_unavailable_ca(kubectl: &Kubectl<'_>, object: &str, words: &str) -> Result<String> {
    events::wait_for_event(kubectl, object, "CaUnavailable", |note| note.contains(words))
}

/// Returns the decoded text of a key in the `data` of the CA's Secret.
pub(super) fn decoded(stored: &Value, key: &str) -> Result<String> {
    let encoded = stored["data"][key].as_str().with_context(|| format!("the CA's Secret lacks {key}"))?;
    Ok(String::from_utf8(BASE64_STANDARD.decode(encoded)?)?)
}

/// Returns the directory in which the documentation's commands run and store the backup. It is removed with the
/// cluster.
pub(super) fn backup_directory(cluster: &Cluster) -> Result<PathBuf> {
    let home = cluster.directory()?.root().join("home");
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    Ok(home)
}
