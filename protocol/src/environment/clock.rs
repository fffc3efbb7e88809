//! `Clock`, the source of time.

use crate::Timestamp;
use std::time::Duration;

/// A source of time.
pub trait Clock: Send + Sync {
    /// The time of the wall clock, which may jump in both directions.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start; it never decreases.
    fn monotonic(&self) -> Duration;
}
