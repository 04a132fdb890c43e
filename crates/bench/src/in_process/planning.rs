//! Row `planner`: the decisions about 10,000 workloads, once when no workload has a certificate, and once when every
//! certificate is valid and stays.

use std::collections::BTreeMap;
use std::hint::black_box;

use anyhow::{Result, bail, ensure};
use certmint_contract::{Policy, TrustGeneration, WorkloadKind, WorkloadRef, annotations, keys};
use certmint_planner::{
    CertificateOrder, Decision, Hosts, IssuedFacts, IssuerFacts, Labels, Observed, Owner, Plan, Pods,
    SecretFacts, Service, ServiceKind, Workload, plan,
};
use time::{Duration, OffsetDateTime};

use super::seconds_each;
use crate::result::Measurement;
use crate::run::Run;

const WORKLOADS: usize = 10_000;

/// A workload, with the other input of its decision.
struct PlannedWorkload {
    workload: Workload,
    /// Services of the workload's namespace that may select it.
    services: Vec<Service>,
    /// Names by which clients reach the pods, from the previous decision.
    hosts: Hosts,
    secrets: Vec<SecretFacts>,
}

/// Input that is the same for all decisions.
struct PlanningContext {
    issuer: IssuerFacts,
    policy: Policy,
    now: OffsetDateTime,
}

pub(crate) fn planning(run: &Run) -> Result<Vec<Measurement>> {
    let now = OffsetDateTime::now_utc();
    let issuer = IssuerFacts {
        root: "ab".repeat(20),
        trust_generation: TrustGeneration::FIRST,
        not_after: now + Duration::days(60),
        key_identifier: "cd".repeat(20),
        reissue_since: None,
    };
    let context = PlanningContext { issuer, policy: Policy::default(), now };
    let new: Vec<PlannedWorkload> = (0..WORKLOADS).map(PlannedWorkload::new).collect::<Result<_>>()?;
    let kept: Vec<PlannedWorkload> =
        (0..WORKLOADS).map(|index| PlannedWorkload::new(index)?.issued(&context)).collect::<Result<_>>()?;
    // The floor is the part that every decision needs: it compares the selectors of the Services with the workload's
    // labels.
    let floor = seconds_each(run.quick, || {
        for PlannedWorkload { workload, services, .. } in &new {
            black_box(services.iter().all(|service| service.selects(workload)));
        }
    });
    let measurement = |what: &str, cases: &[PlannedWorkload]| {
        let seconds = seconds_each(run.quick, || {
            cases.iter().for_each(|case| drop(black_box(context.decide(case))));
        });
        Measurement::new("planner", format!("10,000 workloads planned, {what}"), seconds * 1e3, "ms")
            .compared_with("only the matching of selectors", floor * 1e3)
    };
    Ok(vec![measurement("all without a Secret", &new), measurement("all with a valid Secret", &kept)])
}

impl PlanningContext {
    fn decide(&self, case: &PlannedWorkload) -> Decision {
        let PlannedWorkload { workload, services, hosts, secrets } = case;
        let Self { issuer, policy, now } = self;
        let pods = Pods { services, running: &[] };
        plan(&Observed { workload, pods, hosts, secrets, issuer: Some(issuer), policy }, *now)
    }
}

impl PlannedWorkload {
    /// Creates a workload without a Secret.
    fn new(index: usize) -> Result<Self> {
        let (workload, services) = (workload(index)?, vec![service(index)?]);
        Ok(Self { workload, services, hosts: Hosts::default(), secrets: Vec::new() })
    }

    /// Adds the workload's Secret, so that the planner decides to keep the certificate.
    fn issued(mut self, context: &PlanningContext) -> Result<Self> {
        let decision = context.decide(&self);
        let Plan::Issue(order) = &decision.plan else { bail!("not issued: {:?}", decision.plan) };
        self.secrets = vec![secret(&self.workload, order, context)];
        self.hosts = decision.hosts;
        let next = context.decide(&self).plan;
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
        opt_in: annotations::parse([(keys::INJECT, keys::TRUE)]),
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

fn secret(workload: &Workload, order: &CertificateOrder, context: &PlanningContext) -> SecretFacts {
    let issued = IssuedFacts {
        issuer: context.issuer.key_identifier.clone(),
        root: context.issuer.root.clone(),
        trust_generation: context.issuer.trust_generation,
        serial: "ef".repeat(20),
        not_before: context.now,
        not_after: context.now + order.lifetime.duration(),
    };
    // The record of a certificate consists of annotations on its Secret.
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
