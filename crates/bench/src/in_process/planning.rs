//! The decision about each of 10,000 workloads, once nothing is to be done and once everything.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::Result;
use certmint_contract::{Policy, WorkloadKind, WorkloadRef, annotations, keys};
use certmint_planner::{Hosts, IssuerFacts, Labels, Observed, Service, ServiceKind, Workload, plan};
use time::{Duration, OffsetDateTime};

use super::seconds_each;
use crate::Run;
use crate::figure::Figure;

const WORKLOADS: usize = 10_000;

pub(crate) fn planning(run: &Run) -> Result<Vec<Figure>> {
    let now = OffsetDateTime::now_utc();
    let issuer = IssuerFacts { root: "ab".repeat(20), not_after: now + Duration::days(60) };
    let (policy, hosts) = (Policy::default(), Hosts::default());
    let workloads: Vec<Workload> = (0..WORKLOADS).map(workload).collect::<Result<_>>()?;
    // The controller hands over those of the workload's namespace that may select it.
    let services: Vec<Service> = (0..WORKLOADS).map(service).collect::<Result<_>>()?;
    let each = seconds_each(run.quick, || {
        for (workload, service) in workloads.iter().zip(&services) {
            let observed = Observed {
                workload,
                services: std::slice::from_ref(service),
                hosts: &hosts,
                secrets: &[],
                issuer: Some(&issuer),
                policy: &policy,
            };
            drop(black_box(plan(&observed, now)));
        }
    });
    // A decision has to compare each label of the selector with one of the workload at least.
    let floor = seconds_each(run.quick, || {
        for (workload, service) in workloads.iter().zip(&services) {
            black_box(service.selects(workload));
        }
    });
    let figure = Figure::new("planner", "10,000 workloads planned, none issued yet", each * 1e3, "ms");
    Ok(vec![figure.beside("their selectors matched", floor * 1e3)])
}

fn labels(index: usize) -> Labels {
    BTreeMap::from([("app".to_owned(), format!("payments-{index}"))]).into()
}

fn workload(index: usize) -> Result<Workload> {
    let name = format!("payments-{index}");
    Ok(Workload {
        reference: WorkloadRef::new(WorkloadKind::Deployment, &name),
        namespace: "shop".parse()?,
        uid: format!("uid-{index}").into(),
        created: None,
        service_account: "default".into(),
        template_labels: labels(index),
        request: annotations::parse([(keys::INJECT, keys::TRUE)]),
        replicas: None,
    })
}

fn service(index: usize) -> Result<Service> {
    Ok(Service {
        name: format!("payments-{index}").into(),
        namespace: "shop".parse()?,
        selector: labels(index),
        kind: ServiceKind::ClusterIp,
    })
}
