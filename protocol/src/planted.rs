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

crate::text_form::named_enum! {
    /// A bug that can be planted.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Bug {
        /// Writes of an inbox do not check the fence, so a former owner continues to commit.
        FenceNotChecked = "fence-not-checked",
        /// A commit with an unknown outcome counts as successful instead of being repeated.
        UnknownTakenForSuccess = "unknown-taken-for-success",
        /// A batch with appends is reported as stored although its commit failed.
        AnsweredBeforeCommit = "answered-before-commit",
        /// An idempotency key that was used more than two seconds ago is treated as new.
        IdempotencyNotFound = "idempotency-not-found",
        /// A reused idempotency key returns the first result although the request differs.
        ReusedKeyReplayed = "reused-key-replayed",
        /// An append with a known idempotency key increments the counters again.
        CounterAddedOnReplay = "counter-added-on-replay",
        /// The quota of waiting events per tenant is not enforced.
        QuotaNotChecked = "quota-not-checked",
        /// If the clock is behind the last id, the next id is minted from the clock alone.
        IdsFollowTheClock = "ids-follow-the-clock",
        /// Due times are compared with the wall clock, also after it was set back.
        DueTimesFollowTheClock = "due-times-follow-the-clock",
        /// The cursor of a page skips one event.
        CursorOffByOne = "cursor-off-by-one",
        /// A lease includes events that are already leased.
        LeasedTwice = "leased-twice",
        /// Every lease token is accepted.
        LeaseTokenNotCompared = "lease-token-not-compared",
        /// An acknowledgement does not end the lease, whose expiry later counts as a failure.
        AcknowledgedComesBack = "acknowledged-comes-back",
        /// A lease row stays when the last of its events was acknowledged or nacked.
        LeaseRowStays = "lease-row-stays",
        /// A node that takes an inbox over does not know when the leases in lease rows end.
        TakeoverForgetsLeases = "takeover-forgets-leases",
        /// An inbox that closes while idle does not store when its first lease expires.
        IdleForgetsLeases = "idle-forgets-leases",
        /// A deletion writes no tombstone.
        TombstoneNotWritten = "tombstone-not-written",
        /// A failed webhook is not added to the due index.
        RetryForgotten = "retry-forgotten",
        /// A webhook gets one more attempt than its policy allows.
        OneAttemptTooMany = "one-attempt-too-many",
        /// An event becomes delivered when the first of its subscriptions has received it.
        DeliveredByTheFirst = "delivered-by-the-first",
        /// An existing wake-up pointer is not moved when something becomes due earlier.
        PointerNotMoved = "pointer-not-moved",
        /// A partition does not read its wake-up pointers when it starts.
        TakeoverForgetsDue = "takeover-forgets-due",
        /// A partition is transferred while it still accepts and handles requests.
        DrainWithoutParking = "drain-without-parking",
        /// A cached key never expires, unless it is changed through the same node.
        RevokedKeyCached = "revoked-key-cached",
        /// The list of a tenant's keys includes keys of tenants whose ids start with its id.
        WrongTenantPage = "wrong-tenant-page",
        /// The sweeper never removes waiting events, however old.
        WaitingKeptForever = "waiting-kept-forever",
        /// A deletion is taken for an earlier one of the same millisecond, run again.
        DeletionKnownByTime = "deletion-known-by-time",
        /// A tenant or subscription may take all free places for webhooks in flight.
        PlacesNotShared = "places-not-shared",
        /// A revocation that runs again takes the revocation of another request for its own.
        RevokedByBoth = "revoked-by-both",
        /// A partition is transferred to a node that other nodes have no link to yet.
        TransferredUnlinked = "transferred-unlinked",
        /// A fault of the node counts as a failure of the endpoint.
        OwnFaultCharged = "own-fault-charged",
        /// An attempt that begins drops the event's oldest one from the list, even if that runs.
        AttemptNotListed = "attempt-not-listed",
        /// A kept connection that has ended fails the attempt that uses it.
        KeptConnectionFails = "kept-connection-fails",
        /// A lease with a filter gives up at the bound of its scan, and begins anew the next time.
        FilteredReadGivesUp = "filtered-read-gives-up",
        /// A replayed event does not move the position of leases back.
        MarkNotMovedByReplay = "mark-not-moved-by-replay",
        /// The retry of a webhook does not change its subscription's mark.
        MarkNotMovedByRetry = "mark-not-moved-by-retry",
        /// Marks stay as they are after a batch that ran again after an unknown outcome.
        MarkKeptAfterUnknown = "mark-kept-after-unknown",
        /// An inbox that loads its state takes all events up to the last one for leased.
        MarkAheadOnLoad = "mark-ahead-on-load",
    }
}

impl Bug {
    /// Parses the name of a bug.
    ///
    /// # Errors
    /// [`Malformed`] with the list of names.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|bug| bug.as_str() == text).ok_or_else(|| {
            Malformed(format!("must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
        })
    }
}

#[cfg(feature = "planted-bugs")]
pub use set::{is_planted, plant};

#[cfg(feature = "planted-bugs")]
mod set {
    //! The enabled bugs of this process, one bit each.

    use super::Bug;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLANTED: AtomicU64 = AtomicU64::new(0);

    const fn bit(bug: Bug) -> u64 {
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
        let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.as_str()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            assert_eq!(Bug::parse(bug.as_str()).unwrap(), bug);
            assert!(bug.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
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
