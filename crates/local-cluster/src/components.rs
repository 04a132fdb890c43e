//! Programs of Kubernetes and of a cluster's other components, built from the pinned Go modules in `components/`.
//!
//! To use another version, change `version` in the constant of the component and run `cargo xtask cluster pin`, which
//! rewrites the component's `go.mod` and `go.sum`. The checksums in `go.sum` pin every byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::{Cache, Key};
use crate::{command, machine, progress};

/// A Go module with programs that a cluster needs.
#[derive(Debug, Clone, Copy)]
pub struct Component {
    /// Directory of the component in `components/`.
    pub name: &'static str,
    /// Path of the Go module.
    pub module: &'static str,
    /// Version of the Go module.
    pub version: &'static str,
    /// Go packages of the programs, with the names of the programs.
    pub programs: &'static [(&'static str, &'static str)],
    /// Go variable for the program's version, if the program reports it and the linker has to set it.
    version_variable: Option<&'static str>,
}

/// The programs of Kubernetes, kubelet and kubectl included.
pub const KUBERNETES: Component = Component {
    name: "kubernetes",
    module: "k8s.io/kubernetes",
    version: "v1.37.2",
    programs: &[
        ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
        ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
        ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
        ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    ],
    version_variable: Some("k8s.io/component-base/version.gitVersion"),
};

/// etcd, the store of the API server.
pub const ETCD: Component = Component {
    name: "etcd",
    module: "go.etcd.io/etcd/server/v3",
    version: "v3.7.3",
    programs: &[("go.etcd.io/etcd/server/v3", "etcd")],
    version_variable: None,
};

/// containerd, the container runtime.
pub const CONTAINERD: Component = Component {
    name: "containerd",
    module: "github.com/containerd/containerd/v2",
    version: "v2.4.2",
    programs: &[
        ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
        ("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
        ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
    ],
    version_variable: Some("github.com/containerd/containerd/v2/version.Version"),
};

/// CoreDNS, the DNS server of the cluster.
pub const COREDNS: Component = Component {
    name: "coredns",
    module: "github.com/coredns/coredns",
    version: "v1.15.0",
    programs: &[("github.com/coredns/coredns", "coredns")],
    version_variable: None,
};

/// helm, which installs the chart.
pub const HELM: Component = Component {
    name: "helm",
    module: "helm.sh/helm/v4",
    version: "v4.3.1",
    programs: &[("helm.sh/helm/v4/cmd/helm", "helm")],
    version_variable: Some("helm.sh/helm/v4/internal/version.version"),
};

/// metrics-server, which provides the processor usage for HorizontalPodAutoscalers.
pub const METRICS_SERVER: Component = Component {
    name: "metrics-server",
    module: "sigs.k8s.io/metrics-server",
    version: "v0.9.0",
    programs: &[("sigs.k8s.io/metrics-server/cmd/metrics-server", "metrics-server")],
    version_variable: Some("sigs.k8s.io/metrics-server/pkg/version.gitVersion"),
};

/// crane, which pushes images to a registry.
pub const CRANE: Component = Component {
    name: "crane",
    module: "github.com/google/go-containerregistry",
    version: "v0.22.1",
    programs: &[("github.com/google/go-containerregistry/cmd/crane", "crane")],
    version_variable: None,
};

/// All components.
pub const COMPONENTS: &[Component] = &[KUBERNETES, ETCD, CONTAINERD, COREDNS, HELM, METRICS_SERVER, CRANE];

/// Builds several components, and returns their directories in the same order.
///
/// # Errors
/// As [`Component::build`].
pub fn build_all(cache: &Cache, components: &[Component]) -> Result<Vec<PathBuf>> {
    components.iter().map(|component| component.build(cache)).collect()
}

impl Component {
    /// Builds the programs unless the cache has them, and returns their directory.
    ///
    /// # Errors
    /// When Go is missing, or the build fails.
    pub fn build(&self, cache: &Cache) -> Result<PathBuf> {
        let source = self.source();
        let ldflags = self.ldflags();
        let key = Key::default().file(&source.join("go.mod"))?.file(&source.join("go.sum"))?.text(&ldflags);
        cache.entry("components", self.name, &key, |directory| {
            machine::require_program("go", "version", "install Go 1.26 or newer")?;
            progress::long_step(&format!("building {} {} (once)", self.name, self.version), || {
                command::output(
                    Command::new("nice")
                        .args(["-n", "5", "go", "build", "-trimpath", "-ldflags", &ldflags, "-o"])
                        .arg(directory)
                        .arg("tool")
                        .env("CGO_ENABLED", "0")
                        .current_dir(&source),
                )?;
                self.programs.iter().try_for_each(|program| rename(directory, program))
            })
        })
    }

    /// Rewrites `go.mod` and `go.sum` for this version.
    ///
    /// # Errors
    /// When Go is missing, or the version does not exist.
    pub fn pin(&self) -> Result<()> {
        let source = self.source();
        fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
        let tools = self.programs.iter().map(|(package, _)| format!("tool {package}\n")).collect::<String>();
        let replaced = self.replacements()?;
        let module = format!(
            "module certmint.dev/e2e/{}\n\ngo 1.26.0\n\n{tools}\nrequire {} {}\n\n{replaced}",
            self.name, self.module, self.version,
        );
        fs::write(source.join("go.mod"), module).context("cannot write go.mod")?;
        fs::write(source.join("go.sum"), "").context("cannot write go.sum")?;
        command::output(Command::new("go").args(["mod", "tidy"]).current_dir(&source))?;
        Ok(())
    }

    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("components").join(self.name)
    }

    fn ldflags(&self) -> String {
        let version = self
            .version_variable
            .map(|variable| format!(" -X {variable}={}", self.version))
            .unwrap_or_default();
        format!("-s -w{version}{}", self.kubernetes_version_parts().unwrap_or_default())
    }

    /// Returns linker flags for the API server's major and minor version. The API server reports them in
    /// addition to the version, and some clients depend on them.
    fn kubernetes_version_parts(&self) -> Option<String> {
        let package = self.version_variable?.strip_suffix(".gitVersion")?;
        let mut parts = self.version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        Some(format!(" -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"))
    }

    /// Returns `replace` lines for the libraries of Kubernetes. Kubernetes 1.X publishes its libraries as v0.X,
    /// but its own `go.mod` refers to directories of its repository.
    fn replacements(&self) -> Result<String> {
        let Some(library_version) =
            self.version.strip_prefix("v1.").filter(|_| self.module == KUBERNETES.module)
        else {
            return Ok(String::new());
        };
        let downloaded = command::output(
            Command::new("go")
                .args(["mod", "download", "-json"])
                .arg(format!("{}@{}", self.module, self.version))
                .current_dir(std::env::temp_dir()),
        )?;
        let downloaded: serde_json::Value =
            serde_json::from_str(&downloaded).context("the output of go is not JSON")?;
        let upstream = downloaded
            .get("GoMod")
            .and_then(|path| path.as_str())
            .context("the output of go has no go.mod")?;
        let upstream = fs::read_to_string(upstream).with_context(|| format!("cannot read {upstream}"))?;
        Ok(upstream
            .lines()
            .filter_map(|line| line.split_once(" => ./staging/"))
            .map(|(library, _)| library.trim())
            .map(|library| format!("replace {library} => {library} v0.{library_version}\n"))
            .collect())
    }
}

/// Renames a built program. Go names a program after the last element of its package path that is not a version.
fn rename(directory: &Path, (package, program): &(&str, &str)) -> Result<()> {
    let named = package.rsplit('/').find(|part| !is_major_version(part)).unwrap_or(package);
    if named != *program {
        fs::rename(directory.join(named), directory.join(program))
            .with_context(|| format!("the build of {package} created no program {named}"))?;
    }
    if !directory.join(program).exists() {
        bail!("the build of {package} created no program {program}");
    }
    Ok(())
}

fn is_major_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| digits.chars().all(|digit| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_mod_files_have_the_pinned_versions() {
        for component in COMPONENTS {
            let path = component.source().join("go.mod");
            let module = fs::read_to_string(&path).unwrap();
            let wanted = format!("{} {}", component.module, component.version);
            assert!(
                module.lines().any(|line| line.trim().starts_with(&wanted)),
                "{} is not at {wanted}: run `cargo xtask cluster pin`",
                path.display()
            );
        }
    }

    #[test]
    fn major_versions_are_not_names() {
        assert!(is_major_version("v3"));
        assert!(!is_major_version("vault"));
    }
}
