//! Tests of the buckets: `RATE-1` to `RATE-3` over random arrivals, and the choice of the rate.

use super::*;
use proptest::prelude::*;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rates() -> impl Strategy<Value = Rate> {
    (1u32..100_000, 1u32..2_000).prop_map(|(per_minute, burst)| Rate { per_minute, burst })
}

#[test]
fn the_key_overrides_the_tier_and_the_tier_the_default() {
    assert_eq!(Rate::of(Some(5), Some(Tier::Beta), 1_000), Rate { per_minute: 5, burst: 5 });
    assert_eq!(Rate::of(None, Some(Tier::Standard), 1_000), Rate { per_minute: 600, burst: 10 });
    assert_eq!(Rate::of(None, Some(Tier::Beta), 1_000), Rate { per_minute: 6_000, burst: 100 });
    assert_eq!(Rate::of(None, None, 1_000), Rate { per_minute: 1_000, burst: 1_000 });
    assert_eq!(Rate::of(None, Some(Tier::Standard), 1_000).window_seconds(), 1);
    assert_eq!(Rate::of(None, None, 1_000).window_seconds(), 60);
}

#[test]
fn the_burst_is_available_at_once_and_refills_evenly() {
    let mut budget = Budget::new(Rate { per_minute: 60, burst: 3 }, Duration::ZERO);
    for remaining in [2, 1, 0] {
        let charge = budget.take_request(Duration::ZERO);
        assert_eq!((charge.state.remaining, charge.rejected_for_seconds), (remaining, None));
    }
    let rejected = budget.take_request(millis(999));
    assert_eq!(rejected.rejected_for_seconds, Some(1));
    assert_eq!(rejected.state.full_in_seconds, 3);
    assert_eq!(budget.take_request(millis(1_000)).rejected_for_seconds, None);
    assert_eq!(budget.take_request(millis(60_000)).state.remaining, 2);
}

#[test]
fn a_batch_larger_than_the_burst_passes_and_leaves_a_debt() {
    let mut budget = Budget::new(Rate { per_minute: 600, burst: 10 }, Duration::ZERO);
    assert_eq!(budget.take_events(110, Duration::ZERO), Ok(()));
    assert_eq!(budget.take_events(110, Duration::ZERO), Err(10));
    assert_eq!(budget.take_events(1, millis(9_999)), Err(1));
    assert_eq!(budget.take_events(110, millis(10_000)), Ok(()));
    assert_eq!(
        budget.take_request(millis(10_000)).rejected_for_seconds,
        None,
        "the bucket of requests is separate"
    );
}

#[test]
fn the_reported_state_is_that_of_the_bucket_that_rejects() {
    let mut budget = Budget::new(Rate { per_minute: 60, burst: 10 }, Duration::ZERO);
    budget.take_request(Duration::ZERO);
    assert_eq!(
        (budget.lower_state().remaining, budget.lower_state().full_in_seconds),
        (9, 1),
        "the bucket of requests"
    );
    assert_eq!(budget.take_events(8, Duration::ZERO), Ok(()));
    assert_eq!(
        (budget.lower_state().remaining, budget.lower_state().full_in_seconds),
        (2, 8),
        "the bucket of events"
    );
    let wait_seconds = budget.take_events(5, Duration::ZERO).unwrap_err();
    let state = budget.events_state();
    assert!(
        state.remaining < 5 && state.full_in_seconds >= wait_seconds,
        "{state:?} agrees with {wait_seconds}"
    );
}

#[test]
fn a_new_rate_takes_effect_without_a_new_burst() {
    let mut budget = Budget::new(Rate { per_minute: 10, burst: 10 }, Duration::ZERO);
    for _ in 0..10 {
        assert_eq!(budget.take_request(Duration::ZERO).rejected_for_seconds, None);
    }
    budget.change_rate(Rate { per_minute: 60_000, burst: 60_000 }, Duration::ZERO);
    assert_eq!(budget.take_request(Duration::ZERO).rejected_for_seconds, Some(1));
    assert_eq!(budget.take_request(millis(1)).rejected_for_seconds, None);
    budget.change_rate(Rate { per_minute: 1, burst: 1 }, millis(60_000));
    assert_eq!(budget.take_request(millis(60_000)).state.remaining, 0);
}

proptest! {
    #[test]
    fn no_more_than_burst_and_refill_passes_in_any_span(
        rate in rates(),
        arrivals in prop::collection::vec((0u64..5_000, 1usize..1_500), 1..120),
    ) {
        let mut bucket = Bucket::full(rate, Duration::ZERO);
        let (mut now, mut passed) = (0u64, Vec::new());
        for (gap_ms, count) in arrivals {
            now += gap_ms;
            if bucket.take(count, rate, millis(now)).is_ok() {
                passed.push((now, count as u128));
            }
        }
        let burst = u128::from(rate.burst);
        let largest = passed.iter().map(|(_, count)| *count).filter(|count| *count > burst).max();
        for first in 0..passed.len() {
            let mut total = 0;
            for (at, count) in &passed[first..] {
                total += count;
                let refilled_milli = u128::from(at - passed[first].0) * u128::from(rate.per_minute);
                let bound = burst + largest.unwrap_or(0);
                prop_assert!(total * 60_000 <= bound * 60_000 + refilled_milli, "RATE-1");
            }
        }
    }

    #[test]
    fn the_waiting_time_is_sufficient_and_less_than_a_second_too_long(
        rate in rates(),
        arrivals in prop::collection::vec((0u64..500, 1usize..1_500), 1..60),
    ) {
        let mut bucket = Bucket::full(rate, Duration::ZERO);
        let mut now = Duration::ZERO;
        for (gap_ms, count) in arrivals {
            now += millis(gap_ms);
            let before = bucket;
            if let Err(wait_seconds) = bucket.take(count, rate, now) {
                prop_assert!(wait_seconds >= 1);
                let mut refilled = before;
                refilled.refill(rate, now);
                prop_assert_eq!(bucket.level, refilled.level, "RATE-3");
                let later = now + Duration::from_secs(wait_seconds);
                prop_assert_eq!(bucket.clone().take(count, rate, later), Ok(()), "RATE-2");
                if wait_seconds > 1 {
                    let early = now + Duration::from_secs(wait_seconds - 1);
                    prop_assert!(bucket.clone().take(count, rate, early).is_err());
                }
            }
        }
    }

    #[test]
    fn many_short_refills_equal_one_long_refill(
        rate in rates(),
        steps in prop::collection::vec(0u64..1_000_000, 1..50),
    ) {
        let mut stepped = Bucket { level: -1_000 * TOKEN, updated: Duration::ZERO };
        let mut at_once = stepped;
        let mut now = Duration::ZERO;
        for step in steps {
            now += Duration::from_nanos(step);
            stepped.refill(rate, now);
        }
        at_once.refill(rate, now);
        prop_assert_eq!(stepped.level, at_once.level);
    }
}
