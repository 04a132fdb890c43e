//! Access to the containers of a local cluster from its node.

use std::time::Duration;

use anyhow::Result;

use super::{Cluster, node};
use crate::command;
use crate::wait::{self, Check};

/// Limit for the container runtime to report that its containers have ended.
const END_TIMEOUT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Runs a shell script on the node, and returns its output. `$1` in the script is `argument`.
    ///
    /// # Errors
    /// When the cluster is not a local one, or the script fails.
    pub fn run_on_node(&self, script: &str, argument: &str) -> Result<String> {
        self.directory()?;
        command::output(self.command("sh").args(["-ec", script, "sh", argument]))
    }

    /// Kills every container of a namespace, including the pods' sandboxes, and waits until they have ended.
    ///
    /// # Errors
    /// When the cluster is not a local one, or a container does not end in time.
    pub fn kill_containers(&self, namespace: &str) -> Result<()> {
        let ctr = format!("ctr --address {} --namespace k8s.io", node::RUNTIME_SOCKET);
        let of_namespace =
            format!(r#"{ctr} containers list --quiet "labels.\"io.kubernetes.pod.namespace\"==$1" "#);
        let kill = format!(
            "for container in $({of_namespace}); do {ctr} tasks kill --all --signal SIGKILL $container 2>/dev/null || true; done"
        );
        self.run_on_node(&kill, namespace)?;
        let running = format!(
            "tasks=$({ctr} tasks list); for container in $({of_namespace}); do echo \"$tasks\" | grep $container | grep RUNNING || true; done"
        );
        wait::until("the containers to end", END_TIMEOUT, || {
            let left = self.run_on_node(&running, namespace)?;
            Ok(if left.trim().is_empty() { Check::Passed(()) } else { Check::NotYet(left) })
        })
    }
}
