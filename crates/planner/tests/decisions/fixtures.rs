//! Fixture: a workload, its Service and a CA, with defaults.

use std::collections::BTreeMap;

use certmint_contract::lifetime::BACKDATE;
use certmint_contract::{
    DnsName, OptIn, Policy, TrustGeneration, WorkloadKind, WorkloadRef, annotations, keys,
};
use certmint_planner::{
    CertificateOrder, Decision, Hosts, IssuedFacts, IssuerFacts, Labels, Observed, Owner, Plan, Pods,
    RunningPod, SecretFacts, Service, ServiceKind, Workload, plan,
};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

/// State of the cluster around one workload. It can execute plans.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) workload: Workload,
    pub(crate) services: Vec<Service>,
    pub(crate) running: Vec<RunningPod>,
    pub(crate) hosts: Hosts,
    pub(crate) secrets: Vec<SecretFacts>,
    pub(crate) issuer: Option<IssuerFacts>,
    pub(crate) policy: Policy,
    pub(crate) now: OffsetDateTime,
}

impl Default for World {
    fn default() -> Self {
        Self {
            workload: deployment("payments"),
            services: vec![service("payments")],
            running: Vec::new(),
            hosts: Hosts::default(),
            secrets: Vec::new(),
            issuer: Some(issuer_below("ab01", NOW + Duration::days(60))),
            policy: Policy::default(),
            now: NOW,
        }
    }
}

impl World {
    pub(crate) fn decide(&self) -> Decision {
        let Self { workload, services, running, hosts, secrets, issuer, policy, now } = self;
        let pods = Pods { services, running };
        plan(&Observed { workload, pods, hosts, secrets, issuer: issuer.as_ref(), policy }, *now)
    }

    /// Annotates the workload with these keys, given without the prefix, and with `inject: "true"`.
    pub(crate) fn annotated(mut self, pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<_> =
            pairs.iter().map(|(key, value)| (format!("{}{key}", keys::PREFIX), *value)).collect();
        let pairs = pairs.iter().map(|(key, value)| (key.as_str(), *value));
        self.workload.opt_in = annotations::parse(pairs.chain([(keys::INJECT, "true")]));
        self
    }

    pub(crate) fn opted_out(mut self) -> Self {
        self.workload.opt_in = Ok(OptIn::No);
        self
    }

    pub(crate) fn with_policy(mut self, json: &str) -> Self {
        self.policy = Policy::from_json(json.as_bytes()).unwrap();
        self
    }

    /// Executes a decision as the controller does.
    pub(crate) fn execute(&mut self, decision: &Decision, jitter: u8) {
        self.hosts = decision.hosts.clone();
        match &decision.plan {
            Plan::Issue(order) => {
                assert!(self.secrets.iter().all(|secret| secret.name != order.secret_name));
                self.write(order, jitter);
            }
            Plan::Reissue(order) => {
                let before = self.secrets.len();
                self.secrets.retain(|secret| secret.name != order.secret_name);
                assert_eq!(self.secrets.len() + 1, before, "only an existing Secret is reissued");
                self.write(order, jitter);
            }
            Plan::RefreshTrust(name) => {
                let generation = self.issuer.as_ref().unwrap().trust_generation;
                let secret = self.secrets.iter_mut().find(|secret| secret.name == *name).unwrap();
                secret.record.as_mut().unwrap().trust_generation = generation;
            }
            Plan::Keep { .. } | Plan::Refuse(_) | Plan::NotWanted => {}
        }
        self.secrets.retain(|secret| {
            !decision.remove.iter().any(|gone| gone.name == secret.name && gone.uid == secret.uid)
        });
    }

    pub(crate) fn planned(mut self) -> Self {
        let decision = self.decide();
        self.execute(&decision, 128);
        self
    }

    pub(crate) fn later(mut self, by: Duration) -> Self {
        self.now += by;
        self.planned()
    }

    pub(crate) fn issued_names(&self) -> Vec<&str> {
        texts(&self.secrets[0].record.as_ref().unwrap().dns_names)
    }

    /// Decides and executes until nothing is left to do.
    pub(crate) fn settled(mut self) -> Self {
        for _ in 0..2 {
            let decision = self.decide();
            self.execute(&decision, 128);
        }
        self
    }

    fn write(&mut self, order: &CertificateOrder, jitter: u8) {
        let issuer = self.issuer.as_ref().unwrap();
        let issued = IssuedFacts {
            issuer: issuer.key_identifier.clone(),
            root: issuer.root.clone(),
            trust_generation: issuer.trust_generation,
            serial: "40".into(),
            not_before: self.now - BACKDATE,
            not_after: (self.now + order.lifetime.duration()).min(issuer.not_after),
        };
        let annotations = order.record(&self.workload.reference, issued, jitter).annotations();
        let labels = managed();
        let owner = Some(owner(&self.workload));
        let uid = format!("secret-{}", self.now);
        self.secrets.push(SecretFacts::new(order.secret_name.clone(), &uid, &labels, &annotations, owner));
    }
}

/// Returns the first issuing CA below this root.
pub(crate) fn issuer_below(root: &str, not_after: OffsetDateTime) -> IssuerFacts {
    IssuerFacts {
        root: root.into(),
        trust_generation: TrustGeneration::FIRST,
        not_after,
        key_identifier: "1551".into(),
        reissue_since: None,
    }
}

pub(crate) fn deployment(name: &str) -> Workload {
    Workload {
        reference: WorkloadRef::new(WorkloadKind::Deployment, name),
        namespace: "shop".parse().unwrap(),
        uid: format!("{name}-1").into(),
        created: Some(NOW - Duration::hours(1)),
        service_account: name.into(),
        template_labels: labels(&[("app", name), ("tier", "back")]),
        opt_in: annotations::parse([(keys::INJECT, "true")]),
        replicas: None,
        host: None,
    }
}

/// Returns a Service that selects the Deployment of the same name.
pub(crate) fn service(name: &str) -> Service {
    Service {
        name: name.into(),
        namespace: "shop".parse().unwrap(),
        selector: labels(&[("app", name)]),
        kind: ServiceKind::ClusterIp,
    }
}

pub(crate) fn owner(workload: &Workload) -> Owner {
    Owner { reference: workload.reference.to_string().into(), uid: workload.uid.clone() }
}

pub(crate) fn managed() -> BTreeMap<String, String> {
    BTreeMap::from([(keys::MANAGED.to_owned(), keys::TRUE.to_owned())])
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    pairs.collect::<BTreeMap<String, String>>().into()
}

pub(crate) fn texts(names: &[DnsName]) -> Vec<&str> {
    names.iter().map(DnsName::as_str).collect()
}
