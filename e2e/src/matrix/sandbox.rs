//! Programs of the matrix, each in the root file system of its image and in namespaces of its own.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use certmint_contract::issuance::Bundle;
use certmint_contract::pod_layout::DEFAULT_MOUNT_PATH;
use certmint_fetch::volume;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::images::Image;
use certmint_local_cluster::wait::{self, Check};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::roots::HOST;

/// Time in which a program must start, or load new files.
pub(super) const DEADLINE: Duration = wait::DEFAULT_TIMEOUT;

/// Maximum number of lines of a program's output in a message.
const MAX_LINES: usize = 20;

/// Mode of the files that certmint-fetch publishes for a pod with an `fsGroup`.
const FILE_MODE: u32 = 0o440;

/// Prepares the namespaces and starts the program: `SCRIPT ROOT FILES USER NETWORK PROGRAM…`. `FILES` contains the
/// directories that are mounted into the root file system.
const SCRIPT: &str = r#"
set -eu
root=$1 files=$2 user=$3 network=$4
shift 4
if [ "$network" = own ]; then ip link set lo up; fi
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
for target in $(cat "$files/mounts"); do mount --bind "$files$target" "$root$target"; done
# The shell stays process 1, so that the kernel ends every other process with it.
chroot --userspec="$user:$user" "$root" "$@" && exit || exit
"#;

/// Directories and settings for one program.
pub(super) struct Sandbox {
    root: PathBuf,
    files: PathBuf,
    user: u32,
}

/// Network of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    /// A network with only a loopback interface.
    Own,
    /// The machine's network.
    Machine,
}

/// Program that runs until it is dropped.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Sandbox {
    /// Prepares a sandbox with the files of the image, for the `user`. `directories` are writable and empty, in addition to
    /// `/tmp` and the directory of Certmint's files.
    pub(super) fn new(cache: &Cache, image: &Image, user: u32, directories: &[&str]) -> Result<Self> {
        let root = image.unpacked(cache)?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let files = std::env::temp_dir().join(format!("certmint-matrix-{}-{number}", std::process::id()));
        let sandbox = Self { root, files, user };
        for mounted in ["dev", "proc"] {
            fs::create_dir_all(sandbox.root.join(mounted))?;
        }
        let mut mounts = Vec::new();
        for directory in ["/tmp", DEFAULT_MOUNT_PATH].iter().chain(directories) {
            fs::create_dir_all(sandbox.mount_point(directory))?;
            fs::create_dir_all(sandbox.path(directory))?;
            chown(sandbox.path(directory), Some(user), Some(user))?;
            mounts.push(*directory);
        }
        fs::create_dir_all(sandbox.mount_point("/etc"))?;
        fs::create_dir_all(sandbox.path("/etc"))?;
        for (file, text) in [
            ("/etc/hosts", format!("127.0.0.1 localhost {HOST}\n")),
            ("/etc/nsswitch.conf", "hosts: files\n".to_owned()),
        ] {
            OpenOptions::new().create(true).append(true).open(sandbox.mount_point(file))?;
            sandbox.write(file, &text)?;
            mounts.push(file);
        }
        // As the kubelet does for an fsGroup: files get the group of this directory.
        let certificate = sandbox.path(DEFAULT_MOUNT_PATH);
        chown(&certificate, Some(0), Some(user))?;
        fs::set_permissions(&certificate, fs::Permissions::from_mode(0o2770))?;
        sandbox.write("/mounts", &mounts.join("\n"))?;
        Ok(sandbox)
    }

    /// Writes a file for the program. It is in one of the sandbox's directories.
    pub(super) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Publishes key, certificate and roots as certmint-fetch does in a pod.
    pub(super) fn publish(&self, bundle: &Bundle) -> Result<()> {
        Ok(volume::publish(&self.path(DEFAULT_MOUNT_PATH), bundle, FILE_MODE)?)
    }

    /// Returns a command that runs `program` in the sandbox.
    pub(super) fn command(&self, network: Network, program: &[String]) -> Command {
        let mut command = Command::new("setpriv");
        // The program ends with this thread, also after a crash.
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--kill-child",
            "--mount",
            "--ipc",
            "--pid",
            "--fork",
        ]);
        let network = match network {
            Network::Own => {
                command.arg("--net");
                "own"
            }
            Network::Machine => "machine",
        };
        command
            .args(["sh", "-c", SCRIPT, "sh"])
            .args([&self.root, &self.files])
            .args([&self.user.to_string(), network])
            .args(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/tmp");
        command
    }

    /// Starts a program. Its output goes to a file.
    pub(super) fn start(&self, command: &mut Command) -> Result<Running> {
        let log = self.files.join("log");
        let output = File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start setpriv")?;
        Ok(Running { child, log })
    }

    /// Returns the path of a file or directory that is mounted into the root file system.
    fn path(&self, inside: &str) -> PathBuf {
        self.files.join(inside.trim_start_matches('/'))
    }

    fn mount_point(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The directory is below the directory for temporary files.
        drop(fs::remove_dir_all(&self.files));
    }
}

impl Running {
    /// Moves this thread into the program's network.
    pub(super) fn enter_network(&self) -> Result<()> {
        let shell = self.shell()?;
        let namespace = File::open(Path::new("/proc").join(shell.to_string()).join("ns/net"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Sends a signal to the program.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let program = only_child(self.shell()?)?;
        Ok(kill_process(program, signal)?)
    }

    /// Returns the output of the program.
    pub(super) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns the last lines of the output, for messages.
    pub(super) fn end_of_output(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines.get(lines.len().saturating_sub(MAX_LINES)..).unwrap_or_default().join("\n")
    }

    /// Returns the shell, which is process 1 of its namespace.
    fn shell(&self) -> Result<Pid> {
        let unshare = Pid::from_raw(i32::try_from(self.child.id())?).context("the program has no id")?;
        wait::until("the namespaces of the program", DEADLINE, || {
            Ok(only_child(unshare).map_or_else(|error| Check::NotYet(error.to_string()), Check::Passed))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that the program has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn only_child(parent: Pid) -> Result<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children", parent = parent.as_raw_nonzero());
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    match children.split_whitespace().collect::<Vec<_>>().as_slice() {
        [child] => Pid::from_raw(child.parse()?).context("a child has the id 0"),
        _ => bail!("process {} has the children {children:?}", parent.as_raw_nonzero()),
    }
}
