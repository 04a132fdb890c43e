//! The trust matrix: certificates under an old and a new root, and files with one or both roots, with the TLS libraries and
//! servers that workloads use.
//!
//! While a root is replaced, each program must accept a peer exactly when the root of the peer's certificate is in its
//! `ca.crt`. Every program of the matrix runs with the files that certmint-fetch publishes, and walks through the same
//! steps. Servers and clients that keep running reload the files as their how-to page says. The peer of
//! each program is rustls in this process, which sees what the program presents and announces.
//!
//! The matrix needs root, because it runs each program in the root file system of its image.

mod call;
mod clients;
mod listener;
mod nginx_copy;
mod page;
mod partial_readers;
mod roots;
mod rustls_peers;
mod sandbox;
mod servers;
mod steps;

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, ensure};
use certmint_local_cluster::cache::Cache;
use certmint_local_cluster::{machine, progress};

use self::page::Observed;
use self::roots::Roots;

/// Number of programs that run at the same time. They mostly wait for reloads.
const CONCURRENT: usize = 6;

/// Runs one program, and returns what the matrix observed.
type Run<'a> = Box<dyn Fn() -> Result<Observed> + Send + Sync + 'a>;

/// Runs the matrix and returns the number of its programs. `write` writes the tables of the page on trust, otherwise the
/// tables must be up to date.
///
/// # Errors
/// When a program accepts or rejects the wrong certificate, or the page shows something else.
pub fn run(cache: &Cache, write: bool) -> Result<usize> {
    machine::require_root()?;
    machine::install(machine::NAMESPACES)?;
    let roots = &Roots::create()?;
    let mut programs: Vec<(&str, Run<'_>)> = Vec::new();
    for server in servers::SERVERS {
        programs.push((server.name, Box::new(|| server.run_steps(cache, roots))));
    }
    for client in clients::CLIENTS {
        programs.push((client.name, Box::new(|| client.run_steps(cache, roots))));
    }
    programs.push((rustls_peers::SERVER, Box::new(|| rustls_peers::server(roots))));
    programs.push((rustls_peers::CLIENT, Box::new(|| rustls_peers::client(roots))));
    for reader in partial_readers::READERS {
        programs.push((reader.name, Box::new(|| reader.run(cache, roots))));
    }
    programs.push((nginx_copy::NAME, Box::new(|| nginx_copy::run(cache, roots))));
    let observed = run_all(&programs)?;
    for section in page::sections(&observed) {
        if write {
            section.write()?;
        }
        section.expect_up_to_date().context("run `cargo xtask matrix --write` if this result is right")?;
    }
    Ok(programs.len())
}

/// Runs every program, some of them at the same time. A program that fails does not stop the others.
fn run_all(programs: &[(&str, Run<'_>)]) -> Result<Vec<Observed>> {
    let queue = Mutex::new(programs.iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT {
            scope.spawn(|| {
                while let Some((index, (name, run))) = next() {
                    // Each program has a thread of its own, because a thread moves into the network of its program.
                    let run = || progress::step(name, run);
                    let result = std::thread::scope(|scope| scope.spawn(run).join());
                    let result =
                        result.unwrap_or_else(|_| Err(anyhow!("the thread of the program panicked")));
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, *name, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, ..)| *index);
    let mut failed = Vec::new();
    let mut observed = Vec::new();
    for (_, name, result) in results {
        match result {
            Ok(seen) => observed.push(seen),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(observed)
}
