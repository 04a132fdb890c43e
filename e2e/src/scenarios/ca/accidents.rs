//! What may happen to the CA, one after the other, and each time the way back.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use certmint_docs_tests::book::Guide;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::installation::{self, SYSTEM_NAMESPACE};
use certmint_local_cluster::kubectl::{Kubectl, is_true};
use certmint_local_cluster::namespaces::namespace;
use certmint_local_cluster::progress::{note, step};
use certmint_local_cluster::wait::{self, Observed};
use certmint_local_cluster::{command, workload};
use serde_json::{Value, json};
use time::Duration;

use super::super::own_cluster::own_cluster;
use super::crafted;
use crate::story::{PATIENCE, events, metrics};

const NAMESPACE: &str = "ca-accidents";
const CONTROLLERS: &str = "--selector=app.kubernetes.io/component=controller";

/// On a cluster of its own, whose CA nobody else needs.
pub(super) fn run(shared: &Cluster) -> Result<()> {
    own_cluster(shared, NAMESPACE, &[NAMESPACE, SYSTEM_NAMESPACE], show)
}

fn show(cluster: &Cluster) -> Result<()> {
    installation::install(cluster, &[])?;
    let scene = Scene {
        cluster,
        system: cluster.kubectl().namespace(SYSTEM_NAMESPACE),
        kubectl: namespace(cluster, NAMESPACE, &[])?,
    };
    let mut book = Guide::open(cluster, "restore-the-ca")?.at_home(home(cluster)?);
    scene.opt_in("payments")?;
    let issued = scene.issued("payments")?;

    step("it is backed up as the book says", || book.through("openssl x509"))?;
    step("deleted: nothing more is issued, and it is said where people look", || scene.deleted())?;
    step("the controllers that run stay ready; those that start are not, and make no other CA", || {
        scene.restarted_without()
    })?;
    step("brought back as the book says: what waited is issued, what was issued stays", || {
        book.through("kubectl create --namespace certmint-system")?;
        scene.as_before(&issued)
    })?;
    step("its issuing CA damaged: the root signs another, and nothing is issued anew for that", || {
        scene.issuing_damaged(&issued)
    })?;
    step("an issuing CA from the future: the same", || scene.issuing_from_the_future(&issued))?;
    step("its root damaged: a key cut in half", || scene.damaged())?;
    step("put back as the book says", || {
        book.through("kubectl replace --namespace certmint-system")?;
        scene.usable()
    })?;
    step("swapped for another good CA: nothing is signed by a root that nobody trusts", || scene.swapped())?;
    step("expired: the root's end is told", || scene.expired())?;
    step("uninstalled and installed again: the CA and what it issued are the same", || {
        scene.installed_again(&issued)
    })?;
    step("its namespace deleted: installed again, it makes no new CA", || scene.without_namespace(&issued))?;
    step("a new root is accepted as the book says, and everything is issued by it", || {
        book.finish()?;
        scene.new_root(&issued)
    })
}

/// The cluster, our namespace and the scenario's.
struct Scene<'a> {
    cluster: &'a Cluster,
    system: Kubectl<'a>,
    kubectl: Kubectl<'a>,
}

/// What a workload's Secret says of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Issued {
    serial: String,
    root: String,
}

/// What happens, and what has to come of it.
impl Scene<'_> {
    fn deleted(&self) -> Result<()> {
        self.system.delete(&["secret", "certmint-ca"])?;
        self.refuses("the CA's Secret is gone, but there was one: its trust bundle is still there")?;
        self.opt_in("late")?;
        self.is_refused("late")
    }

    fn restarted_without(&self) -> Result<()> {
        self.controllers(true)?;
        self.system.delete(&["pods", CONTROLLERS])?;
        self.refuses("the CA's Secret is gone")?;
        self.controllers(false)?;
        self.no_other_ca()
    }

    fn as_before(&self, issued: &Issued) -> Result<()> {
        let late = self.issued("late")?;
        ensure!(late.root == issued.root, "the root is another one");
        self.unchanged("payments", issued)
    }

    fn issuing_damaged(&self, issued: &Issued) -> Result<()> {
        let stored = self.stored()?;
        let cut = crafted::cut(&stored["data"]["issuing.key"])?;
        self.is_repaired(&json!({ "issuing.key": cut }), "the issuing CA's key")?;
        self.opt_in("after-damage")?;
        self.serves_as_before("after-damage", issued)
    }

    /// As a leader leaves it whose clock was 40 days ahead for a moment.
    fn issuing_from_the_future(&self, issued: &Issued) -> Result<()> {
        let future = crafted::issuing_signed_in(&self.stored()?, Duration::days(40))?;
        self.is_repaired(&future, "the issuing CA is valid from")?;
        self.opt_in("after-future")?;
        self.serves_as_before("after-future", issued)
    }

    fn serves_as_before(&self, new: &str, issued: &Issued) -> Result<()> {
        let new = self.issued(new)?;
        ensure!(new.root == issued.root, "the root is another one");
        self.usable()?;
        self.unchanged("payments", issued)
    }

    fn damaged(&self) -> Result<()> {
        let cut = crafted::cut(&self.stored()?["data"]["root.key"])?;
        self.patch(&json!({ "root.key": cut }))?;
        self.refuses("the CA's Secret cannot be used: the root CA's key")
    }

    fn swapped(&self) -> Result<()> {
        self.put(&crafted::made_ago(Duration::ZERO)?)?;
        self.refuses("holds another root than the published trust bundle")?;
        self.opt_in("strange")?;
        self.is_refused("strange")?;
        ensure!(self.kubectl.get(&["secret", "strange-certmint-tls"]).is_err(), "it was issued for");
        self.put_back()
    }

    fn expired(&self) -> Result<()> {
        self.put(&crafted::made_ago(Duration::days(3_651))?)?;
        self.refuses("the root CA expired at ")?;
        self.put_back()
    }

    fn installed_again(&self, issued: &Issued) -> Result<()> {
        installation::uninstall(self.cluster)?;
        installation::install(self.cluster, &[])?;
        self.unchanged("payments", issued)
    }

    fn without_namespace(&self, issued: &Issued) -> Result<()> {
        installation::uninstall(self.cluster)?;
        self.cluster.kubectl().delete(&["namespace", SYSTEM_NAMESPACE])?;
        installation::apply(self.cluster, &[])?;
        self.refuses("Secret ca-accidents/")?;
        self.no_other_ca()?;
        self.unchanged("payments", issued)
    }

    fn new_root(&self, issued: &Issued) -> Result<()> {
        let anew = self.reissued("payments", issued)?;
        ensure!(anew.root != issued.root, "the root is the same");
        installation::ready(self.cluster)
    }
}

/// What is asked and done on the way.
impl Scene<'_> {
    fn stored(&self) -> Result<Value> {
        self.system.get(&["secret", "certmint-ca"])
    }

    /// Changes these keys of the CA's Secret.
    fn patch(&self, data: &Value) -> Result<()> {
        let patch = json!({ "data": data }).to_string();
        self.system.run(&["patch", "secret", "certmint-ca", "--patch", &patch]).map(drop)
    }

    /// Spoils the issuing CA, and waits until there is another one of the same root, and an Event says why.
    fn is_repaired(&self, spoilt: &Value, why: &str) -> Result<()> {
        let before = self.stored()?;
        self.patch(spoilt)?;
        let deployment = "Deployment/certmint-controller";
        let told = events::await_told(&self.system, deployment, "SecretDamaged", |note| note.contains(why))?;
        note(&told);
        let after = self.stored()?;
        for key in ["root.crt", "root.key"] {
            ensure!(after["data"][key] == before["data"][key], "{key} changed");
        }
        for key in ["issuing.crt", "issuing.key"] {
            ensure!(after["data"][key] != before["data"][key], "{key} is the former one");
            ensure!(after["data"][key] != spoilt[key], "{key} is still the spoilt one");
        }
        Ok(())
    }

    /// A workload without pods: its Secret is what matters.
    fn opt_in(&self, name: &str) -> Result<()> {
        let deployment = workload::without_pods(name, &workload::opting_in(&[]));
        self.kubectl.apply(&deployment.to_string()).map(drop)
    }

    fn issued(&self, name: &str) -> Result<Issued> {
        self.secret(name, |_| true)
    }

    fn reissued(&self, name: &str, before: &Issued) -> Result<Issued> {
        self.secret(name, |issued| issued.serial != before.serial)
    }

    fn secret(&self, name: &str, wanted: impl Fn(&Issued) -> bool) -> Result<Issued> {
        let secret = format!("{name}-certmint-tls");
        wait::until(&format!("Secret {secret}"), PATIENCE, || {
            let found = self.kubectl.get(&["secret", &secret])?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let serial = text(&found["metadata"]["annotations"]["certmint.dev/serial"]);
            let issued = Issued { serial, root: text(&found["data"]["ca.crt"]) };
            Ok(if wanted(&issued) { Observed::Yes(issued) } else { Observed::NotYet(format!("{issued:?}")) })
        })
    }

    fn unchanged(&self, name: &str, before: &Issued) -> Result<()> {
        let now = self.issued(name)?;
        ensure!(now == *before, "{name} was issued again: {now:?}");
        Ok(())
    }

    /// Waits until an Event on the controller's Deployment and the metrics say that there is no CA, and why.
    fn refuses(&self, why: &str) -> Result<()> {
        let told = told_unavailable(&self.system, "Deployment/certmint-controller", why)?;
        note(&told);
        let described = self.system.run(&["describe", "deployment", "certmint-controller"])?;
        ensure!(described.contains(why), "kubectl describe deployment does not say {why:?}:\n{described}");
        self.gauge("0")
    }

    fn no_other_ca(&self) -> Result<()> {
        ensure!(self.system.get(&["secret", "certmint-ca"]).is_err(), "another CA was made");
        Ok(())
    }

    fn usable(&self) -> Result<()> {
        self.gauge("1")
    }

    /// Waits until every controller's `certmint_ca_usable` is that.
    fn gauge(&self, value: &str) -> Result<()> {
        wait::until(&format!("certmint_ca_usable {value}"), PATIENCE, || {
            let pods = self.system.list(&["pods", CONTROLLERS])?;
            let mut seen = Vec::new();
            for pod in &pods {
                let gauge = metrics::value(self.cluster, pod, "certmint_ca_usable")?;
                seen.push(gauge.unwrap_or_default());
            }
            let all = !seen.is_empty() && seen.iter().all(|gauge| gauge == value);
            Ok(if all { Observed::Yes(()) } else { Observed::NotYet(format!("{seen:?}")) })
        })
    }

    /// Waits until an Event on a workload of the scenario's says that nothing is issued.
    fn is_refused(&self, name: &str) -> Result<()> {
        let deployment = format!("Deployment/{name}");
        told_unavailable(&self.kubectl, &deployment, "no usable CA").map(drop)
    }

    /// Waits until two controllers run and are ready, or not.
    fn controllers(&self, ready: bool) -> Result<()> {
        wait::until(&format!("two controllers, ready: {ready}"), PATIENCE, || {
            let pods = self.system.list(&["pods", CONTROLLERS])?;
            let running = pods.iter().filter(|pod| pod["status"]["phase"] == "Running");
            let good = running.filter(|pod| is_true(pod, "Ready") == ready).count();
            Ok(if good == 2 && pods.len() == 2 {
                Observed::Yes(())
            } else {
                Observed::NotYet(format!("{good} of {}", pods.len()))
            })
        })
    }

    /// Puts another content into the CA's Secret.
    fn put(&self, secret: &Value) -> Result<()> {
        let mut replace = self.system.command(&["replace", "--filename=-"]);
        command::output_with_input(&mut replace, &secret.to_string()).map(drop)
    }

    fn put_back(&self) -> Result<()> {
        let backup = fs::read_to_string(home(self.cluster)?.join("certmint-ca.yaml"))?;
        let mut replace = self.system.command(&["replace", "--filename=-"]);
        command::output_with_input(&mut replace, &backup)?;
        self.usable()
    }
}

/// Waits until an Event on the object (`Kind/name`) says with these words that the CA cannot be used, and returns its note.
fn told_unavailable(kubectl: &Kubectl<'_>, object: &str, words: &str) -> Result<String> {
    events::await_told(kubectl, object, "CaUnavailable", |note| note.contains(words))
}

/// Where the reader keeps files: it goes with the cluster.
fn home(cluster: &Cluster) -> Result<PathBuf> {
    let home = cluster.state()?.directory().join("home");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    Ok(home)
}
