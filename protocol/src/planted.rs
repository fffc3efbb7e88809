//! Bugs that a test build can enable, to demonstrate that the simulation finds them.
//!
//! Each bug is one condition in the product, `is_planted(Bug::…)`; search for the variant to find
//! it.
//!
//! Invariants:
//! - `PLANTED-1`: without the feature `planted-bugs`, [`is_planted`] is the constant `false`, so
//!   the compiler removes the bugs.
//! - `PLANTED-2`: with the feature, every bug is off until `plant` enables it.
//! - `PLANTED-3`: a planted bug stays enabled in all nodes of the process until the process ends.
//!
//! Faults of the network, the store and the clock are not planted bugs; the simulation injects
//! them.

use crate::Malformed;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// Writes of an inbox do not check the fence, so a former owner continues to commit.
    FenceNotChecked,
    /// A commit with an unknown outcome counts as successful instead of being repeated.
    UnknownTakenForSuccess,
    /// A batch of appends is reported as stored although its commit failed.
    AnsweredBeforeCommit,
    /// An idempotency key that was used more than two seconds ago is treated as new.
    IdempotencyNotFound,
    /// A reused idempotency key returns the first result although the request differs.
    ReusedKeyReplayed,
    /// An append with a known idempotency key increments the counters again.
    CounterAddedOnReplay,
    /// The quota of waiting events per tenant is not enforced.
    QuotaNotChecked,
    /// If the clock is behind the last id, the next id is minted from the clock alone.
    IdsFollowTheClock,
    /// The cursor of a page skips one event.
    CursorOffByOne,
    /// A lease includes events that are already leased or wait for their next attempt.
    LeasedTwice,
    /// Every lease token is accepted.
    LeaseTokenNotCompared,
    /// An acknowledgement does not end the lease, whose expiry later counts as a failure.
    AcknowledgedComesBack,
    /// An inbox that closes while idle does not store when its first lease expires.
    IdleForgetsLeases,
    /// A deletion writes no tombstone.
    TombstoneNotWritten,
    /// A failed webhook is not added to the due index.
    RetryForgotten,
    /// A webhook gets one more attempt than its policy allows.
    OneAttemptTooMany,
    /// An event becomes delivered when the first of its subscriptions has received it.
    DeliveredByTheFirst,
    /// An existing wake-up pointer is not moved when something becomes due earlier.
    PointerNotMoved,
    /// A partition does not read its wake-up pointers when it starts.
    TakeoverForgetsDue,
    /// A partition is transferred while it still accepts and handles requests.
    DrainWithoutParking,
    /// A cached key never expires, unless it is changed through the same node.
    RevokedKeyCached,
    /// The list of a tenant's keys includes keys of tenants whose ids start with its id.
    WrongTenantPage,
    /// The sweeper never removes waiting events, however old.
    WaitingKeptForever,
    /// A deletion is taken for an earlier one of the same millisecond, run again.
    DeletionKnownByTime,
}

impl Bug {
    /// Every bug, in the order of declaration.
    pub const ALL: [Bug; 24] = [
        Self::FenceNotChecked,
        Self::UnknownTakenForSuccess,
        Self::AnsweredBeforeCommit,
        Self::IdempotencyNotFound,
        Self::ReusedKeyReplayed,
        Self::CounterAddedOnReplay,
        Self::QuotaNotChecked,
        Self::IdsFollowTheClock,
        Self::CursorOffByOne,
        Self::LeasedTwice,
        Self::LeaseTokenNotCompared,
        Self::AcknowledgedComesBack,
        Self::IdleForgetsLeases,
        Self::TombstoneNotWritten,
        Self::RetryForgotten,
        Self::OneAttemptTooMany,
        Self::DeliveredByTheFirst,
        Self::PointerNotMoved,
        Self::TakeoverForgetsDue,
        Self::DrainWithoutParking,
        Self::RevokedKeyCached,
        Self::WrongTenantPage,
        Self::WaitingKeptForever,
        Self::DeletionKnownByTime,
    ];

    /// The name of the bug on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FenceNotChecked => "fence-not-checked",
            Self::UnknownTakenForSuccess => "unknown-taken-for-success",
            Self::AnsweredBeforeCommit => "answered-before-commit",
            Self::IdempotencyNotFound => "idempotency-not-found",
            Self::ReusedKeyReplayed => "reused-key-replayed",
            Self::CounterAddedOnReplay => "counter-added-on-replay",
            Self::QuotaNotChecked => "quota-not-checked",
            Self::IdsFollowTheClock => "ids-follow-the-clock",
            Self::CursorOffByOne => "cursor-off-by-one",
            Self::LeasedTwice => "leased-twice",
            Self::LeaseTokenNotCompared => "lease-token-not-compared",
            Self::AcknowledgedComesBack => "acknowledged-comes-back",
            Self::IdleForgetsLeases => "idle-forgets-leases",
            Self::TombstoneNotWritten => "tombstone-not-written",
            Self::RetryForgotten => "retry-forgotten",
            Self::OneAttemptTooMany => "one-attempt-too-many",
            Self::DeliveredByTheFirst => "delivered-by-the-first",
            Self::PointerNotMoved => "pointer-not-moved",
            Self::TakeoverForgetsDue => "takeover-forgets-due",
            Self::DrainWithoutParking => "drain-without-parking",
            Self::RevokedKeyCached => "revoked-key-cached",
            Self::WrongTenantPage => "wrong-tenant-page",
            Self::WaitingKeptForever => "waiting-kept-forever",
            Self::DeletionKnownByTime => "deletion-known-by-time",
        }
    }

    /// Parses the name of a bug.
    ///
    /// # Errors
    /// [`Malformed`] with the list of names.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|bug| bug.name() == text).ok_or_else(|| {
            Malformed(format!("must be one of {}", Self::ALL.map(Self::name).join(", ")))
        })
    }
}

#[cfg(feature = "planted-bugs")]
pub use set::{is_planted, plant};

#[cfg(feature = "planted-bugs")]
mod set {
    //! The enabled bugs of this process, one bit each.

    use super::Bug;
    use std::sync::atomic::{AtomicU32, Ordering};

    static PLANTED: AtomicU32 = AtomicU32::new(0);

    const fn bit(bug: Bug) -> u32 {
        1 << bug as u32
    }

    /// Enables a bug for the rest of the process (`PLANTED-3`).
    pub fn plant(bug: Bug) {
        PLANTED.fetch_or(bit(bug), Ordering::SeqCst);
    }

    /// Tests whether a bug is enabled.
    #[inline]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) & bit(bug) != 0
    }
}

/// Tests whether a bug is enabled: never in a build without the feature `planted-bugs`.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_parse_back() {
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            assert_eq!(Bug::parse(bug.name()).unwrap(), bug);
            assert!(bug.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
        }
        assert!(Bug::parse("none").is_err());
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn each_bug_is_planted_separately() {
        // No other test may plant a bug, because it stays enabled.
        assert!(Bug::ALL.iter().all(|bug| !is_planted(*bug)), "PLANTED-2");
        for (index, bug) in Bug::ALL.into_iter().enumerate() {
            plant(bug);
            let planted: Vec<_> = Bug::ALL.into_iter().filter(|bug| is_planted(*bug)).collect();
            assert_eq!(planted, Bug::ALL[..=index]);
        }
    }

    #[cfg(not(feature = "planted-bugs"))]
    #[test]
    fn nothing_is_planted() {
        const { assert!(!is_planted(Bug::FenceNotChecked), "PLANTED-1") }
    }
}
