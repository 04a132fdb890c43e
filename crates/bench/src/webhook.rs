//! The webhook as the API server meets it: over TLS, beside nginx answering the same request.

mod floor;

use anyhow::Result;
use certmint_e2e::cluster::Cluster;
use certmint_e2e::command;
use certmint_e2e::story::installation::SYSTEM_NAMESPACE;

use crate::Run;
use crate::figure::{Figure, Target};
use crate::in_process::{Sample, samples};
use crate::process::Process;
use crate::statistics::median;
use crate::wrk::{self, Load, Outcome};

const ROW: &str = "webhook";
/// Where both listen.
const PORT: u16 = 8443;
/// As many reviews as the webhook's memory is judged after.
const MANY: f64 = 1e6;

/// What is asked, of whom.
struct Case<'a> {
    sample: Sample,
    /// The webhook.
    url: &'a str,
    /// nginx.
    floor: String,
    /// What it calls itself, with its version.
    server: &'a str,
}

pub(crate) fn webhook(run: &Run) -> Result<Vec<Figure>> {
    let cluster = run.installation()?;
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let address = floor::address(&system, "app.kubernetes.io/component=webhook")?;
    let url = format!("https://{address}/mutate");
    let directory = cluster.state()?.directory();
    let samples = samples();
    let sizes =
        samples.iter().map(|sample| answer_bytes(cluster, &url, sample)).collect::<Result<Vec<_>>>()?;
    let floor = floor::start(cluster, &sizes)?;
    let server = floor::server(cluster, &floor)?;
    let cases = samples.into_iter().enumerate().map(|(index, sample)| Case {
        sample,
        url: &url,
        floor: format!("{floor}/{index}"),
        server: &server,
    });

    let process = Process::only(cluster, "^/certmint webhook")?;
    let mut figures = vec![Figure::new(ROW, "RSS before the load", process.rss()?, "MiB")];
    let mut reviews = 0.0;
    for case in cases {
        for clients in [1, 8] {
            let measured = Measured::of(run, cluster, &process, &case, clients)?;
            reviews += measured.reviews;
            figures.extend(measured.figures(&case, clients));
        }
        if case.sample.injected && !run.quick {
            while reviews < MANY {
                let load = Load { url: case.url, body: &case.sample.body, clients: 8, seconds: 30 };
                reviews += wrk::run(cluster, directory, load)?.requests;
            }
        }
    }
    let peak = Figure::new(ROW, format!("most RSS in {reviews:.0} reviews"), process.peak_rss()?, "MiB");
    figures.push(peak.target(Target::Most(16.0)));
    // Nothing is to run beside the rows that follow.
    cluster.kubectl().delete(&["namespace", floor::NAMESPACE])?;
    Ok(figures)
}

/// What came of one load on both: medians of some rounds, because the machine has other things to do too.
struct Measured {
    reviews: f64,
    /// Milliseconds: p50 and p99, each of the webhook and of nginx.
    p50: [f64; 2],
    p99: [f64; 2],
    /// Milliseconds of the processor for one review.
    cpu: f64,
}

impl Measured {
    fn of(
        run: &Run,
        cluster: &Cluster,
        process: &Process<'_>,
        case: &Case<'_>,
        clients: u32,
    ) -> Result<Self> {
        let (rounds, seconds) = if run.quick { (1, 1) } else { (5, 4) };
        let directory = cluster.state()?.directory();
        let load = Load { url: case.url, body: &case.sample.body, clients, seconds };
        let (mut ours, mut nginx, mut cpu) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..rounds {
            nginx.push(wrk::run(cluster, directory, Load { url: &case.floor, ..load })?);
            let before = process.cpu()?;
            ours.push(wrk::run(cluster, directory, load)?);
            cpu += process.cpu()? - before;
        }
        let of =
            |outcomes: &[Outcome], part: fn(&Outcome) -> f64| median(outcomes.iter().map(part).collect());
        let both = |part| [of(&ours, part), of(&nginx, part)];
        let reviews = ours.iter().map(|outcome| outcome.requests).sum();
        Ok(Self {
            reviews,
            p50: both(|outcome| outcome.p50),
            p99: both(|outcome| outcome.p99),
            cpu: cpu / reviews * 1e3,
        })
    }

    fn figures(&self, case: &Case<'_>, clients: u32) -> [Figure; 3] {
        let Sample { what, injected, .. } = case.sample;
        let who = format!("{what}, {clients} {}", if clients == 1 { "client" } else { "clients" });
        let figure = |name: &str, [ours, nginx]: [f64; 2], times: f64| {
            let figure = Figure::new(ROW, format!("{who}, {name}"), ours, "ms").beside(case.server, nginx);
            if injected { figure.target(Target::MostTimes(times)) } else { figure }
        };
        let (times_p50, times_p99) = if clients == 1 { (2.0, 1.5) } else { (3.0, 3.0) };
        let cpu = Figure::new(ROW, format!("{who}, CPU for each"), self.cpu, "ms");
        [
            figure("p50", self.p50, times_p50),
            figure("p99", self.p99, times_p99),
            cpu.target(Target::Most(if injected { 0.08 } else { 0.04 })),
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
        "--header",
        "Content-Type: application/json",
    ]);
    let answer = command::output_with_input(curl.args(["--data-binary", "@-", url]), &sample.body)?;
    sample.check(answer.as_bytes())?;
    Ok(answer.len())
}
