//! The replacement of the published files, as an app sees it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use certmint_certificates::{ExpectedIdentity, ExpectedLeaf, verify};
use certmint_contract::issuance::Bundle;
use certmint_contract::{TrustBundle, pod_layout};
use certmint_fetch::volume;
use time::OffsetDateTime;

use crate::fixtures::{Ca, IDENTITY, Pod, wait_until};

/// Reads the files like an app that follows the link once. Returns whether the bundle passes verification, or `None` if
/// the directory was replaced during the read.
fn is_consistent(dir: &Path) -> Option<bool> {
    let data = dir.join(fs::read_link(dir.join("..data")).ok()?);
    let read = |name: &str| fs::read_to_string(data.join(name)).ok();
    let bundle = Bundle {
        private_key: read(pod_layout::KEY_FILE)?,
        certificate: read(pod_layout::CERTIFICATE_FILE)?,
        trust_bundle: TrustBundle::first(read(pod_layout::TRUST_BUNDLE_FILE)?),
    };
    let expected = ExpectedLeaf { dns_names: None, identity: ExpectedIdentity::Path(IDENTITY) };
    Some(verify(&bundle, &expected, OffsetDateTime::now_utc()).is_ok())
}

#[test]
fn no_reader_sees_a_mix_of_two_bundles() {
    let ca = Ca::new();
    let bundles = [ca.bundle(), ca.bundle()];
    let dir = tempfile::tempdir().unwrap();
    volume::publish(dir.path(), &bundles[0], 0o440).unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Some(consistent) = is_consistent(dir.path()) {
                    assert!(consistent, "key and certificate of different bundles");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for bundle in bundles.iter().cycle().take(500) {
            volume::publish(dir.path(), bundle, 0o440).unwrap();
            assert!(dir.path().join(pod_layout::KEY_FILE).exists());
        }
        wait_until("a hundred reads", || reads.load(Ordering::Relaxed) > 100);
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn removes_leftovers_of_a_crash_and_nothing_else() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let dir = &pod.paths.tls_dir;
    pod.publish_before_start(&ca.bundle_of_age(60));
    let former = volume::current_version(dir).unwrap();
    fs::create_dir(dir.join("..1234")).unwrap();
    fs::write(dir.join("..1234/tls.key"), "half a key").unwrap();
    symlink("..1234", dir.join("..data_tmp")).unwrap();
    fs::write(dir.join("of-another"), "kept").unwrap();
    let bundle = ca.bundle();
    pod.write_secret(&bundle);
    assert!(pod.start(&["once"]).wait_for_exit().0.success());
    assert_eq!(pod.published(), Some(bundle));
    let current = volume::current_version(dir).unwrap();
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
fn a_full_volume_keeps_its_files_and_the_app_starts() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    let old = ca.bundle_of_age(60);
    pod.publish_before_start(&old);
    pod.write_secret(&ca.bundle());
    let mut process = pod.start_with_full_disk();
    process.wait_for_log("CannotPublish");
    assert!(process.log().contains("needs free space"), "{}", process.log());
    assert_eq!(pod.published(), Some(old));
    assert!(process.is_running());
    assert!(pod.start(&["wait"]).wait_for_exit().0.success());
}

#[test]
fn reports_a_volume_without_space_for_the_first_files() {
    let ca = Ca::new();
    let pod = Pod::new(&ca);
    pod.write_secret(&ca.bundle());
    let process = pod.start_with_full_disk();
    pod.wait_for_termination_message("CannotPublish");
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
