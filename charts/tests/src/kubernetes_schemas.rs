//! Validates rendered objects with the schemas of all supported Kubernetes versions. Finds unknown fields, wrong
//! types and missing fields. A test on a real API server would validate for one version only.
//!
//! The schemas come from released packages, which are pinned by their hashes, and are kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use certmint_local_cluster::cache::{Cache, Key, remove_dir};
use certmint_local_cluster::{command, machine, progress};
use serde_json::Value;

use crate::manifest::{Manifest, title};
use crate::openapi::Schema;

/// Supported versions, from the oldest that the chart accepts to the newest.
const VERSIONS: [&str; 5] = ["1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0"];
/// Python package with the OpenAPI definitions of all these versions, and its hash.
const KUBERNETES: &str = "kubernetes-validate==1.37.0";
const KUBERNETES_HASH: &str = "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9";
/// Path of the definitions of one version in the package. `{}` stands for the version.
const DEFINITIONS: &str = "kubernetes_validate/kubernetes-json-schema/v{}-local/_definitions.json";
/// Go module with the definitions of the Prometheus operator's objects, and its checksum as in go.sum.
const PROMETHEUS_OPERATOR: &str = "github.com/prometheus-operator/prometheus-operator@v0.93.1";
const PROMETHEUS_OPERATOR_SUM: &str = "h1:4Juk8v93RdG1DSGD/mGp+SeQKPmnlLIj2iq3blLZgFY=";
/// Files in the module with the CustomResourceDefinitions of ServiceMonitor and PrometheusRule.
const MONITORING: [&str; 2] = ["servicemonitors-crd.json", "prometheusrules-crd.json"];
/// Directory of these files in the module.
const MONITORING_DIRECTORY: &str = "jsonnet/prometheus-operator";

/// Schemas of all versions, and of the Prometheus operator's objects.
pub(crate) struct Schemas {
    /// Definitions by version.
    kubernetes: Vec<(&'static str, Value)>,
    /// Definitions of the Prometheus operator's objects.
    monitoring: Vec<Value>,
}

impl Schemas {
    pub(crate) fn fetch(cache: &Cache) -> Result<Self> {
        let directory = fetch_kubernetes(cache)?;
        let kubernetes = VERSIONS.iter().map(|version| {
            let mut definitions = json(&directory.join(DEFINITIONS.replace("{}", version)))?;
            Ok((*version, definitions["$defs"].take()))
        });
        Ok(Self {
            kubernetes: kubernetes.collect::<Result<_>>()?,
            monitoring: fetch_monitoring(cache)?.iter().map(|file| json(file)).collect::<Result<_>>()?,
        })
    }

    /// Checks that every object is valid in every version.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<()> {
        for (version, definitions) in &self.kubernetes {
            for object in manifest.objects() {
                let errors = self.schema(definitions, object)?.errors(object);
                ensure!(
                    errors.is_empty(),
                    "{} in Kubernetes {version}: {}",
                    title(object),
                    errors.join("; ")
                );
            }
        }
        Ok(())
    }

    fn schema<'a>(&'a self, definitions: &'a Value, object: &Value) -> Result<Schema<'a>> {
        let defines = |crd: &&Value| crd["spec"]["names"]["kind"] == object["kind"];
        if let Some(crd) = self.monitoring.iter().find(defines) {
            let version = &crd["spec"]["versions"][0];
            let name = format!("{}/{}", text(&crd["spec"]["group"]), text(&version["name"]));
            ensure!(
                object["apiVersion"] == name,
                "{} does not exist in {}",
                title(object),
                object["apiVersion"]
            );
            return Ok(Schema { schema: &version["schema"]["openAPIV3Schema"], definitions });
        }
        let (group, version) =
            text(&object["apiVersion"]).rsplit_once('/').unwrap_or(("", text(&object["apiVersion"])));
        let is_kind = |kind: &Value| {
            kind["group"] == group && kind["version"] == version && kind["kind"] == object["kind"]
        };
        let found = definitions.as_object().into_iter().flatten().map(|(_, schema)| schema).find(|schema| {
            schema["x-kubernetes-group-version-kind"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(is_kind))
        });
        let Some(schema) = found else {
            bail!("{}: the kind does not exist in {}", title(object), object["apiVersion"])
        };
        Ok(Schema { schema, definitions })
    }
}

/// Fetches the files with the CustomResourceDefinitions of ServiceMonitor and PrometheusRule.
pub(crate) fn fetch_monitoring(cache: &Cache) -> Result<[PathBuf; 2]> {
    let key = Key::default().text(PROMETHEUS_OPERATOR).text(PROMETHEUS_OPERATOR_SUM);
    let key = MONITORING.into_iter().fold(key, Key::text);
    let directory = cache.entry("schemas", "prometheus-operator", &key, |directory| {
        machine::require_program("go", "version", "install Go 1.26 or newer")?;
        progress::long_step("fetching the definitions of the Prometheus operator (once)", || {
            // A separate module cache, because only two files of the module are needed.
            let modules = directory.join("modules");
            let mut go = Command::new("go");
            go.args(["mod", "download", "-json", PROMETHEUS_OPERATOR]).current_dir(directory);
            let answer = command::output(go.env("GOMODCACHE", &modules).env("GOFLAGS", "-modcacherw"))?;
            let answer: Value = serde_json::from_str(&answer).context("not JSON from go")?;
            let sum = text(&answer["Sum"]);
            ensure!(sum == PROMETHEUS_OPERATOR_SUM, "{PROMETHEUS_OPERATOR} has the checksum {sum}");
            for name in MONITORING {
                let file = Path::new(text(&answer["Dir"])).join(MONITORING_DIRECTORY).join(name);
                fs::copy(&file, directory.join(name)).with_context(|| format!("no {}", file.display()))?;
            }
            remove_dir(&modules)
        })
    })?;
    Ok(MONITORING.map(|name| directory.join(name)))
}

fn fetch_kubernetes(cache: &Cache) -> Result<PathBuf> {
    let key = VERSIONS.iter().fold(Key::default().text(KUBERNETES_HASH), |key, version| key.text(version));
    cache.entry("schemas", "kubernetes", &key, |directory| {
        progress::long_step("fetching the schemas of Kubernetes (once)", || {
            let requirements = directory.join("requirements.txt");
            fs::write(&requirements, format!("{KUBERNETES} --hash=sha256:{KUBERNETES_HASH}\n"))?;
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--require-hashes",
            ]);
            command::output(pip.arg("--requirement").arg(&requirements).arg("--dest").arg(directory))?;
            let unpack = "import glob, os, sys, zipfile\n\
                          wheel, = glob.glob(sys.argv[1] + '/*.whl')\n\
                          archive = zipfile.ZipFile(wheel)\n\
                          [archive.extract(name, sys.argv[1]) for name in sys.argv[2:]]\n\
                          os.remove(wheel)\n";
            let files = VERSIONS.map(|version| DEFINITIONS.replace("{}", version));
            command::output(Command::new("python3").args(["-c", unpack]).arg(directory).args(files)).map(drop)
        })
    })
}

fn json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
