//! The swap of the published files, as an app sees it.

use crate::fixtures::{Ca, IDENTITY, Pod, until};
use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, verify};
use certmint_contract::pod_layout;
use certmint_fetch::{atomic_dir, publication};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use time::OffsetDateTime;

/// Reads as an app does that goes through the link once, and says whether key and certificate belong together.
/// `None` when the directory was replaced in between.
fn pair_fits(dir: &Path) -> Option<bool> {
    let data = dir.join(fs::read_link(dir.join("..data")).ok()?);
    let read = |name: &str| fs::read_to_string(data.join(name)).ok();
    let bundle = certmint_contract::issuance::Bundle {
        private_key: read(pod_layout::KEY_FILE)?,
        certificate: read(pod_layout::CERTIFICATE_FILE)?,
        trust_bundle: read(pod_layout::TRUST_BUNDLE_FILE)?,
    };
    let expected = ExpectedLeaf { dns_names: None, identity: ExpectedIdentity::Path(IDENTITY) };
    Some(verify(&bundle, &expected, OffsetDateTime::now_utc()).is_ok())
}

#[test]
fn no_reader_ever_sees_a_mixed_pair() {
    let ca = Ca::new();
    let bundles = [ca.bundle(), ca.bundle()];
    let dir = tempfile::tempdir().unwrap();
    publication::publish(dir.path(), &bundles[0], 0o440).unwrap();
    let (done, whole) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Some(fits) = pair_fits(dir.path()) {
                    assert!(fits, "a mixed pair");
                    whole.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for bundle in bundles.iter().cycle().take(500) {
            publication::publish(dir.path(), bundle, 0o440).unwrap();
            assert!(dir.path().join(pod_layout::KEY_FILE).exists());
        }
        until("a hundred whole reads", || whole.load(Ordering::Relaxed) > 100);
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn leftovers_of_a_crash_are_removed_and_nothing_else() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let dir = &pod.paths.tls_dir;
    pod.published_before(&ca.bundle_of_age(60));
    let former = atomic_dir::version(dir).unwrap();
    fs::create_dir(dir.join("..1234")).unwrap();
    fs::write(dir.join("..1234/tls.key"), "half a key").unwrap();
    symlink("..1234", dir.join("..data_tmp")).unwrap();
    fs::write(dir.join("of-another"), "kept").unwrap();
    let bundle = ca.bundle();
    pod.write_secret(&bundle);
    assert!(pod.start(&["once"]).end().0.success());
    assert_eq!(pod.published(), Some(bundle));
    let current = atomic_dir::version(dir).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let current = current.to_str().unwrap();
    let mut expected = ["..data", current, "ca.crt", "of-another", "tls.crt", "tls.key", "tls.pem"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_ne!(current, former.to_str().unwrap());
}

#[test]
fn without_room_the_old_files_stay_and_the_app_starts() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let old = ca.bundle_of_age(60);
    pod.published_before(&old);
    pod.write_secret(&ca.bundle());
    let mut process = pod.start_without_room();
    process.until_logged("CannotPublish");
    assert!(process.log().contains("needs room"), "{}", process.log());
    assert_eq!(pod.published(), Some(old));
    assert!(process.is_running());
    assert!(pod.start(&["wait"]).end().0.success());
}

#[test]
fn without_room_for_the_first_files_the_pod_is_told() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    pod.write_secret(&ca.bundle());
    let process = pod.start_without_room();
    pod.until_told("CannotPublish");
    drop(process);
    assert_eq!(pod.published(), None);
    assert!(
        !fs::read_dir(&pod.paths.tls_dir).unwrap().any(|entry| entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".."))
    );
}
