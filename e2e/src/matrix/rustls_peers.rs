//! rustls as server and client of the matrix, in this process.

use anyhow::{Result, ensure};

use super::call::{Protocol, call};
use super::listener::Listener;
use super::page::{ClientRow, Observed, ServerRow};
use super::roots::{ISSUERS, Root, Roots};
use super::steps::{AcceptsRenewed, OBSERVED, STEPS, Step};

/// Name of the server in the output and on the page.
pub(super) const SERVER: &str = "rustls";
/// Name of the client in the output and on the page.
pub(super) const CLIENT: &str = "rustls client";

/// Asserts for each step that a server accepts exactly the clients whose root it trusts.
pub(super) fn server(roots: &Roots) -> Result<Observed> {
    let listener = Listener::start(Protocol::Http)?;
    let accepts = |step: &Step, issuer: Root| -> Result<bool> {
        let own = roots.issue(step.certificate, "shop", "payments", step.trusted)?;
        listener.present(step.certificate, &own, roots.anchors(step.trusted)?)?;
        let caller = roots.issue(issuer, "shop", "client", &ISSUERS)?;
        let answer = call(listener.port, Protocol::Http, roots.anchors(&ISSUERS)?, &caller)?;
        ensure!(answer.announced == roots.subjects(step.trusted)?, "rustls announces other CAs");
        Ok(answer.accepted)
    };
    for step in STEPS {
        for issuer in ISSUERS {
            ensure!(
                Some(accepts(step, issuer)?) == step.accepts(issuer),
                "{step:?}: a client under the root {issuer}"
            );
        }
    }
    let accepts_renewed = observe(|step| accepts(step, Root::Old))?;
    Ok(Observed::Server(ServerRow {
        name: SERVER,
        reload: "restart",
        announces_roots: true,
        accepts_renewed,
    }))
}

/// Asserts for each step that a client accepts exactly the servers whose root it trusts.
pub(super) fn client(roots: &Roots) -> Result<Observed> {
    let listener = Listener::start(Protocol::Http)?;
    let accepts = |step: &Step, issuer: Root| -> Result<bool> {
        let server = roots.issue(issuer, "shop", "payments", &ISSUERS)?;
        listener.present(issuer, &server, roots.anchors(&ISSUERS)?)?;
        let own = roots.issue(step.certificate, "shop", "client", step.trusted)?;
        match call(listener.port, Protocol::Http, roots.anchors(step.trusted)?, &own) {
            Ok(answer) => Ok(answer.accepted),
            Err(error) => {
                // rustls finds a root by its subject, so the signature is bad if only the namesake is trusted.
                let text = format!("{error:#}");
                ensure!(text.contains("UnknownIssuer") || text.contains("BadSignature"), "{text}");
                Ok(false)
            }
        }
    };
    for step in STEPS {
        for issuer in ISSUERS {
            ensure!(
                Some(accepts(step, issuer)?) == step.accepts(issuer),
                "{step:?}: a server under the root {issuer}"
            );
        }
    }
    let accepts_renewed = observe(|step| accepts(step, Root::Old))?;
    Ok(Observed::Client(ClientRow { name: CLIENT, reload: "at each start", accepts_renewed }))
}

fn observe(accepts: impl Fn(&Step) -> Result<bool>) -> Result<AcceptsRenewed> {
    let mut accepts_renewed = [false; OBSERVED.len()];
    for (step, accepted) in OBSERVED.iter().zip(&mut accepts_renewed) {
        *accepted = accepts(step)?;
    }
    Ok(accepts_renewed)
}
