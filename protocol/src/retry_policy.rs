//! Retry policies: the delays between delivery attempts.
//!
//! Invariants:
//! - `RETRY-1`: a policy has 1 to 21 attempts.
//! - `RETRY-2`: the delays add up to at most 24 hours, or 30 days if an admin sets the policy.
//! - `RETRY-3`: the default delays are 1 min, 5 min, 30 min and 2 h.

use crate::Malformed;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

const DELAYS_MAX: usize = 20;
const DAY_SECONDS: u64 = 86_400;

/// When a failed delivery is tried again, in seconds. The delays sum to at most 30 days.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, Encode, Decode)]
#[serde(untagged)]
pub enum RetryPolicy {
    /// One delay after each failed attempt.
    Delays {
        /// Up to 20 delays.
        #[schema(max_items = 20)]
        delays_seconds: Vec<u32>,
    },
    /// Delays that grow by a factor up to a maximum.
    Exponential {
        /// Before the second attempt.
        initial: u32,
        /// At least 1.
        #[schema(minimum = 1, maximum = 1000)]
        factor: f64,
        /// No delay exceeds it.
        max: u32,
        /// The first one included.
        #[schema(minimum = 1, maximum = 21)]
        max_attempts: u32,
    },
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::Delays { delays_seconds: vec![60, 300, 1_800, 7_200] }
    }
}

impl RetryPolicy {
    /// The delay after attempt number `attempt` (from 1); `None` if it was the last attempt.
    pub fn delay_after(&self, attempt: u32) -> Option<Duration> {
        let index = attempt.checked_sub(1)?;
        match self {
            Self::Delays { delays_seconds } => delays_seconds
                .get(index as usize)
                .map(|seconds| Duration::from_secs(u64::from(*seconds))),
            Self::Exponential { max_attempts, .. } if attempt >= *max_attempts => None,
            Self::Exponential { initial, factor, max, .. } => {
                let seconds =
                    f64::from(*initial) * factor.powi(i32::try_from(index).unwrap_or(i32::MAX));
                Some(Duration::from_secs_f64(seconds.clamp(0.0, f64::from(*max))))
            }
        }
    }

    /// The sum of all delays.
    pub fn total(&self) -> Duration {
        (1..=21).map_while(|attempt| self.delay_after(attempt)).sum()
    }

    /// Checks `RETRY-1` and `RETRY-2`.
    ///
    /// # Errors
    /// [`Malformed`] with the violated rule.
    pub fn validate(&self, is_set_by_admin: bool) -> Result<(), Malformed> {
        match self {
            Self::Delays { delays_seconds } if delays_seconds.len() > DELAYS_MAX => {
                return Err(Malformed(format!(
                    "delays_seconds must have at most {DELAYS_MAX} entries"
                )));
            }
            Self::Delays { .. } => {}
            Self::Exponential { factor, max_attempts, .. } => {
                if !factor.is_finite() || !(1.0..=1_000.0).contains(factor) {
                    return Err(Malformed("factor must be between 1 and 1000".into()));
                }
                if !(1..=21).contains(max_attempts) {
                    return Err(Malformed("max_attempts must be between 1 and 21".into()));
                }
            }
        }
        let total = self.total();
        let days = if is_set_by_admin { 30 } else { 1 };
        if total > Duration::from_secs(days * DAY_SECONDS) {
            return Err(Malformed(format!("the delays must sum to at most {} hours", days * 24)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_delays_are_as_documented() {
        let policy = RetryPolicy::default();
        let delays: Vec<u64> =
            (1..=9).map_while(|n| policy.delay_after(n)).map(|d| d.as_secs()).collect();
        assert_eq!(delays, [60, 300, 1_800, 7_200]);
        assert!(policy.validate(false).is_ok());
    }

    #[test]
    fn only_admins_may_set_delays_of_more_than_a_day() {
        let policy = RetryPolicy::Delays { delays_seconds: vec![86_401] };
        assert!(policy.validate(false).is_err() && policy.validate(true).is_ok());
    }

    proptest! {
        #[test]
        fn a_valid_policy_ends_within_its_bounds(
            initial: u32,
            factor in -1.0f64..1e6,
            max: u32,
            max_attempts: u32,
        ) {
            let policy = RetryPolicy::Exponential { initial, factor, max, max_attempts };
            if policy.validate(false).is_ok() {
                let delays: Vec<_> = (1..).map_while(|n| policy.delay_after(n)).collect();
                prop_assert_eq!(delays.len() + 1, max_attempts as usize);
                prop_assert!(delays.iter().sum::<Duration>() <= Duration::from_secs(DAY_SECONDS));
            }
        }
    }
}
