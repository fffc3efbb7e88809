//! Tests of the membership machine: what it takes over, transfers and adopts.

use super::*;
use proptest::prelude::*;
use triggers_store::tables::rows::MemberRow;

const STEAL: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(8);
const PARTITIONS: u16 = 32;

fn row(name: &str, beat: u64) -> MemberRow {
    MemberRow {
        name: name.to_owned(),
        address: String::new(),
        peer_address: String::new(),
        is_draining: false,
        beat,
        protocol: 1,
        version: String::new(),
    }
}

fn machine(incarnation: &str) -> Machine {
    Machine::new(incarnation.to_owned(), PARTITIONS, (STEAL, STOP), Duration::ZERO)
}

fn view(members: &[(&str, u64)], owner: Option<&str>) -> View {
    let members = members
        .iter()
        .map(|(incarnation, beat)| ((*incarnation).to_owned(), row(name_of(incarnation), *beat)));
    let fence = |owner: &str| Fence { epoch: 1, incarnation: owner.to_owned() };
    let owners = owner
        .into_iter()
        .flat_map(|owner| (0..PARTITIONS).map(move |p| (PartitionId(p), fence(owner))));
    View { members: members.collect(), owners: owners.collect() }
}

fn served(count: u16) -> BTreeMap<PartitionId, u64> {
    (0..count).map(|p| (PartitionId(p), 1)).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_node_takes_everything() {
    let plan = machine("a@1.1").observe(&view(&[("a@1.1", 1)], None), seconds(0), &served(0));
    assert_eq!(plan.take.len(), usize::from(PARTITIONS));
}

#[test]
fn nothing_is_taken_from_a_member_before_its_beat_was_the_same_for_long() {
    let mut machine = machine("a@1.1");
    let members = [("a@1.1", 1), ("b@2.1", 7)];
    assert_eq!(
        machine.observe(&view(&members, Some("b@2.1")), seconds(0), &served(0)),
        Plan::default()
    );
    assert_eq!(
        machine.observe(&view(&members, Some("b@2.1")), seconds(9), &served(0)),
        Plan::default(),
        "MEMBER-1"
    );
    let beaten = [("a@1.1", 1), ("b@2.1", 8)];
    assert_eq!(
        machine.observe(&view(&beaten, Some("b@2.1")), seconds(10), &served(0)),
        Plan::default()
    );
    assert_eq!(
        machine.observe(&view(&beaten, Some("b@2.1")), seconds(19), &served(0)),
        Plan::default()
    );
    let plan = machine.observe(&view(&beaten, Some("b@2.1")), seconds(20), &served(0));
    assert_eq!(plan.take.len(), usize::from(PARTITIONS));
}

#[test]
fn an_earlier_start_of_the_same_node_is_taken_from_at_once_and_yields() {
    let both = view(&[("a@1.1", 5), ("a@2.1", 1)], Some("a@1.1"));
    let plan = machine("a@2.1").observe(&both, seconds(0), &served(0));
    assert_eq!((plan.take.len(), plan.superseded), (usize::from(PARTITIONS), false));
    let mut earlier = machine("a@1.1");
    earlier.observe(&view(&[("a@1.1", 4)], Some("a@1.1")), seconds(0), &served(PARTITIONS));
    assert!(earlier.observe(&both, seconds(1), &served(PARTITIONS)).superseded, "MEMBER-5");
}

#[test]
fn two_starts_of_one_name_at_the_same_time_do_not_take_from_each_other_for_ever() {
    let mut machine = machine("a@1.1");
    let both = |beat| view(&[("a@1.1", beat), ("a@2.1", beat)], Some("a@2.1"));
    let superseded = |beat| machine.observe(&both(beat), seconds(2 * beat), &served(0)).superseded;
    assert_eq!([1, 2, 3, 4].map(superseded), [false, false, false, true]);
}

#[test]
fn a_member_that_is_there_gets_its_share_once_it_beats() {
    let mut machine = machine("a@1.1");
    let plan = machine.observe(
        &view(&[("a@1.1", 1), ("b@2.1", 1)], Some("a@1.1")),
        seconds(0),
        &served(PARTITIONS),
    );
    assert_eq!(plan, Plan::default(), "MEMBER-3: it may be a row that was left behind");
    let plan = machine.observe(
        &view(&[("a@1.1", 2), ("b@2.1", 2)], Some("a@1.1")),
        seconds(2),
        &served(PARTITIONS),
    );
    assert!((8..=18).contains(&plan.hand_over.len()), "{plan:?}");
    assert!(plan.hand_over.iter().all(|(_, to)| to == "b@2.1"));
}

#[test]
fn a_node_that_drains_gives_everything_away_and_takes_nothing() {
    let mut machine = machine("a@1.1");
    let mut drained = view(&[("a@1.1", 1), ("b@2.1", 1)], Some("a@1.1"));
    drained.members.get_mut("a@1.1").unwrap().is_draining = true;
    machine.observe(&drained, seconds(0), &served(PARTITIONS));
    drained.members.get_mut("b@2.1").unwrap().beat = 2;
    let plan = machine.observe(&drained, seconds(2), &served(PARTITIONS));
    assert_eq!(plan.hand_over.len(), usize::from(PARTITIONS));
    drained.owners.clear();
    assert_eq!(machine.observe(&drained, seconds(3), &served(0)).take, Vec::new());
}

#[test]
fn what_was_handed_here_is_adopted_and_what_was_taken_away_is_lost() {
    let mut machine = machine("a@1.1");
    let own = view(&[("a@1.1", 1)], Some("a@1.1"));
    assert_eq!(machine.observe(&own, seconds(0), &served(0)).adopt.len(), usize::from(PARTITIONS));
    let mut taken = view(&[("a@1.1", 1), ("b@2.1", 1)], Some("b@2.1"));
    for (epoch, lost) in [(0, 0), (1, 4), (2, 4)] {
        taken.owners.values_mut().for_each(|fence| fence.epoch = epoch);
        let plan = machine.observe(&taken, seconds(0), &served(4));
        assert_eq!(plan.lose.len(), lost, "an older view says nothing: {epoch}");
    }
    let mut again = own;
    again.owners.values_mut().for_each(|fence| fence.epoch = 2);
    assert_eq!(
        machine.observe(&again, seconds(0), &served(4)).adopt.len(),
        usize::from(PARTITIONS),
        "handed back"
    );
}

#[test]
fn a_node_that_cannot_beat_has_lost_everything() {
    let mut machine = machine("a@1.1");
    for beat in 0..6 {
        machine.observe(
            &view(&[("a@1.1", beat)], Some("a@1.1")),
            seconds(beat) / 2,
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
    assert_eq!((plan.take.len(), plan.superseded), (usize::from(PARTITIONS), false));
}

#[test]
fn a_row_that_was_left_behind_is_forgotten_in_the_end() {
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
    /// Nodes that see the same rows, each in its own time, never plan to take the same partition, whatever becomes silent.
    #[test]
    fn no_two_take_the_same(count in 2usize..6, silent in prop::collection::vec(any::<bool>(), 6), salt: u16) {
        let incarnations: Vec<String> = (0..count).map(|n| format!("n{salt}-{n}@{n}.1")).collect();
        let beats = |round: u64| -> View {
            let beat = |n: usize| if silent[n] { 1 } else { round };
            let members: Vec<_> = incarnations.iter().enumerate().map(|(n, inc)| (inc.as_str(), beat(n))).collect();
            view(&members, Some(&incarnations[0]))
        };
        let mut taken = BTreeSet::new();
        let is_any_left = silent[1..count].iter().any(|is_silent| !is_silent);
        for (n, incarnation) in incarnations.iter().enumerate().filter(|(n, _)| !silent[*n] && *n > 0) {
            let mut machine = machine(incarnation);
            let skew = Duration::from_millis(n as u64 * 333);
            machine.observe(&beats(1), skew, &served(0));
            for round in 1..10 {
                let plan = machine.observe(&beats(1 + round), skew + seconds(round), &served(0));
                prop_assert!(plan.take.is_empty(), "MEMBER-2 in round {}: {:?}", round, plan);
            }
            let plan = machine.observe(&beats(11), skew + seconds(10), &served(0));
            prop_assert!(silent[0] || plan.take.is_empty(), "MEMBER-2: {:?}", plan);
            for (partition, _) in plan.take {
                prop_assert!(taken.insert(partition), "{partition} is taken twice");
            }
        }
        let expected = if silent[0] && is_any_left { usize::from(PARTITIONS) } else { 0 };
        prop_assert_eq!(taken.len(), expected);
    }
}
