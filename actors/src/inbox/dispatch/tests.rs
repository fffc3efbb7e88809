//! The dispatcher in random orders of events: its bounds hold, its permits come back, and it never
//! stops while something is due.

use super::*;
use crate::delivery::permits::DeliveryPermits;
use proptest::prelude::*;
use triggers_protocol::{Event, EventId, EventType, TenantId, event::EventState};
use triggers_store::tables::rows::DisabledReason;

const PERMITS: usize = 5;
const LIMITS: DispatchLimits = DispatchLimits {
    tenant_in_flight_max: 4,
    slow_after: Duration::from_secs(5),
    breaker: BreakerLimits {
        failures_max: 2,
        pause_min: Duration::from_secs(1),
        pause_max: Duration::from_secs(4),
    },
};

pub(in crate::inbox) fn row(number: u8, max_in_flight: u32) -> SubscriptionRow {
    SubscriptionRow {
        id: id(number),
        target_url: format!("https://{number}.example/"),
        event_types: Vec::new(),
        description: None,
        keys: Vec::new(),
        retry_policy: None,
        max_in_flight,
        status: SubscriptionStatus::Active,
        failing_since: None,
        held_until: None,
        created_at: AT_ONCE,
        updated_at: AT_ONCE,
        changed_by: 0,
    }
}

fn id(number: u8) -> SubscriptionId {
    SubscriptionId::from_bytes([number; 16])
}

fn claimed(count: usize) -> Vec<Claimed> {
    let event = Event {
        id: EventId::ZERO,
        received_at: AT_ONCE,
        event_type: EventType::parse("a.b").unwrap(),
        timestamp: AT_ONCE,
        payload: "{}".into(),
        metadata: std::sync::Arc::default(),
        state: EventState::ACCEPTED,
    };
    vec![Claimed { event, token: 1 }; count]
}

fn now(seconds: u64) -> Now {
    Now {
        wall: Timestamp::EPOCH.plus(Duration::from_secs(1_000 + seconds)),
        monotonic: Duration::from_secs(seconds),
    }
}

fn of(permits: &DeliveryPermits, tenant: &str) -> TenantPermits {
    permits.of(TenantId::parse(tenant).unwrap(), Arc::default())
}

/// Number of free permits: other tenants take one each.
fn free(permits: &DeliveryPermits) -> usize {
    let others = (0..).map(|number| of(permits, &format!("other-{number}")).try_acquire(1));
    others.take_while(|permits| !permits.is_empty()).collect::<Vec<_>>().len()
}

fn dispatcher(lanes: Vec<SubscriptionRow>, permits: &DeliveryPermits) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(LIMITS, of(permits, "acme"));
    dispatcher.load(lanes.into_iter().map(|row| (row, None)).collect());
    dispatcher
}

/// The claims among what is asked for.
fn claims(work: &[OwnWork]) -> Vec<(SubscriptionId, usize)> {
    let claims = work.iter().filter_map(|work| match work {
        OwnWork::Claim { subscription, limit } => Some((*subscription, *limit)),
        OwnWork::GiveUp { .. } | OwnWork::Expire => None,
    });
    claims.collect()
}

#[test]
fn nothing_is_claimed_before_it_is_due_nor_twice_at_once() {
    let mut dispatcher = dispatcher(vec![row(1, 2)], &DeliveryPermits::new(PERMITS, usize::MAX));
    dispatcher.added(&[(id(1), now(5).wall)].into());
    assert!(dispatcher.plan(now(4)).0.is_empty());
    assert_eq!(dispatcher.next(now(4)), Some(now(5).wall));
    assert_eq!(claims(&dispatcher.plan(now(5)).0), [(id(1), 2)]);
    assert!(dispatcher.plan(now(5)).0.is_empty(), "DISPATCH-3");
    assert!(dispatcher.is_busy());
    let dispatched = dispatcher.claimed(id(1), claimed(1), None, now(30).wall).unwrap();
    dispatcher.answered(id(1));
    assert_eq!(dispatched.attempts.len(), 1);
    dispatcher.ended(id(1), None, now(6));
    assert!(!dispatcher.is_busy() && dispatcher.next(now(6)).is_none());
}

#[test]
fn what_fails_to_be_claimed_is_claimed_again() {
    let permits = DeliveryPermits::new(PERMITS, usize::MAX);
    let mut dispatcher = dispatcher(vec![row(1, 9)], &permits);
    dispatcher.added(&[(id(1), AT_ONCE)].into());
    assert_eq!(claims(&dispatcher.plan(now(1)).0), [(id(1), 3)], "DISPATCH-5: all but the last");
    dispatcher.answered(id(1));
    assert_eq!(free(&permits), PERMITS, "the permits are back");
    assert_eq!(claims(&dispatcher.plan(now(1)).0), [(id(1), 3)]);
}

#[test]
fn without_permits_it_asks_for_one_once() {
    let permits = DeliveryPermits::new(1, usize::MAX);
    let held = of(&permits, "other").try_acquire(1);
    let mut dispatcher = dispatcher(vec![row(1, 9), row(2, 9)], &permits);
    dispatcher.added(&[(id(1), AT_ONCE), (id(2), AT_ONCE)].into());
    let (work, wants_permit) = dispatcher.plan(now(1));
    assert!(work.is_empty() && wants_permit);
    assert!(!dispatcher.plan(now(1)).1, "it waits already");
    assert!(dispatcher.is_attached() && !dispatcher.is_busy() && dispatcher.next(now(1)).is_none());
    assert_eq!(
        dispatcher.next_due(now(1)),
        Some(AT_ONCE),
        "whoever closes the inbox has to look at once"
    );
    drop(held);
    dispatcher.granted(of(&permits, "acme").try_acquire(1).pop());
    let (work, wants_permit) = dispatcher.plan(now(1));
    assert_eq!(
        (claims(&work), wants_permit),
        (vec![(id(1), 1)], true),
        "the second one waits for the next"
    );
}

#[test]
fn a_subscription_with_nothing_in_flight_comes_first_and_finds_a_place() {
    let permits = DeliveryPermits::new(100, usize::MAX);
    let limits = DispatchLimits { tenant_in_flight_max: 16, ..LIMITS };
    let mut dispatcher = Dispatcher::new(limits, of(&permits, "acme"));
    dispatcher.load([1, 2, 3].map(|number| (row(number, 1_000), None)).into());
    let claim = |dispatcher: &mut Dispatcher| {
        let claims = claims(&dispatcher.plan(now(1)).0);
        let mut held = Vec::new();
        for (id, limit) in &claims {
            let begun = dispatcher.claimed(*id, claimed(*limit), Some(AT_ONCE), now(30).wall);
            held.extend(begun.into_iter().flat_map(|begun| begun.attempts));
            dispatcher.answered(*id);
        }
        (claims, held)
    };
    dispatcher.added(&[(id(1), AT_ONCE)].into());
    let (claims, held) = claim(&mut dispatcher);
    assert_eq!(claims, [(id(1), 14)]);
    assert!(claim(&mut dispatcher).0.is_empty(), "DISPATCH-5");
    dispatcher.added(&[(id(2), AT_ONCE)].into());
    let (claims, _other) = claim(&mut dispatcher);
    assert_eq!(claims, [(id(2), 1)], "DISPATCH-5: it finds a place");
    dispatcher.added(&[(id(3), AT_ONCE)].into());
    assert_eq!(claim(&mut dispatcher).0, [(id(3), 1)], "DISPATCH-5: even the last one");
    drop(held);
    dispatcher.ended(id(1), None, now(1));
    dispatcher.ended(id(3), None, now(1));
    let (claims, _) = claim(&mut dispatcher);
    assert_eq!(claims.first(), Some(&(id(3), 1)), "DISPATCH-4: the fewest first");
}

#[test]
fn a_slow_endpoint_gets_fewer_places() {
    let permits = DeliveryPermits::new(100, usize::MAX);
    let limits = DispatchLimits { tenant_in_flight_max: 100, ..LIMITS };
    let mut dispatcher = Dispatcher::new(limits, of(&permits, "acme"));
    dispatcher.load(vec![(row(1, 1_000), None)]);
    let mut round = |at: u64, took: u64| {
        dispatcher.added(&[(id(1), AT_ONCE)].into());
        let (began, took) = (now(at).monotonic, Duration::from_secs(took));
        let count = claims(&dispatcher.plan(now(at)).0).first().map_or(0, |claim| claim.1);
        drop(dispatcher.claimed(id(1), claimed(count), None, now(at + 30).wall));
        dispatcher.answered(id(1));
        for _ in 0..count {
            let health = EndpointHealth::Good;
            let measured = Some(MeasuredAttempt { began, took, health });
            dispatcher.ended(id(1), measured, now(at + 14));
        }
        count
    };
    let counts: Vec<_> = (0..6).map(|number| round(number * 20, 14)).collect();
    assert_eq!(counts, [16, 8, 8, 8, 8, 8]);
    let counts: Vec<_> = (6..40).map(|number| round(number * 20, 0)).collect();
    assert!(counts.is_sorted() && counts.last() > Some(&20), "it recovers: {counts:?}");
}

#[test]
fn what_is_not_delivered_to_is_cleared_away() {
    let mut dispatcher = dispatcher(vec![row(1, 9)], &DeliveryPermits::new(PERMITS, usize::MAX));
    let disabled = SubscriptionStatus::Disabled { reason: DisabledReason::Requested, at: AT_ONCE };
    dispatcher.changed(SubscriptionRow { status: disabled, ..row(1, 9) });
    assert!(matches!(dispatcher.plan(now(1)).0[..], [OwnWork::GiveUp { .. }]));
    dispatcher.gave_up(id(1), Some(AT_ONCE), false);
    dispatcher.answered(id(1));
    assert!(matches!(dispatcher.plan(now(1)).0[..], [OwnWork::GiveUp { .. }]), "there was more");
    dispatcher.gave_up(id(1), None, false);
    dispatcher.answered(id(1));
    assert!(dispatcher.plan(now(1)).0.is_empty() && dispatcher.next(now(1)).is_none());
    dispatcher.deleted(id(1));
    assert!(
        matches!(dispatcher.plan(now(1)).0[..], [OwnWork::GiveUp { .. }]),
        "one that is deleted goes itself"
    );
    dispatcher.gave_up(id(1), None, true);
    dispatcher.answered(id(1));
    assert!(!dispatcher.is_busy() && dispatcher.next(now(1)).is_none());
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Added(u8),
    /// A claim is answered with so many attempts, or fails.
    Answered(u8, Option<usize>),
    /// An attempt of this subscription ends.
    Ended(u8, bool),
    Later(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..3).prop_map(Step::Added),
        (0u8..3, prop::option::weighted(0.8, 0usize..4))
            .prop_map(|(lane, count)| Step::Answered(lane, count)),
        (0u8..3, any::<bool>()).prop_map(|(lane, good)| Step::Ended(lane, good)),
        (0u64..6).prop_map(Step::Later),
    ]
}

proptest! {
    #[test]
    fn bounds_hold_and_it_never_stops_while_something_is_due(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let permits = DeliveryPermits::new(PERMITS, usize::MAX);
        let rows: Vec<_> = (0..3).map(|number| row(number, u32::from(number) + 1)).collect();
        let mut dispatcher = dispatcher(rows.clone(), &permits);
        let (mut seconds, mut asked, mut waiting) = (0, BTreeMap::new(), [0usize; 3]);
        let mut running: Vec<(u8, DeliveryPermit)> = Vec::new();
        // In the end everything is answered and ends well.
        let lanes = || {
            let steps = |lane| {
                [Step::Answered(lane, Some(1)), Step::Ended(lane, true), Step::Later(3)]
            };
            (0..3u8).flat_map(steps)
        };
        let end: Vec<Step> = (0..200).flat_map(|_| lanes()).collect();
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Added(lane) => {
                    waiting[usize::from(lane)] += 1;
                    dispatcher.added(&[(id(lane), now(seconds).wall)].into());
                }
                Step::Answered(lane, answer) => {
                    let Some(limit) = asked.remove(&lane) else { continue };
                    if let Some(count) = answer {
                        let count = count.min(limit).min(waiting[usize::from(lane)]);
                        waiting[usize::from(lane)] -= count;
                        let next = (waiting[usize::from(lane)] > 0).then_some(AT_ONCE);
                        let until = now(seconds + 30).wall;
                        let begun = dispatcher.claimed(id(lane), claimed(count), next, until);
                        let begun = begun.into_iter().flat_map(|begun| begun.attempts);
                        running.extend(begun.map(|(_, permit)| (lane, permit)));
                    }
                    dispatcher.answered(id(lane));
                }
                Step::Ended(lane, good) => {
                    let Some(at) = running.iter().position(|(of, _)| *of == lane) else { continue };
                    running.remove(at);
                    let health = if good { EndpointHealth::Good } else { EndpointHealth::Bad };
                    let due = (!good).then(|| now(seconds + 2).wall);
                    waiting[usize::from(lane)] += usize::from(!good);
                    let row = Some(Arc::new(rows[usize::from(lane)].clone()));
                    dispatcher.completed(id(lane), due, row, health, now(seconds));
                    dispatcher.ended(id(lane), None, now(seconds));
                }
                Step::Later(by) => seconds += by,
            }
            let (work, _) = dispatcher.plan(now(seconds));
            for (subscription, limit) in claims(&work) {
                let lane = subscription.to_bytes()[0];
                prop_assert!(asked.insert(lane, limit).is_none(), "DISPATCH-3");
            }
            let of = |lane: u8| {
                let count = running.iter().filter(|(of, _)| *of == lane).count();
                count + asked.get(&lane).unwrap_or(&0)
            };
            let all: usize = (0..3).map(of).sum();
            prop_assert!(all <= LIMITS.tenant_in_flight_max, "DISPATCH-2");
            prop_assert!((0..3).all(|lane| of(lane) <= usize::from(lane) + 1), "DISPATCH-2");
            let free = free(&permits);
            prop_assert_eq!(free + all, PERMITS, "DISPATCH-1");
            let free = free.min(LIMITS.tenant_in_flight_max - all);
            for lane in dispatcher.lanes.values().filter(|lane| lane.is_due(now(seconds))) {
                let may_go = lane.room(now(seconds)) > 0 && share(lane.running, free) > 0;
                prop_assert!(!may_go, "DISPATCH-5: it could have been claimed");
                prop_assert!(lane.room(now(seconds)) == 0 || lane.running > 0 || free == 0);
            }
            let is_under_way = !running.is_empty() || !asked.is_empty();
            let waits = waiting.iter().any(|count| *count > 0);
            let has_next = dispatcher.next(now(seconds)).is_some();
            prop_assert!(!waits || is_under_way || has_next, "it has stopped");
        }
        prop_assert_eq!(waiting, [0; 3], "something was never claimed");
        prop_assert!(!dispatcher.is_busy() && dispatcher.next_due(now(seconds)).is_none());
    }
}
