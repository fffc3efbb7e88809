//! Bugs that are planted on purpose, so that a simulation can show that it finds them.
//!
//! Each is one condition at one place of the product, [`is_planted`] of its [`Bug`]; where that place is, a search for the
//! variant's name tells. Invariants: `PLANTED-1` without the feature `planted-bugs` no bug can be planted: the condition is
//! the constant `false`, and nothing of it is left in the program; `PLANTED-2` with the feature every bug is off until
//! `plant` is called for it; `PLANTED-3` what is planted stays so for the whole process, in all of its nodes.
//! It is not a way to inject faults of networks, stores or clocks: those are around the product, a planted bug is in it.

use crate::Malformed;

/// A mistake that the product does not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// Writes of an inbox do not check the fence: an owner that was deposed goes on committing.
    FenceNotChecked,
    /// A commit of unknown result counts as done instead of being run again.
    UnknownTakenForSuccess,
    /// A batch of appends is answered as stored although its commit has failed.
    AnsweredBeforeCommit,
    /// An idempotency key that was used more than two seconds ago counts as new.
    IdempotencyNotFound,
    /// An idempotency key that was used with another request counts as used with this one.
    ReusedKeyReplayed,
    /// An append whose idempotency key is known adds to the counters all the same.
    CounterAddedOnReplay,
    /// A tenant may have any number of events waiting.
    QuotaNotChecked,
    /// While the clock is behind the last id, the next one is minted from the clock alone.
    IdsFollowTheClock,
    /// A page that is followed by another one gives a cursor that skips an event.
    CursorOffByOne,
    /// A lease takes events that others hold, or that wait for their next attempt.
    LeasedTwice,
    /// Any token is that of a lease that holds.
    LeaseTokenNotCompared,
    /// An acknowledgement does not end the lease, which runs out later as a failure.
    AcknowledgedComesBack,
    /// An inbox that is closed while idle forgets when its first lease ends.
    IdleForgetsLeases,
    /// A deletion leaves no trace.
    TombstoneNotWritten,
    /// A webhook that has failed has no place in the order of what is due.
    RetryForgotten,
    /// A webhook is tried once more than its policy allows.
    OneAttemptTooMany,
    /// An event is delivered when the first of its subscriptions has it.
    DeliveredByTheFirst,
    /// A wake-up pointer that is there is not moved when something is due earlier.
    PointerNotMoved,
    /// A partition does not read its wake-up pointers when it begins.
    TakeoverForgetsDue,
    /// A partition is handed over while requests enter it and are under way.
    DrainWithoutParking,
    /// What was once read of a key is used for ever, unless it is changed through this node.
    RevokedKeyCached,
    /// The list of a tenant's keys has those of tenants whose ids begin with its own.
    WrongTenantPage,
    /// The sweeper keeps the events that wait, however old they are.
    WaitingKeptForever,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 23] = [
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
    ];

    /// The name by which it is asked for.
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
        }
    }

    /// Parses a name.
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
    //! The bugs of this process, one bit each.

    use super::Bug;
    use std::sync::atomic::{AtomicU32, Ordering};

    static PLANTED: AtomicU32 = AtomicU32::new(0);

    const fn bit(bug: Bug) -> u32 {
        1 << bug as u32
    }

    /// Makes the product have this bug from now on (`PLANTED-3`).
    pub fn plant(bug: Bug) {
        PLANTED.fetch_or(bit(bug), Ordering::SeqCst);
    }

    /// Whether the product has this bug.
    #[inline]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) & bit(bug) != 0
    }
}

/// Whether the product has this bug: never, in a build without the feature `planted-bugs`.
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
    fn a_bug_is_planted_by_itself() {
        // The only test that plants: what is planted stays.
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
