//! Limits the rates of keys with two token buckets each: one of requests, one of events.
//!
//! A bucket holds up to `burst` tokens and refills evenly by `per_minute`. A batch larger than the
//! burst passes if the level is not negative, and makes it negative.
//!
//! - `RATE-1`: in any span of time at most the burst, the refill of the span and the debt of one
//!   batch pass.
//! - `RATE-2`: a rejected request passes if it is repeated alone after the reported waiting time.
//! - `RATE-3`: a rejection takes no tokens.
//! - `RATE-4`: at most `keys_max` keys are kept; the buckets of an evicted key start full.
//!
//! There is no I/O; the caller passes the time. Arithmetic is exact.

use quick_cache::sync::Cache;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_actors::model::rows::{KeyRow, Tier};
use triggers_protocol::lock::lock;

/// One token in units of a bucket's level: a token per minute adds one unit per nanosecond.
const TOKEN: i128 = 60_000_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The rate of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per minute, at least 1.
    pub per_minute: u32,
    /// Capacity in tokens, at least 1.
    pub burst: u32,
}

impl Rate {
    /// The key's own rate, else that of its tenant's tier, else the default.
    pub fn of(key_per_minute: Option<u32>, tier: Option<Tier>, default_per_minute: u32) -> Self {
        let minute =
            |per_minute: u32| Self { per_minute: per_minute.max(1), burst: per_minute.max(1) };
        match (key_per_minute, tier) {
            (Some(per_minute), _) => minute(per_minute),
            (None, Some(Tier::Standard)) => Self { per_minute: 600, burst: 10 },
            (None, Some(Tier::Beta)) => Self { per_minute: 6_000, burst: 100 },
            (None, None) => minute(default_per_minute),
        }
    }

    /// Time to fill an empty bucket, in seconds, rounded up.
    pub fn window_seconds(self) -> u64 {
        (u64::from(self.burst) * 60).div_ceil(u64::from(self.per_minute))
    }
}

/// State of one of a key's buckets, for the headers of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// Rate of the bucket.
    pub rate: Rate,
    /// Whole tokens left.
    pub remaining: u32,
    /// Seconds until the bucket is full again, rounded up.
    pub full_in_seconds: u64,
}

/// Outcome of taking a request token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// State of the bucket of requests afterwards.
    pub state: RateState,
    /// If rejected: whole seconds until a request passes, at least 1.
    pub rejected_for_seconds: Option<u64>,
}

/// One token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: i128,
    updated: Duration,
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { level: capacity(rate), updated: now }
    }

    fn refill(&mut self, rate: Rate, now: Duration) {
        let elapsed = now.saturating_sub(self.updated).as_nanos();
        let gained = i128::try_from(elapsed)
            .unwrap_or(i128::MAX)
            .saturating_mul(i128::from(rate.per_minute));
        self.level = self.level.saturating_add(gained).min(capacity(rate));
        self.updated = self.updated.max(now);
    }

    /// Takes `count` tokens, or returns the seconds until they are available, at least 1.
    fn take(&mut self, count: usize, rate: Rate, now: Duration) -> Result<(), u64> {
        self.refill(rate, now);
        let cost = i128::try_from(count).unwrap_or(i128::MAX / TOKEN) * TOKEN;
        let needed = if cost > capacity(rate) { 0 } else { cost };
        if self.level < needed {
            return Err(self.wait_seconds(needed, rate).max(1));
        }
        self.level -= cost;
        Ok(())
    }

    /// Seconds until the level is reached, rounded up.
    fn wait_seconds(&self, level: i128, rate: Rate) -> u64 {
        let per_second = i128::from(rate.per_minute) * NANOS_PER_SECOND;
        let missing = (level - self.level).max(0);
        u64::try_from((missing + per_second - 1) / per_second).unwrap_or(u64::MAX)
    }

    fn state(&self, rate: Rate) -> RateState {
        let remaining = u32::try_from(self.level.max(0) / TOKEN).unwrap_or(u32::MAX);
        RateState { rate, remaining, full_in_seconds: self.wait_seconds(capacity(rate), rate) }
    }
}

fn capacity(rate: Rate) -> i128 {
    i128::from(rate.burst) * TOKEN
}

/// The two buckets of one key.
#[derive(Debug)]
pub struct Budget {
    rate: Rate,
    requests: Bucket,
    events: Bucket,
}

impl Budget {
    /// Creates two full buckets.
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self { rate, requests: Bucket::full(rate, now), events: Bucket::full(rate, now) }
    }

    /// Takes one request token.
    pub fn take_request(&mut self, now: Duration) -> Charge {
        let taken = self.requests.take(1, self.rate, now);
        Charge { state: self.requests.state(self.rate), rejected_for_seconds: taken.err() }
    }

    /// Takes `count` event tokens.
    ///
    /// # Errors
    /// The whole seconds until they are available, at least 1.
    pub fn take_events(&mut self, count: usize, now: Duration) -> Result<(), u64> {
        self.events.take(count, self.rate, now)
    }

    /// State of the bucket of events.
    pub fn events_state(&self) -> RateState {
        self.events.state(self.rate)
    }

    /// State of the bucket with fewer tokens; of equal ones, that which is full later.
    pub fn lower_state(&self) -> RateState {
        let (requests, events) = (self.requests.state(self.rate), self.events.state(self.rate));
        if (events.remaining, requests.full_in_seconds)
            < (requests.remaining, events.full_in_seconds)
        {
            events
        } else {
            requests
        }
    }

    /// Changes the rate. Levels above the new burst drop to it.
    fn change_rate(&mut self, rate: Rate, now: Duration) {
        if self.rate == rate {
            return;
        }
        for bucket in [&mut self.requests, &mut self.events] {
            bucket.refill(self.rate, now);
            bucket.level = bucket.level.min(capacity(rate));
        }
        self.rate = rate;
    }
}

/// Budgets of all keys.
pub struct RateLimits {
    default_per_minute: u32,
    budgets: Cache<[u8; 16], Arc<Mutex<Budget>>>,
}

impl RateLimits {
    /// Keeps the budgets of up to `keys_max` keys.
    pub fn new(default_per_minute: u32, keys_max: usize) -> Self {
        Self { default_per_minute, budgets: Cache::new(keys_max) }
    }

    /// Budget of a key at its current rate.
    pub fn budget(&self, key: &KeyRow, tier: Option<Tier>, now: Duration) -> Arc<Mutex<Budget>> {
        let rate = Rate::of(key.rate_limit_per_minute, tier, self.default_per_minute);
        let fresh = || Ok::<_, Infallible>(Arc::new(Mutex::new(Budget::new(rate, now))));
        let Ok(budget) = self.budgets.get_or_insert_with(&key.id, fresh);
        lock(&budget).change_rate(rate, now);
        budget
    }
}

#[cfg(test)]
mod tests;
