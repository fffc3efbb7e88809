//! Tests of the membership machine: which plan follows from which sequence of views.

use super::*;
use proptest::prelude::*;
use triggers_store::tables::rows::NodeRow;

const TIMES: MembershipTimes = MembershipTimes {
    take_over_after: Duration::from_secs(10),
    stop_after: Duration::from_secs(8),
};
const PARTITIONS: u16 = 32;

fn row(name: &str, heartbeat: u64) -> NodeRow {
    NodeRow {
        name: name.to_owned(),
        address: String::new(),
        peer_address: String::new(),
        is_draining: false,
        heartbeat,
        protocol: 1,
        version: String::new(),
    }
}

fn machine(incarnation: &str) -> MembershipMachine {
    MembershipMachine::new(incarnation.to_owned(), PARTITIONS, TIMES, Duration::ZERO)
}

fn view(nodes: &[(&str, u64)], owner: Option<&str>) -> ClusterView {
    let nodes = nodes.iter().map(|(incarnation, heartbeat)| {
        ((*incarnation).to_owned(), row(name_of(incarnation), *heartbeat))
    });
    let fence = |owner: &str| Fence { epoch: 1, incarnation: owner.to_owned() };
    let owners = owner
        .into_iter()
        .flat_map(|owner| (0..PARTITIONS).map(move |p| (PartitionId(p), fence(owner))));
    ClusterView { nodes: nodes.collect(), owners: owners.collect() }
}

fn served(count: u16) -> BTreeMap<PartitionId, u64> {
    (0..count).map(|p| (PartitionId(p), 1)).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_node_takes_over_everything() {
    let plan = machine("a@1.1").observe(&view(&[("a@1.1", 1)], None), seconds(0), &served(0));
    assert_eq!(plan.take_over.len(), usize::from(PARTITIONS));
}

#[test]
fn no_partition_is_taken_over_before_the_heartbeat_was_unchanged_for_long() {
    let mut machine = machine("a@1.1");
    let nodes = [("a@1.1", 1), ("b@2.1", 7)];
    assert_eq!(
        machine.observe(&view(&nodes, Some("b@2.1")), seconds(0), &served(0)),
        MembershipPlan::default()
    );
    assert_eq!(
        machine.observe(&view(&nodes, Some("b@2.1")), seconds(9), &served(0)),
        MembershipPlan::default(),
        "MEMBER-1"
    );
    let changed = [("a@1.1", 1), ("b@2.1", 8)];
    assert_eq!(
        machine.observe(&view(&changed, Some("b@2.1")), seconds(10), &served(0)),
        MembershipPlan::default()
    );
    assert_eq!(
        machine.observe(&view(&changed, Some("b@2.1")), seconds(19), &served(0)),
        MembershipPlan::default()
    );
    let plan = machine.observe(&view(&changed, Some("b@2.1")), seconds(20), &served(0));
    assert_eq!(plan.take_over.len(), usize::from(PARTITIONS));
}

#[test]
fn a_later_start_of_a_node_takes_over_at_once_and_the_earlier_one_ends() {
    let both = view(&[("a@1.1", 5), ("a@2.1", 1)], Some("a@1.1"));
    let plan = machine("a@2.1").observe(&both, seconds(0), &served(0));
    assert_eq!((plan.take_over.len(), plan.is_superseded), (usize::from(PARTITIONS), false));
    let mut earlier = machine("a@1.1");
    earlier.observe(&view(&[("a@1.1", 4)], Some("a@1.1")), seconds(0), &served(PARTITIONS));
    assert!(earlier.observe(&both, seconds(1), &served(PARTITIONS)).is_superseded, "MEMBER-5");
}

#[test]
fn two_simultaneous_starts_of_one_name_do_not_take_over_for_ever() {
    let mut machine = machine("a@1.1");
    let both = |heartbeat| view(&[("a@1.1", heartbeat), ("a@2.1", heartbeat)], Some("a@2.1"));
    let is_superseded = |n| machine.observe(&both(n), seconds(2 * n), &served(0)).is_superseded;
    assert_eq!([1, 2, 3, 4].map(is_superseded), [false, false, false, true]);
}

#[test]
fn a_new_node_gets_its_share_once_its_heartbeat_changes() {
    let mut machine = machine("a@1.1");
    let plan = machine.observe(
        &view(&[("a@1.1", 1), ("b@2.1", 1)], Some("a@1.1")),
        seconds(0),
        &served(PARTITIONS),
    );
    assert_eq!(plan, MembershipPlan::default(), "MEMBER-3: it may be a stale row");
    let plan = machine.observe(
        &view(&[("a@1.1", 2), ("b@2.1", 2)], Some("a@1.1")),
        seconds(2),
        &served(PARTITIONS),
    );
    assert!((8..=18).contains(&plan.transfer.len()), "{plan:?}");
    assert!(plan.transfer.iter().all(|(_, to)| to == "b@2.1"));
}

#[test]
fn a_draining_node_transfers_everything_and_takes_nothing_over() {
    let mut machine = machine("a@1.1");
    let mut drained = view(&[("a@1.1", 1), ("b@2.1", 1)], Some("a@1.1"));
    drained.nodes.get_mut("a@1.1").unwrap().is_draining = true;
    machine.observe(&drained, seconds(0), &served(PARTITIONS));
    drained.nodes.get_mut("b@2.1").unwrap().heartbeat = 2;
    let plan = machine.observe(&drained, seconds(2), &served(PARTITIONS));
    assert_eq!(plan.transfer.len(), usize::from(PARTITIONS));
    drained.owners.clear();
    assert_eq!(machine.observe(&drained, seconds(3), &served(0)).take_over, Vec::new());
}

#[test]
fn partitions_transferred_here_are_adopted_and_others_are_lost() {
    let mut machine = machine("a@1.1");
    let own = view(&[("a@1.1", 1)], Some("a@1.1"));
    assert_eq!(machine.observe(&own, seconds(0), &served(0)).adopt.len(), usize::from(PARTITIONS));
    let mut taken = view(&[("a@1.1", 1), ("b@2.1", 1)], Some("b@2.1"));
    for (epoch, lost) in [(0, 0), (1, 4), (2, 4)] {
        taken.owners.values_mut().for_each(|fence| fence.epoch = epoch);
        let plan = machine.observe(&taken, seconds(0), &served(4));
        assert_eq!(plan.lose.len(), lost, "an older view changes nothing: {epoch}");
    }
    let mut again = own;
    again.owners.values_mut().for_each(|fence| fence.epoch = 2);
    assert_eq!(
        machine.observe(&again, seconds(0), &served(4)).adopt.len(),
        usize::from(PARTITIONS),
        "transferred back"
    );
}

#[test]
fn a_node_without_heartbeats_has_lost_everything() {
    let mut machine = machine("a@1.1");
    for heartbeat in 0..6 {
        machine.observe(
            &view(&[("a@1.1", heartbeat)], Some("a@1.1")),
            seconds(heartbeat) / 2,
            &served(PARTITIONS),
        );
    }
    machine.committed(seconds(3));
    assert!(!machine.is_lost(seconds(10)));
    assert!(machine.is_lost(seconds(11)), "MEMBER-4");
    machine.restart("a@1.2".into(), seconds(11));
    assert!(!machine.is_lost(seconds(12)));
    let left = view(&[("a@1.1", 9), ("a@1.2", 1)], Some("a@1.1"));
    let plan = machine.observe(&left, seconds(12), &served(0));
    assert_eq!((plan.take_over.len(), plan.is_superseded), (usize::from(PARTITIONS), false));
}

#[test]
fn a_stale_row_is_forgotten_in_the_end() {
    let mut machine = machine("a@1.1");
    let left = view(&[("a@1.1", 1), ("b@2.1", 1)], Some("a@1.1"));
    machine.observe(&left, seconds(0), &served(PARTITIONS));
    assert_eq!(
        machine.observe(&left, seconds(59), &served(PARTITIONS)).forget,
        Vec::<String>::new()
    );
    assert_eq!(machine.observe(&left, seconds(60), &served(PARTITIONS)).forget, ["b@2.1"]);
}

proptest! {
    /// Nodes read the same rows at different times and some nodes are silent: no two nodes ever
    /// plan to take over the same partition.
    #[test]
    fn no_two_nodes_take_over_the_same_partition(
        count in 2usize..6,
        silent in prop::collection::vec(any::<bool>(), 6),
        salt: u16,
    ) {
        let incarnations: Vec<String> = (0..count).map(|n| format!("n{salt}-{n}@{n}.1")).collect();
        let view_of = |round: u64| -> ClusterView {
            let heartbeat = |n: usize| if silent[n] { 1 } else { round };
            let nodes = incarnations.iter().enumerate();
            let nodes: Vec<_> = nodes.map(|(n, inc)| (inc.as_str(), heartbeat(n))).collect();
            view(&nodes, Some(&incarnations[0]))
        };
        let mut taken_over = BTreeSet::new();
        let is_any_left = silent[1..count].iter().any(|is_silent| !is_silent);
        for (n, incarnation) in incarnations.iter().enumerate().skip(1) {
            if silent[n] {
                continue;
            }
            let mut machine = machine(incarnation);
            let skew = Duration::from_millis(n as u64 * 333);
            machine.observe(&view_of(1), skew, &served(0));
            for round in 1..10 {
                let plan = machine.observe(&view_of(1 + round), skew + seconds(round), &served(0));
                prop_assert!(plan.take_over.is_empty(), "MEMBER-2 in round {}: {:?}", round, plan);
            }
            let plan = machine.observe(&view_of(11), skew + seconds(10), &served(0));
            prop_assert!(silent[0] || plan.take_over.is_empty(), "MEMBER-2: {:?}", plan);
            for (partition, _) in plan.take_over {
                prop_assert!(taken_over.insert(partition), "{partition} is taken over twice");
            }
        }
        let expected = if silent[0] && is_any_left { usize::from(PARTITIONS) } else { 0 };
        prop_assert_eq!(taken_over.len(), expected);
    }
}
