//! Tests of names while a workload is scaled.

use certmint_contract::{WorkloadKind, WorkloadRef};
use certmint_planner::{GRACE_PERIOD, Plan, Replicas, Service, ServiceKind};
use proptest::prelude::*;
use time::Duration;

use crate::fixtures::{World, service};

fn replicas(count: u32) -> World {
    let mut world = World::default();
    world.workload.reference = WorkloadRef::new(WorkloadKind::StatefulSet, "db");
    world.workload.replicas = Some(Replicas { governing_service: "peers".into(), ordinals: 0..count });
    world.services =
        vec![Service { name: "peers".into(), kind: ServiceKind::Headless, ..service("payments") }];
    world
}

/// Scales the workload, and returns whether that caused a new certificate.
fn scale_and_detect_reissue(world: &mut World, count: u32) -> bool {
    world.workload.replicas.as_mut().unwrap().ordinals = 0..count;
    let before = world.secrets.clone();
    *world = world.clone().planned().later(GRACE_PERIOD).later(Duration::SECOND);
    before != world.secrets
}

#[test]
fn scaling_up_reissues_at_each_power_of_two() {
    let mut world = replicas(1).settled();
    let issued: Vec<u32> = (2..=64).filter(|count| scale_and_detect_reissue(&mut world, *count)).collect();
    assert_eq!(issued, [2, 4, 8, 16, 32, 64]);
    let issued: Vec<u32> =
        (1..64).rev().filter(|count| scale_and_detect_reissue(&mut world, *count)).collect();
    assert_eq!(issued.len(), 2, "{issued:?}");
}

#[test]
fn repeated_scaling_up_and_down_reissues_nothing() {
    let mut world = replicas(4).settled();
    assert!(!(0..20).any(|round| scale_and_detect_reissue(&mut world, if round % 2 == 0 { 3 } else { 4 })));
    let mut world = replicas(7).settled();
    scale_and_detect_reissue(&mut world, 8);
    assert!(!(0..20).any(|round| scale_and_detect_reissue(&mut world, if round % 2 == 0 { 7 } else { 8 })));
}

proptest! {
    // Each plan for a hundred replicas has hundreds of names, so few cases are enough.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_replica_and_the_next_always_have_their_names(
        counts in prop::collection::vec(0_u32..100, 1..12),
    ) {
        let mut world = replicas(counts[0]).settled();
        for count in counts {
            scale_and_detect_reissue(&mut world, count);
            let names = world.issued_names();
            for ordinal in 0..=count {
                let name = format!("db-{ordinal}.peers.shop.svc");
                prop_assert!(names.contains(&&*name), "{count}: {name}");
            }
            // The certificate may also have the names of later replicas, up to this number.
            let most = usize::try_from(4 * (count + 1)).unwrap().max(8);
            prop_assert!(names.len() <= 2 * (most + 1), "{count}: {}", names.len());
            let settled = world.decide().plan;
            prop_assert!(matches!(settled, Plan::Keep { .. }), "{settled:?}");
        }
    }
}
