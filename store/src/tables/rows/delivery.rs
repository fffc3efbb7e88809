//! The rows of an event's delivery: its state, its lease, its webhooks, its attempts. What moves them is in `tables::batch`.
//!
//! Invariant: `DELIVERY-1` the row of a delivery without a state, as version 1 has it, says nothing of the event: its own row does.

use super::Row;
use bincode::{Decode, Encode};
use triggers_protocol::api::AttemptOutcome;
use triggers_protocol::event::EventState;
use triggers_protocol::{EventId, SubscriptionId, Timestamp};

/// Proof of a lease.
pub type LeaseToken = [u8; 16];

/// Attempts that are kept of each event; older ones are forgotten.
pub const ATTEMPTS_KEPT_MAX: usize = 50;

/// What a queued event waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Claim {
    /// Nothing: the event is not queued.
    None,
    /// A consumer holds it.
    Leased {
        /// Until when.
        until: Timestamp,
    },
    /// Its next attempt.
    Waiting {
        /// When that is due.
        due: Timestamp,
    },
}

/// One attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Attempt {
    /// From 1 on.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What went wrong.
    pub error: Option<String>,
    /// The endpoint's HTTP status, if it was a webhook and an answer came.
    pub http_status: Option<u16>,
    /// The subscription that it was made for; none for the lease of a consumer.
    pub subscription: Option<SubscriptionId>,
}

/// What became of one subscription's delivery of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PushState {
    /// Its next attempt is due then.
    Waiting {
        /// When.
        due: Timestamp,
    },
    /// An attempt is under way. If nothing is heard of it until then, it has ended with its node.
    Running {
        /// Until when.
        until: Timestamp,
        /// Tells the attempt from others.
        token: u64,
    },
    /// The endpoint has it.
    Delivered,
    /// There will be no further attempt.
    Dropped,
}

impl PushState {
    /// Where it stands in the subscription's order of due times; none if nothing more is to be done.
    pub fn due(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due } => Some(due),
            Self::Running { until, .. } => Some(until),
            Self::Delivered | Self::Dropped => None,
        }
    }
}

/// The delivery of an event to one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Push {
    /// To whom.
    pub subscription: SubscriptionId,
    /// Where it stands.
    pub state: PushState,
    /// When its first attempt was due.
    pub since: Timestamp,
    /// Attempts that have failed.
    pub failures: u32,
    /// Attempts that ended with their node, so that nobody knows how.
    pub interruptions: u32,
    /// Attempts after which the endpoint asked for another one earlier than the policy would have made it.
    pub deferrals: u32,
    /// Token of the last attempt whose result was stored.
    pub completed: u64,
}

/// The delivery of an event: where it stands, its lease or wait, its way to subscriptions, and its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Delivery {
    /// What it waits for now.
    pub claim: Claim,
    /// The token of the last lease.
    pub token: Option<LeaseToken>,
    /// Attempts before the last replay: the retry policy counts from here.
    pub attempts_before: u32,
    /// The command that changed this last.
    pub changed_by: u64,
    /// The last attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// The subscriptions that it goes to; empty if it waits to be pulled.
    pub pushes: Vec<Push>,
    /// The event's state, if it is another one than its own row says.
    pub state: Option<EventState>,
}

impl Row for Delivery {
    const VERSION: u8 = 2;
}

impl Delivery {
    /// That of an event that was never attempted.
    pub const NEW: Delivery = Delivery {
        claim: Claim::None,
        token: None,
        attempts_before: 0,
        changed_by: 0,
        attempts: Vec::new(),
        pushes: Vec::new(),
        state: None,
    };
}

/// What the lease commands of the last batch took, by which a repeated batch knows its own.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecentLeases(pub Vec<(u64, Vec<EventId>)>);
impl Row for RecentLeases {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use triggers_protocol::EventStatus;
    use triggers_protocol::codec::CodecError;

    proptest! {
        #[test]
        fn deliveries_come_back(until: u32, token: Option<[u8; 16]>, changed_by: u64, attempts in 0u32..4, error: Option<String>) {
            let until = Timestamp::from_millis(until.into());
            let attempt = Attempt {
                number: attempts,
                started_at: until,
                finished_at: None,
                outcome: AttemptOutcome::InProgress,
                error: error.clone(),
                http_status: None,
                subscription: None,
            };
            let attempts = vec![attempt; attempts as usize];
            let state = EventState { status: EventStatus::Failed, last_error: error, ..EventState::ACCEPTED };
            let claim = Claim::Leased { until };
            let delivery = Delivery { claim, token, changed_by, attempts, state: Some(state), ..Delivery::NEW };
            prop_assert_eq!(&Delivery::from_bytes(&delivery.to_bytes()).unwrap(), &delivery);
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = Delivery::NEW.to_bytes();
        bytes[0] = 3;
        assert_eq!(
            Delivery::from_bytes(&bytes),
            Err(CodecError::Version { found: 3, expected: 2 })
        );
    }
}
