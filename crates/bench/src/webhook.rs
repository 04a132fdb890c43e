//! Row `webhook`: the webhook as the API server calls it, over TLS. The baseline is nginx, which receives the
//! same request.

mod floor;

use anyhow::Result;
use certmint_local_cluster::cluster::Cluster;
use certmint_local_cluster::command;
use certmint_local_cluster::installation::SYSTEM_NAMESPACE;
use certmint_local_cluster::kubectl::Kubectl;

use crate::common;
use crate::in_process::{Sample, samples};
use crate::process::{Process, WEBHOOK, mib};
use crate::result::{Measurement, Target};
use crate::run::Run;
use crate::statistics::median;
use crate::wrk::{self, Load, LoadResult};

const ROW: &str = "webhook";
const NAMESPACE: &str = "bench-webhook";
/// Number of reviews after which the webhook's peak memory is compared with its target.
const REVIEWS_BEFORE_PEAK: f64 = 1e6;

/// A server with one or several processes.
struct MeasuredServer<'a> {
    /// Name of the server. For nginx, it contains the version that nginx reports.
    name: String,
    processes: Vec<Process<'a>>,
}

/// Servers under load, and the length of the run.
struct LoadTest<'a> {
    cluster: &'a Cluster,
    webhook: MeasuredServer<'a>,
    nginx: MeasuredServer<'a>,
    quick: bool,
}

/// A review and the URLs that it is sent to.
struct LoadCase<'a> {
    sample: Sample,
    /// URL of the webhook.
    url: &'a str,
    /// URL of nginx, the baseline.
    floor: String,
}

pub(crate) fn webhook(run: &Run) -> Result<Vec<Measurement>> {
    let cluster = run.installation()?;
    common::in_namespace(cluster, NAMESPACE, |kubectl| measure(cluster, kubectl, run.quick))
}

fn measure(cluster: &Cluster, kubectl: &Kubectl<'_>, quick: bool) -> Result<Vec<Measurement>> {
    let system = cluster.kubectl().namespace(SYSTEM_NAMESPACE);
    let address = common::address(&system, "app.kubernetes.io/component=webhook")?;
    let url = format!("https://{address}/mutate");
    let samples = samples();
    let sizes =
        samples.iter().map(|sample| answer_bytes(cluster, &url, sample)).collect::<Result<Vec<_>>>()?;
    let floor = floor::start(cluster, kubectl, &sizes)?;
    let process = Process::only(cluster, WEBHOOK)?;
    let test = LoadTest {
        cluster,
        webhook: MeasuredServer { name: "webhook".to_owned(), processes: vec![process] },
        nginx: MeasuredServer {
            name: floor::server_name(cluster, &floor)?,
            processes: Process::all(cluster, "^nginx: ")?,
        },
        quick,
    };
    let cases = samples.into_iter().enumerate().map(|(index, sample)| LoadCase {
        sample,
        url: &url,
        floor: format!("{floor}/{index}"),
    });

    let mut measurements = vec![test.rss("before the first review")?];
    let mut reviews = 0.0;
    for case in cases {
        for clients in [1, 8] {
            let measured = ReviewMeasurement::of(&test, &case, clients)?;
            reviews += measured.webhook.requests();
            measurements.extend(measured.measurements(&test, &case, clients));
        }
        measurements.push(test.rss(&format!("after the reviews, {}", case.sample.what))?);
        if case.sample.injected {
            reviews += test.reach_peak(&case, reviews)?;
        }
    }
    let peak = mib(process.memory()?.peak_kib);
    let peak = Measurement::new(ROW, format!("largest RSS in {reviews:.0} reviews"), peak, "MiB");
    measurements.push(peak.target(Target::Max(16.0)));
    Ok(measurements)
}

impl MeasuredServer<'_> {
    /// Returns the processor time of all processes, in seconds.
    fn cpu(&self) -> Result<f64> {
        self.processes.iter().map(Process::cpu).sum()
    }

    /// Returns the resident memory of all processes in MiB. Pages that they share count for each of them.
    fn rss(&self) -> Result<f64> {
        self.processes.iter().map(Process::rss).sum()
    }
}

impl LoadTest<'_> {
    fn rss(&self, when: &str) -> Result<Measurement> {
        let MeasuredServer { name, processes } = &self.nginx;
        let baseline = format!("{name}, {} processes", processes.len());
        Ok(Measurement::new(ROW, format!("RSS {when}"), self.webhook.rss()?, "MiB")
            .compared_with(baseline, self.nginx.rss()?))
    }

    /// Sends `load` to `server`, and returns the result with the server's processor time in seconds.
    fn send(&self, load: Load<'_>, server: &MeasuredServer<'_>) -> Result<(LoadResult, f64)> {
        let before = server.cpu()?;
        let result = wrk::run(self.cluster, self.cluster.directory()?.root(), load)?;
        Ok((result, server.cpu()? - before))
    }

    /// Sends reviews until their number reaches [`REVIEWS_BEFORE_PEAK`]. The `before` earlier reviews count too. Returns the
    /// number of reviews that this call has sent.
    fn reach_peak(&self, case: &LoadCase<'_>, before: f64) -> Result<f64> {
        let (goal, seconds) = if self.quick { (before + 1.0, 1) } else { (REVIEWS_BEFORE_PEAK, 30) };
        let load = Load { url: case.url, body: &case.sample.body, clients: 8, seconds };
        let mut reviews = 0.0;
        while before + reviews < goal {
            reviews += self.send(load, &self.webhook)?.0.requests;
        }
        Ok(reviews)
    }
}

/// Results of one load on the webhook and on nginx. Latencies are medians of several rounds, because other work on the
/// machine disturbs single rounds.
struct ReviewMeasurement {
    webhook: ServerRounds,
    nginx: ServerRounds,
}

/// Results of the rounds on one server.
#[derive(Default)]
struct ServerRounds {
    loads: Vec<LoadResult>,
    /// Processor time of the server for all rounds.
    cpu_seconds: f64,
}

impl ServerRounds {
    fn add(&mut self, (load, cpu_seconds): (LoadResult, f64)) {
        self.loads.push(load);
        self.cpu_seconds += cpu_seconds;
    }

    fn requests(&self) -> f64 {
        self.loads.iter().map(|load| load.requests).sum()
    }

    fn median(&self, part: fn(&LoadResult) -> f64) -> f64 {
        median(self.loads.iter().map(part).collect())
    }

    /// Returns the processor time for one request, in milliseconds.
    fn cpu_of_a_request(&self) -> f64 {
        self.cpu_seconds / self.requests() * 1e3
    }
}

impl ReviewMeasurement {
    fn of(test: &LoadTest<'_>, case: &LoadCase<'_>, clients: u32) -> Result<Self> {
        let (rounds, seconds) = if test.quick { (1, 1) } else { (5, 4) };
        let to_webhook = Load { url: case.url, body: &case.sample.body, clients, seconds };
        let to_nginx = Load { url: &case.floor, ..to_webhook };
        let (mut webhook, mut nginx) = (ServerRounds::default(), ServerRounds::default());
        // The servers take turns, so that other work on the machine affects both.
        for _ in 0..rounds {
            webhook.add(test.send(to_webhook, &test.webhook)?);
            nginx.add(test.send(to_nginx, &test.nginx)?);
        }
        Ok(Self { webhook, nginx })
    }

    fn measurements(&self, test: &LoadTest<'_>, case: &LoadCase<'_>, clients: u32) -> [Measurement; 3] {
        let Sample { what, injected, .. } = case.sample;
        let who = format!("{what}, {clients} {}", if clients == 1 { "client" } else { "clients" });
        let measurement = |name: &str, part: &dyn Fn(&ServerRounds) -> f64| {
            Measurement::new(ROW, format!("{who}, {name}"), part(&self.webhook), "ms")
                .compared_with(&*test.nginx.name, part(&self.nginx))
        };
        let latency = |name: &str, part: fn(&LoadResult) -> f64, times: f64| {
            let latency = measurement(name, &|rounds| rounds.median(part));
            if injected { latency.target(Target::MaxTimes(times)) } else { latency }
        };
        let (times_p50, times_p99) = if clients == 1 { (2.0, 1.5) } else { (3.0, 3.0) };
        let max_cpu = if injected { 0.08 } else { 0.04 };
        [
            latency("p50", |load| load.p50, times_p50),
            latency("p99", |load| load.p99, times_p99),
            measurement("CPU for each review", &ServerRounds::cpu_of_a_request).target(Target::Max(max_cpu)),
        ]
    }
}

/// Returns the length of the webhook's answer to `sample`, in bytes.
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
