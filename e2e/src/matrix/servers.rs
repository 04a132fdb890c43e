//! Servers of the matrix, with the settings of their how-to pages.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use certmint_contract::issuance::Bundle;
use certmint_docs_tests::book;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::images::{self, Image};
use certmint_local_cluster::wait::{self, Check};
use certmint_local_cluster::{command, repository};
use rustix::process::Signal;
use serde_json::Value;

use super::call::{Answer, Protocol, call};
use super::page::{Observed, ServerRow};
use super::roots::{ISSUERS, Root, Roots, leaf};
use super::sandbox::{DEADLINE, Network, Running, Sandbox};
use super::steps::{BETWEEN, OBSERVED, STEPS, Step};

/// Server and the way in which it loads new files.
pub(super) struct Server {
    /// Name in the output and on the page.
    pub(super) name: &'static str,
    image: fn(&Cache) -> Result<Image>,
    user: u32,
    /// Service account that the server accepts, as the how-to page grants it.
    caller: (&'static str, &'static str),
    /// Files of the program, from the how-to page, with their directory.
    files: (&'static str, Files),
    environment: &'static [(&'static str, &'static str)],
    /// Program that runs once before the server.
    setup: &'static [&'static str],
    program: &'static [&'static str],
    reload: Reload,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

/// Source of a program's files.
pub(super) enum Files {
    None,
    /// The ConfigMap of an example.
    ConfigMap(&'static str),
    /// The directory of an example's program.
    Directory(&'static str),
    /// One file with this name and content.
    Text(&'static str, &'static str),
}

/// Way in which a server loads new files.
#[derive(Clone, Copy)]
enum Reload {
    /// The server gets a signal.
    Signal {
        signal: Signal,
        name: &'static str,
        /// Text that the server prints at the end of each reload. Before that, it may ignore the signal.
        finished: Option<&'static str>,
    },
    /// The server watches the files.
    Automatic,
    /// The server is started again.
    Restart,
}

/// Server that runs, and how often it was reloaded.
#[derive(Default)]
struct Loaded {
    server: Option<Running>,
    reloads: usize,
}

/// Time after which a signal is repeated. A server that has just started may ignore the first one.
const REPEAT_SIGNAL_AFTER: Duration = Duration::from_secs(5);

/// Unprivileged user of the images.
pub(super) const USER: u32 = 65532;

pub(super) const CERTIFICATE: &str = "/var/run/secrets/certmint.dev/tls.crt";
pub(super) const KEY: &str = "/var/run/secrets/certmint.dev/tls.key";
pub(super) const ROOTS: &str = "/var/run/secrets/certmint.dev/ca.crt";

/// Settings that most servers share. Each server sets the others.
const COMMON: Server = Server {
    name: "",
    image: images::tools,
    user: USER,
    caller: ("tools", "client"),
    files: ("/app", Files::None),
    environment: &[],
    setup: &[],
    program: &[],
    reload: Reload::Automatic,
    protocol: Protocol::Http,
    port: 8443,
};

/// nginx, with the settings of its how-to page.
pub(super) const NGINX: Server = Server {
    name: "nginx",
    image: images::nginx,
    caller: ("nginx", "client"),
    files: ("/etc/nginx/conf.d", Files::ConfigMap("nginx.yaml")),
    program: &["/usr/sbin/nginx", "-e", "stderr", "-g", "daemon off;"],
    reload: Reload::Signal { signal: Signal::HUP, name: "SIGHUP", finished: None },
    ..COMMON
};

/// All servers except rustls.
pub(super) const SERVERS: &[Server] = &[
    NGINX,
    Server {
        name: "HAProxy",
        image: images::haproxy,
        caller: ("haproxy", "client"),
        files: ("/usr/local/etc/haproxy", Files::ConfigMap("haproxy.yaml")),
        program: &["/usr/sbin/haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"],
        // The master ignores a signal that arrives after the new worker serves and before the former worker has ended.
        reload: Reload::Signal { signal: Signal::USR2, name: "SIGUSR2", finished: Some("Former worker") },
        ..COMMON
    },
    Server {
        name: "Envoy",
        image: images::envoy,
        caller: ("envoy", "client"),
        files: ("/etc/envoy", Files::ConfigMap("envoy.yaml")),
        program: &[
            "/opt/wheels/envoy/_bin/envoy",
            "--config-path",
            "/etc/envoy/envoy.yaml",
            "--log-level",
            "warn",
            "--concurrency",
            "1",
            "--disable-hot-restart",
        ],
        ..COMMON
    },
    Server {
        name: "PostgreSQL",
        image: images::postgres,
        user: 999,
        caller: ("postgresql", "client"),
        files: ("/etc/postgresql", Files::ConfigMap("postgresql.yaml")),
        environment: &[("PGDATA", "/tmp/data")],
        setup: &["initdb", "--encoding=UTF8", "--no-locale", "--no-sync", "--auth=reject"],
        program: &[
            "postgres",
            "--config-file=/etc/postgresql/postgresql.conf",
            "--unix-socket-directories=/tmp",
        ],
        reload: Reload::Signal { signal: Signal::HUP, name: "SIGHUP", finished: None },
        protocol: Protocol::Postgres,
        port: 5432,
    },
    Server {
        name: "Go",
        image: book::payments_go,
        caller: ("go", "checkout"),
        program: &["/payments-go", "serve"],
        ..COMMON
    },
    Server {
        name: "Java",
        image: images::java,
        caller: ("java", "checkout"),
        files: ("/app", Files::Directory("java/app")),
        program: &["java", "/app/Payments.java", "serve"],
        ..COMMON
    },
    Server {
        name: "Node",
        image: images::node,
        caller: ("node", "checkout"),
        files: ("/app", Files::Directory("node/app")),
        program: &["node", "/app/server.js"],
        ..COMMON
    },
    Server {
        name: "Python",
        image: images::python,
        caller: ("python", "checkout"),
        files: ("/app", Files::Directory("python/app")),
        program: &["python3", "/app/server.py"],
        ..COMMON
    },
    Server {
        name: "OpenSSL (s_server)",
        program: &[
            "openssl",
            "s_server",
            "-accept",
            "8443",
            "-tls1_3",
            "-www",
            "-cert",
            CERTIFICATE,
            "-cert_chain",
            CERTIFICATE,
            "-key",
            KEY,
            "-CAfile",
            ROOTS,
            "-no-CApath",
            "-no-CAstore",
            "-Verify",
            "2",
            "-verify_return_error",
        ],
        reload: Reload::Restart,
        ..COMMON
    },
    Server {
        name: "GnuTLS (gnutls-serv)",
        image: images::gnutls,
        program: &[
            "gnutls-serv",
            "--http",
            "--port",
            "8443",
            "--priority",
            "NORMAL:-VERS-ALL:+VERS-TLS1.3",
            "--x509certfile",
            CERTIFICATE,
            "--x509keyfile",
            KEY,
            "--x509cafile",
            ROOTS,
            "--require-client-cert",
            "--verify-client-cert",
        ],
        reload: Reload::Restart,
        ..COMMON
    },
];

impl Server {
    /// Starts the server, and asserts in each step that the server presents the new certificate and accepts exactly the
    /// clients whose root is in its file.
    pub(super) fn run_steps(&self, cache: &Cache, roots: &Roots) -> Result<Observed> {
        let sandbox = self.prepare(cache, str::to_owned)?;
        let callers = self.callers(roots)?;
        let anchors = roots.anchors(&ISSUERS)?;
        let mut loaded = Loaded::default();
        let mut announces = Vec::new();
        let mut load = |step: &Step| -> Result<Vec<(Root, Answer)>> {
            let bundle = roots.issue(step.certificate, "shop", "payments", step.trusted)?;
            self.wait_until_reloadable(&loaded)?;
            sandbox.publish(&bundle)?;
            let server = self.load(&sandbox, &mut loaded)?;
            let (own, subjects) = (leaf(&bundle)?, roots.subjects(step.trusted)?);
            let mut signalled = Instant::now();
            let answers = wait::until("the new certificate", DEADLINE, || {
                let mut answers = Vec::new();
                for (issuer, caller) in &callers {
                    let answer = call(self.port, self.protocol, anchors.clone(), caller)?;
                    if answer.certificate != own {
                        if let Reload::Signal { signal, .. } = self.reload
                            && signalled.elapsed() > REPEAT_SIGNAL_AFTER
                        {
                            server.signal(signal)?;
                            signalled = Instant::now();
                        }
                        return Ok(Check::NotYet("the server presents another certificate".to_owned()));
                    }
                    answers.push((*issuer, answer));
                }
                let is_right = |(issuer, answer): &(Root, Answer)| {
                    let announces_others = !answer.announced.is_empty() && answer.announced != subjects;
                    step.accepts(*issuer).is_none_or(|accepts| answer.accepted == accepts)
                        && !announces_others
                };
                // A server may load the roots a moment after the certificate.
                if !answers.iter().all(is_right) {
                    return Ok(Check::NotYet(describe(&answers)));
                }
                Ok(Check::Passed(answers))
            });
            answers.with_context(|| format!("{step:?}; output:\n{}", server.end_of_output()))
        };
        for step in STEPS {
            announces.extend(load(step)?.iter().map(|(_, answer)| !answer.announced.is_empty()));
        }
        let mut accepts_renewed = [false; OBSERVED.len()];
        for (step, accepts) in OBSERVED.iter().zip(&mut accepts_renewed) {
            load(&BETWEEN)?;
            *accepts = load(step)?.iter().any(|(issuer, answer)| *issuer == Root::Old && answer.accepted);
        }
        Ok(Observed::Server(ServerRow {
            name: self.name,
            reload: self.reload.description(),
            announces_roots: all_or_none(&announces)
                .context("the server announces its CAs only sometimes")?,
            accepts_renewed,
        }))
    }

    /// Returns a sandbox with the server's files, after `change` has changed their content.
    pub(super) fn prepare(&self, cache: &Cache, change: impl Fn(&str) -> String) -> Result<Sandbox> {
        let image = (self.image)(cache)?;
        let (directory, files) = &self.files;
        let sandbox = Sandbox::new(cache, &image, self.user, &[directory])?;
        for (name, text) in files.read()? {
            sandbox.write(&format!("{directory}/{name}"), &change(&text))?;
        }
        if !self.setup.is_empty() {
            let mut setup = sandbox.command(Network::Own, &words(self.setup));
            command::output(setup.envs(self.environment.iter().copied()))?;
        }
        Ok(sandbox)
    }

    /// Returns a certificate of the accepted service account under each root.
    pub(super) fn callers(&self, roots: &Roots) -> Result<Vec<(Root, Bundle)>> {
        let (namespace, account) = self.caller;
        let issue = |issuer| Ok((issuer, roots.issue(issuer, namespace, account, &ISSUERS)?));
        ISSUERS.into_iter().map(issue).collect()
    }

    /// Makes the server load the files, and returns it.
    fn load<'a>(&self, sandbox: &Sandbox, loaded: &'a mut Loaded) -> Result<&'a Running> {
        let server = match (loaded.server.take(), self.reload) {
            (Some(server), Reload::Signal { signal, .. }) => {
                server.signal(signal)?;
                loaded.reloads += 1;
                server
            }
            (Some(server), Reload::Automatic) => server,
            (Some(_), Reload::Restart) | (None, _) => self.start(sandbox)?,
        };
        Ok(loaded.server.insert(server))
    }

    /// Waits until the server has finished its former reload.
    fn wait_until_reloadable(&self, loaded: &Loaded) -> Result<()> {
        let (Some(server), Reload::Signal { finished: Some(finished), .. }) = (&loaded.server, self.reload)
        else {
            return Ok(());
        };
        wait::until("the end of the former reload", DEADLINE, || {
            let output = server.output();
            Ok(match output.matches(finished).count() {
                count if count >= loaded.reloads => Check::Passed(()),
                _ => Check::NotYet(output),
            })
        })
    }

    /// Starts the server, and moves this thread into its network.
    pub(super) fn start(&self, sandbox: &Sandbox) -> Result<Running> {
        let (namespace, account) = self.caller;
        let mut command = sandbox.command(Network::Own, &words(self.program));
        command.envs(self.environment.iter().copied());
        command.env("ALLOWED_CALLERS", format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"));
        let running = sandbox.start(&mut command)?;
        running.enter_network()?;
        Ok(running)
    }
}

impl Files {
    /// Returns the files with their names and content.
    pub(super) fn read(&self) -> Result<Vec<(String, String)>> {
        let examples = repository::root().join("docs/src/examples/how-to");
        match self {
            Self::None => Ok(Vec::new()),
            Self::Text(name, text) => Ok(vec![((*name).to_owned(), (*text).to_owned())]),
            Self::ConfigMap(example) => {
                let documents: Vec<Value> =
                    serde_saphyr::from_multiple(&fs::read_to_string(examples.join(example))?)?;
                let map = documents.iter().find(|document| document["kind"] == "ConfigMap");
                let map = map.with_context(|| format!("{example} has no ConfigMap"))?;
                let data: BTreeMap<String, String> = serde_json::from_value(map["data"].clone())?;
                Ok(data.into_iter().collect())
            }
            Self::Directory(directory) => {
                let entries = fs::read_dir(examples.join(directory))?;
                let file = |entry: std::io::Result<fs::DirEntry>| {
                    let entry = entry?;
                    Ok((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?))
                };
                entries.map(file).collect()
            }
        }
    }
}

impl Reload {
    fn description(self) -> &'static str {
        match self {
            Self::Signal { name, .. } => name,
            Self::Automatic => "automatic",
            Self::Restart => "restart",
        }
    }
}

/// Returns whether the server announced its CAs in every answer, or `None` if it did in some answers only.
fn all_or_none(announced: &[bool]) -> Option<bool> {
    match announced {
        all if all.iter().all(|announced| *announced) => Some(true),
        none if none.iter().all(|announced| !announced) => Some(false),
        _ => None,
    }
}

fn describe(answers: &[(Root, Answer)]) -> String {
    let words = |(root, answer): &(Root, Answer)| {
        let result = if answer.accepted { "accepted" } else { "rejected" };
        format!("{root}: {result} ({}), {} CAs announced", answer.detail, answer.announced.len())
    };
    answers.iter().map(words).collect::<Vec<_>>().join(", ")
}

pub(super) fn words(program: &[&str]) -> Vec<String> {
    program.iter().map(|word| (*word).to_owned()).collect()
}
