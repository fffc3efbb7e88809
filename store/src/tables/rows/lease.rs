//! The rows of a lease.
//!
//! - `LEASE-ID-1`: the token of an event is a digest of its lease's id and its own. So a token
//!   tells nothing of the lease's id, and whoever has the id holds all of its events.

use super::{Delivery, Row};
use crate::tables::rows::{Attempt, AttemptOutcome, Claim};
use bincode::{Decode, Encode};
use sha2::{Digest, Sha256};
use triggers_protocol::event::EventState;
use triggers_protocol::{EventId, EventStatus, Timestamp};

/// Secret by which a consumer proves that it holds the events of a lease.
pub type LeaseId = [u8; 16];

/// Secret by which a consumer proves that it holds one event.
pub type LeaseToken = [u8; 16];

/// The token of an event in a lease.
pub fn lease_token(lease: LeaseId, id: EventId) -> LeaseToken {
    let digest = Sha256::new().chain_update(lease).chain_update(id.to_bytes()).finalize();
    let mut token = [0; 16];
    token.copy_from_slice(&digest[..16]);
    token
}

/// Events that were leased together and never attempted before: their state is here alone.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LeaseRow {
    /// The lease; a large one has several rows.
    pub lease: LeaseId,
    /// End of the lease.
    pub until: Timestamp,
    /// Time at which the lease began.
    pub leased_at: Timestamp,
    /// Nonce of the command that leased the events or extended the lease last.
    pub changed_by: u64,
    /// The events, in the order of their ids.
    pub events: Vec<EventId>,
}
impl Row for LeaseRow {}

impl LeaseRow {
    /// The delivery of one of its events.
    pub fn delivery(&self, id: EventId) -> Delivery {
        let attempt = Attempt {
            number: 1,
            started_at: self.leased_at,
            finished_at: None,
            outcome: AttemptOutcome::InProgress,
            error: None,
            http_status: None,
            subscription: None,
        };
        let state = EventState {
            status: EventStatus::Queued,
            attempts: 1,
            last_attempt_at: Some(self.leased_at),
            ..EventState::ACCEPTED
        };
        Delivery {
            claim: Claim::Leased { until: self.until },
            token: Some(lease_token(self.lease, id)),
            changed_by: self.changed_by,
            attempts: vec![attempt],
            state: Some(state),
            ..Delivery::NEW
        }
    }
}

/// Events of a lease whose state is in their delivery rows. It is kept until the lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LeaseMembers {
    /// End of the lease.
    pub until: Timestamp,
    /// The events, in the order in which they were leased.
    pub events: Vec<EventId>,
}
impl Row for LeaseMembers {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lease_rows_round_trip(
            lease: [u8; 16], until: u32, changed_by: u64,
            ids in prop::collection::vec(any::<[u8; 16]>(), 0..64),
        ) {
            let events: Vec<EventId> = ids.into_iter().map(EventId::from_bytes).collect();
            let until = Timestamp::from_millis(until.into());
            let row = LeaseRow {
                lease, until, changed_by, leased_at: Timestamp::EPOCH, events: events.clone(),
            };
            prop_assert_eq!(&LeaseRow::from_bytes(&row.to_bytes()).unwrap(), &row);
            let members = LeaseMembers { until, events };
            prop_assert_eq!(&LeaseMembers::from_bytes(&members.to_bytes()).unwrap(), &members);
        }
    }
}
