//! Tests of a CA whose root is offline.

use certmint_certificates::ca::{IssuingProfile, RootProfile};
use certmint_certificates::{PrivateKey, RootCa};
use certmint_contract::KeyAlgorithm;
use prometheus_client::metrics::gauge::Gauge;

use super::rotation::decoded;
use super::*;

const REQUEST: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-ca-request";
const IMPORT: &str = "/api/v1/namespaces/certmint-system/configmaps/certmint-ca-import";

/// The company's root, whose key is not in the cluster.
fn company_root() -> RootCa {
    let policy = Policy::default();
    let profile = RootProfile { trust_domain: &policy.trust_domain, lifetime: "3650d".parse().unwrap() };
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let created = crate::clock::now() - time::Duration::days(1_000);
    RootCa::create(&profile, key, crate::random::serial().unwrap(), created).unwrap()
}

/// Returns the import for the request in the Secret: the root signs it at this time for this number of days.
fn signed(root: &RootCa, secret: &Value, at: time::OffsetDateTime, days: u32) -> Value {
    let policy = Policy::default();
    let lifetime = format!("{days}d");
    let profile = IssuingProfile {
        trust_domain: &policy.trust_domain,
        lifetime: lifetime.parse().unwrap(),
        permitted_dns: &policy.permitted_dns(),
    };
    let key = PrivateKey::from_pem(&decoded(secret, "request.key")).unwrap();
    let issuing = root.sign_issuing(&profile, key, crate::random::serial().unwrap(), at).unwrap();
    import_of(issuing.certificate().pem(), root)
}

fn import_of(certificate: &str, root: &RootCa) -> Value {
    json!({
        "metadata": { "name": "certmint-ca-import", "uid": "import-1" },
        "data": { "tls.crt": certificate, "ca.crt": root.certificate().pem() },
    })
}

impl Fixture {
    /// Lets the leader write the first request. Returns the Secret and the ConfigMap with the request.
    async fn request_first(&mut self) -> (Value, Value) {
        let secret = self.create_secret().await;
        self.server.expect("GET", REQUEST).await.fail(404, "NotFound");
        let call = self.server.expect("POST", BUNDLES).await;
        let request = call.body.clone();
        call.ok(request.clone());
        (secret, request)
    }

    /// Lets the leader import, and publish the root. Returns the Secret and the trust bundle.
    async fn import_first(&mut self, import: &Value, secret: &Value) -> (Value, Value) {
        self.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        self.server.expect("GET", SECRET).await.ok(secret.clone());
        self.server.expect("GET", IMPORT).await.ok(import.clone());
        let call = self.server.expect("PATCH", SECRET).await;
        let secret = patched(secret, &call.body);
        call.written("2");
        self.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
        self.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
        self.server.expect("GET", SECRET).await.ok(secret.clone());
        let call = self.server.expect("POST", BUNDLES).await;
        let bundle = call.body.clone();
        call.ok(bundle.clone());
        (secret, bundle)
    }

    /// Responds to the answer in the ConfigMap of the request, and asserts its status.
    async fn expect_answer(&mut self, status: &str) -> Value {
        self.server.expect("GET", REQUEST).await.ok(json!({ "metadata": {} }));
        let call = self.server.expect("PATCH", REQUEST).await;
        assert_eq!(call.body["data"]["status"], status);
        let answer = call.body["data"].clone();
        call.ok(json!({}));
        answer
    }

    /// Returns the Secret, the trust bundle and the root of a CA that was signed so many days ago, for so many days.
    async fn imported(&mut self, age: i64, days: u32) -> (Value, Value, RootCa) {
        let root = company_root();
        let (secret, _) = self.request_first().await;
        let import = signed(&root, &secret, crate::clock::now() - time::Duration::days(age), days);
        let (secret, bundle) = self.import_first(&import, &secret).await;
        (secret, bundle, root)
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leader_requests_a_certificate_and_waits() {
    let mut fixture = start_offline_keeper(true, false);
    let (secret, request) = fixture.request_first().await;
    let keys: Vec<_> = secret["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["request.csr", "request.key"], "no root is created");
    assert_eq!(request["data"]["issuing.csr"], decoded(&secret, "request.csr"));
    assert_eq!(request["data"]["status"], "waiting");
    let instructions = request["data"]["instructions"].as_str().unwrap();
    assert!(instructions.contains("create configmap --namespace=certmint-system certmint-ca-import"));
    assert!(!request.to_string().contains("PRIVATE"));
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("certmint-system/certmint-ca-request"), "{fault}");
    let event = fixture.next_event().await;
    assert_eq!((event.reason, &*event.object.name), ("CaRequestPending", "certmint-controller"));
    // The next check finds nothing to do.
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.server.expect("GET", IMPORT).await.fail(404, "NotFound");
    fixture.server.expect("GET", REQUEST).await.ok(request);
    fixture.server.expect_no_call().await;
    assert_eq!(fixture.gauges.request_pending.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_the_request_is_imported() {
    let mut fixture = start_offline_keeper(true, false);
    let (secret, bundle, root) = fixture.imported(0, 360).await;
    let answer = fixture.expect_answer("accepted").await;
    assert_eq!(answer["issuing.csr"], Value::Null, "an old request stays");
    assert_eq!(decoded(&secret, "root.key"), "", "the root's key is not in the cluster");
    assert_eq!(decoded(&secret, "request.key"), "", "the request is answered");
    assert_eq!(decoded(&secret, "root.crt"), root.certificate().pem());
    assert_eq!(bundle["data"]["ca.crt"], root.certificate().pem());
    let authority = fixture.ca.borrow().authority.clone().unwrap();
    assert_eq!(decoded(&secret, "issuing.crt"), authority.issuing().certificate().pem());
    assert_eq!(fixture.next_event().await.reason, "CaRequestPending");
    let event = fixture.next_event().await;
    assert_eq!((event.reason, &*event.object.name), ("CaImported", "certmint-ca-import"));
    assert!(event.note.contains(&root.certificate().fingerprint()), "{}", event.note);
    assert_eq!(fixture.gauges.request_pending.get(), 0);
    // A new keeper loads the CA from the Secret, and needs nothing else.
    let mut restarted = start_offline_keeper(false, true);
    restarted.respond_to_check(&secret, &bundle).await;
    restarted.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
    restarted.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_import_is_answered_and_changes_nothing() {
    let mut fixture = start_offline_keeper(true, false);
    let (secret, _) = fixture.request_first().await;
    let root = company_root();
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.ok(secret);
    fixture.server.expect("GET", IMPORT).await.ok(import_of(root.certificate().pem(), &company_root()));
    let answer = fixture.expect_answer("rejected").await;
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("no certificate in tls.crt has the key of the current request"), "{message}");
    assert_eq!(fixture.next_event().await.reason, "CaRequestPending");
    let event = fixture.next_event().await;
    assert_eq!((event.reason, &*event.object.name), ("CaImportRejected", "certmint-ca-import"));
    let event = fixture.next_event().await;
    assert_eq!(event.reason, "CaRequestPending", "the Event on the Deployment has the reason, too");
    assert!(event.note.contains("is rejected: no certificate in tls.crt"), "{}", event.note);
    assert_eq!(gauges(&fixture), [1, 1, 0]);
    fixture.server.expect_no_call().await;
}

/// Returns the values of the gauges.
fn gauges(fixture: &Fixture) -> [i64; 3] {
    let OfflineGauges { request_pending, import_rejected, import_urgency } = &fixture.gauges;
    [request_pending, import_rejected, import_urgency].map(Gauge::get)
}

#[tokio::test(start_paused = true)]
async fn a_follower_requests_nothing_and_reads_no_import() {
    let mut fixture = start_offline_keeper(false, false);
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("the root is offline"), "{fault}");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_certificate_is_requested_and_imported_below_the_same_root() {
    let mut fixture = start_offline_keeper(true, false);
    let (secret, bundle, root) = fixture.imported(121, 360).await;
    let call = fixture.server.expect("PATCH", SECRET).await;
    let keys: Vec<_> = call.body["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["request.csr", "request.key"], "the issuing CA stays as it is");
    let requested = patched(&secret, &call.body);
    call.written("3");
    fixture.expect_answer("waiting").await;
    assert!(fixture.ca.borrow().authority.is_ok(), "the CA in use stays");
    assert_eq!(gauges(&fixture), [1, 0, 0]);

    // An old import is not judged again, and another root is rejected.
    let old = import_of(&decoded(&secret, "issuing.crt"), &root);
    let other = signed(&company_root(), &requested, crate::clock::now(), 360);
    for (import, status) in [(old, "waiting"), (other, "rejected")] {
        fixture.respond_to_check(&requested, &bundle).await;
        fixture.server.expect("GET", IMPORT).await.ok(import);
        let answer = fixture.expect_answer(status).await;
        if status == "rejected" {
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains("a change of the root is a rotation"), "{message}");
        }
    }

    fixture.respond_to_check(&requested, &bundle).await;
    let next = signed(&root, &requested, crate::clock::now(), 360);
    fixture.server.expect("GET", IMPORT).await.ok(next.clone());
    let call = fixture.server.expect("PATCH", SECRET).await;
    let renewed = patched(&requested, &call.body);
    call.written("4");
    assert_eq!(decoded(&renewed, "issuing.crt"), next["data"]["tls.crt"].as_str().unwrap());
    assert_eq!(decoded(&renewed, "previous-issuing.crt"), decoded(&secret, "issuing.crt"));
    assert_eq!(decoded(&renewed, "root.crt"), decoded(&secret, "root.crt"));
    fixture.respond_to_check(&renewed, &bundle).await;
    fixture.expect_answer("accepted").await;
    assert_eq!(gauges(&fixture), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn warns_before_the_end_of_the_issuing_ca() {
    for (age, urgency, words) in [
        (121, 0, None),
        (241, 1, Some("less than one third of its lifetime")),
        (301, 2, Some("less than one sixth of its lifetime")),
    ] {
        let mut fixture = start_offline_keeper(true, false);
        let (secret, bundle, _) = fixture.imported(age, 360).await;
        let call = fixture.server.expect("PATCH", SECRET).await;
        let requested = patched(&secret, &call.body);
        call.written("3");
        fixture.expect_answer("waiting").await;
        fixture.respond_to_check(&requested, &bundle).await;
        assert_eq!(gauges(&fixture), [1, 0, urgency], "{age}");
        let warned = std::iter::from_fn(|| fixture.events.try_recv().ok())
            .find(|event| event.reason == "CaEndsSoon")
            .map(|event| event.note);
        assert_eq!(warned.is_some(), words.is_some(), "{age}: {warned:?}");
        if let (Some(note), Some(words)) = (warned, words) {
            assert!(note.contains(words) && note.contains("certmint-ca-request"), "{note}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_ca_of_the_other_kind_is_refused() {
    let (generated, bundle) = start_keeper(true, false).create_ca().await;
    let mut fixture = start_offline_keeper(true, true);
    fixture.respond_to_check(&generated, &bundle).await;
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("the key of a generated root") && fault.contains("a rotation"), "{fault}");
    fixture.server.expect_no_call().await;

    let (offline, bundle, _) = start_offline_keeper(true, false).imported(0, 360).await;
    let mut fixture = start_keeper(true, true);
    fixture.respond_to_check(&offline, &bundle).await;
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("its root is offline") && fault.contains("a rotation"), "{fault}");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_ca_without_a_known_root_is_neither_requested_nor_generated() {
    let mut fixture = start_offline_keeper(true, true);
    fixture.server.expect("GET", BUNDLE).await.fail(404, "NotFound");
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    let fault = fixture.wait_for_fault().await;
    assert!(fault.contains("the CA's Secret is missing"), "{fault}");
    fixture.server.expect_no_call().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_ca_is_replaced_below_the_published_root() {
    let (_, bundle, root) = start_offline_keeper(true, false).imported(0, 360).await;
    let mut fixture = start_offline_keeper(true, true);
    fixture.server.expect("GET", BUNDLE).await.ok(bundle.clone());
    fixture.server.expect("GET", SECRET).await.fail(404, "NotFound");
    let call = fixture.server.expect("POST", SECRETS).await;
    let mut secret = call.body.clone();
    secret["metadata"] = json!({ "name": "certmint-ca", "uid": "ca-2", "resourceVersion": "1" });
    call.ok(secret.clone());
    fixture.expect_answer("waiting").await;
    for (signer, is_accepted) in [(&company_root(), false), (&root, true)] {
        fixture.respond_to_check(&secret, &bundle).await;
        let import = signed(signer, &secret, crate::clock::now(), 360);
        fixture.server.expect("GET", IMPORT).await.ok(import);
        if is_accepted {
            let call = fixture.server.expect("PATCH", SECRET).await;
            assert_eq!(decoded(&call.body, "root.crt"), root.certificate().pem());
            call.written("2");
        } else {
            fixture.expect_answer("rejected").await;
        }
    }
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_on_the_config_maps_does_not_stop_issuance() {
    let (secret, bundle, _) = start_offline_keeper(true, false).imported(0, 360).await;
    let mut fixture = start_offline_keeper(true, true);
    fixture.respond_to_check(&secret, &bundle).await;
    fixture.server.expect("GET", REQUEST).await.fail(403, "Forbidden");
    fixture.ca.wait_for(|ca| ca.authority.is_ok()).await.unwrap();
}
