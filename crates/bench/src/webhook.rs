//! The webhook as the API server meets it: over TLS, beside nginx answering the same request.

mod floor;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;

use crate::figure::{Figure, Target};
use crate::in_process::{Sample, samples};
use crate::process::{Process, WEBHOOK, mib};
use crate::run::Run;
use crate::shared;
use crate::statistics::median;
use crate::wrk::{self, Load, Outcome};

const ROW: &str = "webhook";
const NAMESPACE: &str = "bench-webhook";
/// As many reviews as the webhook's memory is judged after.
const MANY: f64 = 1e6;

/// A server of one or several processes.
struct Server<'a> {
    /// What it calls itself.
    name: String,
    processes: Vec<Process<'a>>,
}

/// Who is asked, and how long.
struct Rig<'a> {
    cluster: &'a Cluster,
    ours: Server<'a>,
    nginx: Server<'a>,
    quick: bool,
}

/// What is asked, of whom.
struct Case<'a> {
    sample: Sample,
    /// The webhook.
    url: &'a str,
    /// nginx.
    floor: String,
}

pub(crate) fn webhook(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    shared::within(cluster, NAMESPACE, |kubectl| measure(cluster, kubectl, run.quick))
}

fn measure(cluster: &Cluster, kubectl: &Kubectl<'_>, quick: bool) -> Result<Vec<Figure>> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let address = shared::address(&system, "app.kubernetes.io/component=webhook")?;
    let url = format!("https://{address}/mutate");
    let samples = samples();
    let sizes =
        samples.iter().map(|sample| answer_bytes(cluster, &url, sample)).collect::<Result<Vec<_>>>()?;
    let floor = floor::start(cluster, kubectl, &sizes)?;
    let process = Process::only(cluster, WEBHOOK)?;
    let rig = Rig {
        cluster,
        ours: Server { name: "webhook".to_owned(), processes: vec![process] },
        nginx: Server {
            name: floor::server(cluster, &floor)?,
            processes: Process::all(cluster, "^nginx: ")?,
        },
        quick,
    };
    let cases = samples.into_iter().enumerate().map(|(index, sample)| Case {
        sample,
        url: &url,
        floor: format!("{floor}/{index}"),
    });

    let mut figures = vec![rig.rss("before the load")?];
    let mut reviews = 0.0;
    for case in cases {
        for clients in [1, 8] {
            let measured = Measured::of(&rig, &case, clients)?;
            reviews += measured.reviews;
            figures.extend(measured.figures(&rig, &case, clients));
        }
        figures.push(rig.rss(&format!("after those, {}", case.sample.what))?);
        if case.sample.injected {
            reviews += rig.many(&case, reviews)?;
        }
    }
    let peak = mib(process.memory()?.peak_kib);
    let peak = Figure::new(ROW, format!("most RSS in {reviews:.0} reviews"), peak, "MiB");
    figures.push(peak.target(Target::Most(16.0)));
    Ok(figures)
}

impl Server<'_> {
    /// Of all its processes, in seconds.
    fn cpu(&self) -> Result<f64> {
        self.processes.iter().map(Process::cpu).sum()
    }

    /// Of all its processes, in MiB; what they share is in each of them.
    fn rss(&self) -> Result<f64> {
        self.processes.iter().map(Process::rss).sum()
    }
}

impl Rig<'_> {
    fn rss(&self, when: &str) -> Result<Figure> {
        let Server { name, processes } = &self.nginx;
        let beside = format!("{name}, {} processes", processes.len());
        Ok(Figure::new(ROW, format!("RSS {when}"), self.ours.rss()?, "MiB").beside(beside, self.nginx.rss()?))
    }

    /// How `load` went, and the server's processor time for it in seconds.
    fn put(&self, load: Load<'_>, server: &Server<'_>) -> Result<(Outcome, f64)> {
        let before = server.cpu()?;
        let outcome = wrk::run(self.cluster, self.cluster.state()?.directory(), load)?;
        Ok((outcome, server.cpu()? - before))
    }

    /// Reviews until there were [`MANY`] with those before, and how many they were.
    fn many(&self, case: &Case<'_>, before: f64) -> Result<f64> {
        let (goal, seconds) = if self.quick { (before + 1.0, 1) } else { (MANY, 30) };
        let load = Load { url: case.url, body: &case.sample.body, clients: 8, seconds };
        let mut reviews = 0.0;
        while before + reviews < goal {
            reviews += self.put(load, &self.ours)?.0.requests;
        }
        Ok(reviews)
    }
}

/// What came of one load on both, each time the webhook and nginx. Latencies are medians of some rounds, because the
/// machine has other things to do too.
struct Measured {
    reviews: f64,
    /// Milliseconds.
    p50: [f64; 2],
    /// Milliseconds.
    p99: [f64; 2],
    /// Milliseconds of the processor for one review.
    cpu: [f64; 2],
}

impl Measured {
    fn of(rig: &Rig<'_>, case: &Case<'_>, clients: u32) -> Result<Self> {
        let (rounds, seconds) = if rig.quick { (1, 1) } else { (5, 4) };
        let ours = Load { url: case.url, body: &case.sample.body, clients, seconds };
        let nginx = Load { url: &case.floor, ..ours };
        let (mut outcomes, mut cpu) = ([Vec::new(), Vec::new()], [0.0, 0.0]);
        for _ in 0..rounds {
            let measured = [rig.put(ours, &rig.ours)?, rig.put(nginx, &rig.nginx)?];
            for ((outcome, seconds), (outcomes, cpu)) in
                measured.into_iter().zip(outcomes.iter_mut().zip(&mut cpu))
            {
                outcomes.push(outcome);
                *cpu += seconds;
            }
        }
        let of = |part: fn(&Outcome) -> f64| {
            outcomes.each_ref().map(|outcomes| median(outcomes.iter().map(part).collect()))
        };
        let requests =
            outcomes.each_ref().map(|outcomes| outcomes.iter().map(|outcome| outcome.requests).sum::<f64>());
        let ([ours, nginx], [reviews, answers]) = (cpu, requests);
        Ok(Self {
            reviews,
            p50: of(|outcome| outcome.p50),
            p99: of(|outcome| outcome.p99),
            cpu: [ours / reviews * 1e3, nginx / answers * 1e3],
        })
    }

    fn figures(&self, rig: &Rig<'_>, case: &Case<'_>, clients: u32) -> [Figure; 3] {
        let Sample { what, injected, .. } = case.sample;
        let who = format!("{what}, {clients} {}", if clients == 1 { "client" } else { "clients" });
        let figure = |name: &str, [ours, nginx]: [f64; 2]| {
            Figure::new(ROW, format!("{who}, {name}"), ours, "ms").beside(&*rig.nginx.name, nginx)
        };
        let latency = |name: &str, both, times: f64| {
            let figure = figure(name, both);
            if injected { figure.target(Target::MostTimes(times)) } else { figure }
        };
        let (times_p50, times_p99) = if clients == 1 { (2.0, 1.5) } else { (3.0, 3.0) };
        let most = if injected { 0.08 } else { 0.04 };
        [
            latency("p50", self.p50, times_p50),
            latency("p99", self.p99, times_p99),
            figure("CPU for each", self.cpu).target(Target::Most(most)),
        ]
    }
}

/// How long the webhook's answer to `sample` is.
fn answer_bytes(cluster: &Cluster, url: &str, sample: &Sample) -> Result<usize> {
    let mut curl = cluster.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--insecure",
        "--max-time",
        "30",
        "--header",
        "Content-Type: application/json",
    ]);
    let answer = command::output_with_input(curl.args(["--data-binary", "@-", url]), &sample.body)?;
    sample.check(answer.as_bytes())?;
    Ok(answer.len())
}
