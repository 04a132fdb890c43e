//! Clients of the matrix, with the settings of their how-to pages.

use anyhow::{Context as _, Result, ensure};
use certmint_contract::issuance::Bundle;
use certmint_docs_tests::book;
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::command;
use certmint_local_cluster::images::{self, Image};

use super::call::Protocol;
use super::listener::{Connection, Listener};
use super::page::{ClientRow, Observed};
use super::roots::{HOST, ISSUERS, Root, Roots, leaf};
use super::sandbox::{DEADLINE, Network, Sandbox};
use super::servers::{CERTIFICATE, Files, KEY, ROOTS, USER};
use super::steps::{OBSERVED, STEPS, Step};

/// Client and the way in which it runs.
pub(super) struct Client {
    /// Name in the output and on the page.
    pub(super) name: &'static str,
    image: fn(&Cache) -> Result<Image>,
    user: u32,
    /// Files of the program, for the directory `/app`.
    files: Files,
    /// Program with its arguments, where `HOST`, `PORT`, `CERTIFICATE`, `KEY` and `ROOTS` are replaced.
    program: &'static [&'static str],
    runs: Runs,
    protocol: Protocol,
}

/// Way in which a client runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// The client runs all the time, and loads new files on its own.
    Continuously,
    /// The client is started for each call.
    Once,
}

/// Input of a client that reads its request from standard input.
const REQUEST: &str = "GET / HTTP/1.0\r\n\r\n";

/// Client of Node whose option `ca` is one string. It reads the files for each call.
const NODE_STRING: &str = "
const [fs, tls] = [require('node:fs'), require('node:tls')];
const [host, port, cert, key, ca] = process.argv.slice(2);
const read = (path) => fs.readFileSync(path, 'utf8');
setInterval(() => {
  try {
    const options = { host, port, cert: read(cert), key: read(key), ca: read(ca) };
    const socket = tls.connect(options, () => socket.write('GET / HTTP/1.0\\r\\n\\r\\n'));
    socket.on('error', () => {}).resume();
  } catch {
    // The files were replaced while they were read.
  }
}, 100);
";

/// All clients except rustls, which runs in the process of the matrix (`rustls_peers.rs`).
pub(super) const CLIENTS: &[Client] = &[
    Client {
        name: "Go client",
        image: book::payments_go,
        user: USER,
        files: Files::None,
        program: &["/payments-go", "call", "https://HOST:PORT", "0.1"],
        runs: Runs::Continuously,
        protocol: Protocol::Http,
    },
    Client {
        name: "Java client",
        image: images::java,
        user: USER,
        files: Files::Directory("java/app"),
        program: &["java", "/app/Payments.java", "call", "https://HOST:PORT", "0.1"],
        runs: Runs::Continuously,
        protocol: Protocol::Http,
    },
    Client {
        name: "Node client",
        image: images::node,
        user: USER,
        files: Files::Directory("node/app"),
        program: &["node", "/app/client.js", "https://HOST:PORT", "0.1"],
        runs: Runs::Continuously,
        protocol: Protocol::Http,
    },
    Client {
        name: "Node client with the option `ca` as one string",
        image: images::node,
        user: USER,
        files: Files::Text("client.js", NODE_STRING),
        program: &["node", "/app/client.js", "HOST", "PORT", "CERTIFICATE", "KEY", "ROOTS"],
        runs: Runs::Continuously,
        protocol: Protocol::Http,
    },
    Client {
        name: "Python client",
        image: images::python,
        user: USER,
        files: Files::Directory("python/app"),
        program: &["python3", "/app/client.py", "https://HOST:PORT", "0.1"],
        runs: Runs::Continuously,
        protocol: Protocol::Http,
    },
    Client {
        name: "curl",
        image: images::tools,
        user: USER,
        files: Files::None,
        program: &[
            "curl",
            "--silent",
            "--fail",
            "--tlsv1.3",
            "--cacert",
            "ROOTS",
            "--cert",
            "CERTIFICATE",
            "--key",
            "KEY",
            "https://HOST:PORT",
        ],
        runs: Runs::Once,
        protocol: Protocol::Http,
    },
    Client {
        name: "OpenSSL (s_client)",
        image: images::tools,
        user: USER,
        files: Files::None,
        program: &[
            "openssl",
            "s_client",
            "-connect",
            "HOST:PORT",
            "-verify_hostname",
            "HOST",
            "-tls1_3",
            "-verify_return_error",
            "-CAfile",
            "ROOTS",
            "-no-CApath",
            "-no-CAstore",
            "-cert",
            "CERTIFICATE",
            "-cert_chain",
            "CERTIFICATE",
            "-key",
            "KEY",
            "-quiet",
        ],
        runs: Runs::Once,
        protocol: Protocol::Http,
    },
    Client {
        name: "GnuTLS (gnutls-cli)",
        image: images::gnutls,
        user: USER,
        files: Files::None,
        program: &[
            "gnutls-cli",
            "--port",
            "PORT",
            "--priority",
            "NORMAL:-VERS-ALL:+VERS-TLS1.3",
            "--x509cafile",
            "ROOTS",
            "--x509certfile",
            "CERTIFICATE",
            "--x509keyfile",
            "KEY",
            "HOST",
        ],
        runs: Runs::Once,
        protocol: Protocol::Http,
    },
    Client {
        name: "psql (libpq)",
        image: images::postgres,
        user: 999,
        files: Files::None,
        program: &[
            "psql",
            "host=HOST port=PORT user=client dbname=payments gssencmode=disable sslmode=verify-full \
             sslrootcert=ROOTS sslcert=CERTIFICATE sslkey=KEY",
        ],
        runs: Runs::Once,
        protocol: Protocol::Postgres,
    },
];

impl Client {
    /// Runs the client, and asserts in each step that the client presents the new certificate and accepts exactly the
    /// servers whose root is in its file.
    pub(super) fn run_steps(&self, cache: &Cache, roots: &Roots) -> Result<Observed> {
        let image = (self.image)(cache)?;
        let sandbox = Sandbox::new(cache, &image, self.user, &["/app"])?;
        for (name, text) in self.files.read()? {
            sandbox.write(&format!("/app/{name}"), &text)?;
        }
        let listener = Listener::start(self.protocol)?;
        let program: Vec<String> = self
            .program
            .iter()
            .map(|word| {
                word.replace("HOST", HOST)
                    .replace("PORT", &listener.port.to_string())
                    .replace("CERTIFICATE", CERTIFICATE)
                    .replace("KEY", KEY)
                    .replace("ROOTS", ROOTS)
            })
            .collect();
        let mut servers = Vec::new();
        for issuer in ISSUERS {
            servers.push((issuer, roots.issue(issuer, "shop", "payments", &ISSUERS)?));
        }
        let present = |root: Root| {
            let server = servers.iter().find(|(issuer, _)| *issuer == root);
            let (_, bundle) = server.context("no server has a certificate under this root")?;
            listener.present(root, bundle, roots.anchors(&ISSUERS)?)
        };
        let publish = |step: &Step| -> Result<Bundle> {
            let bundle = roots.issue(step.certificate, "shop", "client", step.trusted)?;
            sandbox.publish(&bundle)?;
            Ok(bundle)
        };
        let call = |root: Root| -> Result<Connection> {
            present(root)?;
            let status = match self.runs {
                Runs::Continuously => None,
                Runs::Once => {
                    let mut command = sandbox.command(Network::Machine, &program);
                    Some(command::outcome(&mut command, REQUEST)?)
                }
            };
            let connection = listener.wait_for_connection(root, DEADLINE, |_| true);
            let connection = connection.with_context(|| format!("{status:?}"))?;
            if let (Some(output), Protocol::Http) = (status, self.protocol) {
                ensure!(
                    output.status.success() == connection.requested,
                    "the client ended with {output:?}, but the server saw {connection:?}"
                );
            }
            Ok(connection)
        };
        // The first server has a certificate that the client accepts.
        let first = STEPS.first().context("there are no steps")?;
        publish(first)?;
        present(first.certificate)?;
        let running = match self.runs {
            Runs::Continuously => Some(sandbox.start(&mut sandbox.command(Network::Machine, &program))?),
            Runs::Once => None,
        };
        let output = || running.as_ref().map(|running| running.end_of_output()).unwrap_or_default();
        let run_step = |step: &Step| -> Result<Vec<(Root, Connection)>> {
            let own = leaf(&publish(step)?)?;
            if self.runs == Runs::Continuously {
                // The client has loaded the files when it presents the new certificate.
                present(step.certificate)?;
                listener.wait_for_connection(step.certificate, DEADLINE, |connection| {
                    connection.requested && connection.client.as_ref() == Some(&own)
                })?;
            }
            let mut connections = Vec::new();
            for issuer in ISSUERS {
                let connection = call(issuer)?;
                ensure!(
                    !connection.requested || connection.client.as_ref() == Some(&own),
                    "the client presents another certificate than the one in its file"
                );
                connections.push((issuer, connection));
            }
            Ok(connections)
        };
        for step in STEPS {
            let connections = run_step(step).with_context(|| format!("{step:?}; output:\n{}", output()))?;
            for (issuer, connection) in connections {
                ensure!(
                    step.accepts(issuer).is_none_or(|accepts| connection.requested == accepts),
                    "{step:?}: a server under the root {issuer}: {connection:?}; output:\n{}",
                    output()
                );
            }
        }
        // The root `Old` is the renewal of `OldBeforeRenewal`, which the observed steps contain.
        let mut accepts_renewed = [false; OBSERVED.len()];
        for (step, accepts) in OBSERVED.iter().zip(&mut accepts_renewed) {
            let connections = run_step(step).with_context(|| format!("{step:?}; output:\n{}", output()))?;
            *accepts =
                connections.iter().any(|(issuer, connection)| *issuer == Root::Old && connection.requested);
        }
        Ok(Observed::Client(ClientRow { name: self.name, reload: self.runs.description(), accepts_renewed }))
    }
}

impl Runs {
    fn description(self) -> &'static str {
        match self {
            Self::Continuously => "automatic",
            Self::Once => "at each start",
        }
    }
}
