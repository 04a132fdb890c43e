//! The decision about each of 10,000 workloads: once everything is to be issued, and once all is as it should be.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Result, bail, ensure};
use certmint_contract::{Policy, WorkloadKind, WorkloadRef, annotations, keys};
use certmint_planner::{
    Decision, Hosts, IssuedFacts, IssuerFacts, Labels, Observed, Order, Owner, Plan, Pods, SecretFacts,
    Service, ServiceKind, Workload, plan,
};
use time::{Duration, OffsetDateTime};

use super::seconds_each;
use crate::figure::Figure;
use crate::run::Run;

const WORKLOADS: usize = 10_000;

/// A workload, with what the controller hands over to the planner beside it.
struct Case {
    workload: Workload,
    /// Of the workload's namespace, those that may select it.
    services: Vec<Service>,
    hosts: Hosts,
    secrets: Vec<SecretFacts>,
}

/// What is the same for all.
struct Common {
    issuer: IssuerFacts,
    policy: Policy,
    now: OffsetDateTime,
}

pub(crate) fn planning(run: &Run) -> Result<Vec<Figure>> {
    let now = OffsetDateTime::now_utc();
    let issuer = IssuerFacts { root: "ab".repeat(20), not_after: now + Duration::days(60) };
    let common = Common { issuer, policy: Policy::default(), now };
    let new: Vec<Case> = (0..WORKLOADS).map(Case::new).collect::<Result<_>>()?;
    let kept: Vec<Case> =
        (0..WORKLOADS).map(|index| Case::new(index)?.issued(&common)).collect::<Result<_>>()?;
    // A decision has to compare each label of the selector with one of the workload at least.
    let floor = seconds_each(run.quick, || {
        for Case { workload, services, .. } in &new {
            black_box(services.iter().all(|service| service.selects(workload)));
        }
    });
    let figure = |what: &str, cases: &[Case]| {
        let each = seconds_each(run.quick, || {
            cases.iter().for_each(|case| drop(black_box(common.decide(case))));
        });
        Figure::new("planner", format!("10,000 workloads planned, {what}"), each * 1e3, "ms")
            .beside("their selectors matched", floor * 1e3)
    };
    Ok(vec![figure("none issued yet", &new), figure("each Secret kept", &kept)])
}

impl Common {
    fn decide(&self, case: &Case) -> Decision {
        let Case { workload, services, hosts, secrets } = case;
        let Self { issuer, policy, now } = self;
        let pods = Pods { services, running: &[] };
        plan(&Observed { workload, pods, hosts, secrets, issuer: Some(issuer), policy }, *now)
    }
}

impl Case {
    /// As it is when nothing has been done for it.
    fn new(index: usize) -> Result<Self> {
        let (workload, services) = (workload(index)?, vec![service(index)?]);
        Ok(Self { workload, services, hosts: Hosts::default(), secrets: Vec::new() })
    }

    /// With its Secret, so that there is nothing to do.
    fn issued(mut self, common: &Common) -> Result<Self> {
        let decision = common.decide(&self);
        let Plan::Issue(order) = &decision.plan else { bail!("not issued: {:?}", decision.plan) };
        self.secrets = vec![secret(&self.workload, order, common)];
        self.hosts = decision.hosts;
        let next = common.decide(&self).plan;
        ensure!(matches!(next, Plan::Keep { .. }), "not kept: {next:?}");
        Ok(self)
    }
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
        host: None,
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

fn secret(workload: &Workload, order: &Order, common: &Common) -> SecretFacts {
    let issued = IssuedFacts {
        issuer: "cd".repeat(20),
        root: common.issuer.root.clone(),
        serial: "ef".repeat(20),
        not_before: common.now,
        not_after: common.now + order.lifetime.duration(),
    };
    let annotations = order.record(&workload.reference, issued, 0).annotations();
    let labels = BTreeMap::from([(keys::MANAGED.to_owned(), keys::TRUE.to_owned())]);
    let owner = Owner { reference: workload.reference.to_string().into(), uid: workload.uid.clone() };
    SecretFacts::new(
        order.secret_name.clone(),
        &format!("of-{}", workload.uid),
        &labels,
        &annotations,
        Some(owner),
    )
}
