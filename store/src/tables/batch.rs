//! All writes of a tenant's inbox: one transaction carries a batch of commands, each with an outcome of its own.
//!
//! Invariants: `BATCH-1` ids in a batch are greater than the tenant's last one, and the head moves with them; `BATCH-2`
//! a second run after an unknown outcome finds its own rows and gives the same outcomes; `BATCH-3` every counter changes
//! together with the queue row that it counts; `BATCH-4` one command's refusal (unknown, gone, key reused) does not touch
//! the others; `BATCH-5` the caller names an event at most once in a batch, or several times by the same kind of command:
//! what a first run did to an event could not be told from what came before it otherwise. Leases and the ends of leases
//! choose their events themselves, so they share a batch with appends only, and never with each other. Claims of webhooks
//! choose among the events that are pushed, which no lease touches, and pass over those that their batch names; a change of
//! a subscription and a sweep go alone. Everything random or timed is in the commands before the transaction begins.

mod append;
mod attempt;
mod expire;
mod lease;
mod lifecycle;
mod push;
mod settle;
mod subscription;
mod sweep;
mod wake;

pub use append::{Append, IdempotencyKey};
pub use attempt::{ClaimPushes, Claimed};
pub use lease::{Lease, Leased};
pub use settle::{PushResult, Settle, Settled};
pub use subscription::{By, SubscriptionChange};
pub use sweep::{Sweep, is_sweep_due};

use super::TableError;
use super::fence::Guard;
use super::keys::TenantKeys;
use super::rows::{EventRow, Head, LeaseToken, RecentLeases, Row, SubscriptionRow};
use crate::kv::Transaction;
use std::collections::{BTreeMap, HashSet};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{Event, EventId, EventStatus, SubscriptionId, Timestamp};

/// One write.
#[derive(Debug, Clone)]
pub enum Command {
    /// Accept an event.
    Append(Box<Append>),
    /// Mark an event as delivered.
    Acknowledge {
        /// Which.
        id: EventId,
        /// When.
        at: Timestamp,
        /// The token of the lease that it is held by, if the consumer gave one.
        token: Option<LeaseToken>,
    },
    /// Hand events to a consumer for a time.
    Lease(Lease),
    /// Hold an event longer.
    Extend {
        /// Which.
        id: EventId,
        /// The token of the lease.
        token: LeaseToken,
        /// When.
        at: Timestamp,
        /// The lease's new end.
        until: Timestamp,
        /// Tells this command from others.
        nonce: u64,
    },
    /// Give an event back: its attempt has failed.
    Refuse(Refuse),
    /// End the leases that have run out.
    Expire {
        /// The present time.
        at: Timestamp,
        /// Draws the jitter of the next attempts.
        seed: u64,
    },
    /// Make an event wait for delivery again, whatever became of it.
    Replay {
        /// Which.
        id: EventId,
        /// When: its webhooks are due then.
        at: Timestamp,
        /// Tells this command from others.
        nonce: u64,
    },
    /// Begin attempts that are due to a subscription.
    Claim(ClaimPushes),
    /// Store how an attempt to a subscription has ended.
    Settle(Box<Settle>),
    /// Give up what waits for a subscription that is not delivered to any more.
    GiveUp {
        /// Which.
        subscription: SubscriptionId,
        /// When.
        at: Timestamp,
    },
    /// Make a subscription, unless there are as many as there may be.
    Subscribe {
        /// As it is to be stored.
        row: Box<SubscriptionRow>,
        /// Subscriptions that the tenant may have.
        subscriptions_max: u32,
        /// Who.
        by: By,
    },
    /// Change a subscription.
    ChangeSubscription {
        /// Which.
        id: SubscriptionId,
        /// How.
        change: Box<SubscriptionChange>,
        /// When.
        at: Timestamp,
        /// Who.
        by: By,
    },
    /// Remove a subscription, once nothing waits for it any more.
    Unsubscribe {
        /// Which.
        id: SubscriptionId,
        /// When.
        at: Timestamp,
        /// Who.
        by: By,
    },
    /// Remove what has reached its age.
    Sweep(Sweep),
    /// Remove an event and remember that it was there.
    Delete {
        /// Which.
        id: EventId,
        /// When; also tells this deletion from others.
        at: Timestamp,
    },
}

/// An event that its consumer gives back.
#[derive(Debug, Clone)]
pub struct Refuse {
    /// Which.
    pub id: EventId,
    /// The token of the lease, if the consumer gave one.
    pub token: Option<LeaseToken>,
    /// Why, in the consumer's words.
    pub reason: Option<String>,
    /// When it is to come back; the retry policy decides if absent.
    pub retry_after: Option<std::time::Duration>,
    /// When.
    pub at: Timestamp,
    /// Tells this command from others, and draws the jitter.
    pub nonce: u64,
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The event was accepted under this id.
    Appended(EventId),
    /// The idempotency key had been used with the same request: the event as it was first answered, if it is still there.
    Replayed {
        /// The first event's id.
        id: EventId,
        /// The event as it was accepted; none if it was deleted since.
        event: Option<Box<Event>>,
    },
    /// The idempotency key had been used with another request.
    KeyReused,
    /// The tenant has as many events waiting as it may.
    QuotaExceeded,
    /// The event is delivered, by this command or before. Chunks of its payload are not read.
    Acknowledged(Box<EventRow>),
    /// These are the consumer's until the lease ends.
    Leased(Vec<Leased>),
    /// The event as it is after an extension, a refusal or a replay. Chunks of its payload are not read.
    Changed(Box<EventRow>),
    /// The token is not that of a lease that holds now, or the event is not in a status that allows this.
    Conflict,
    /// This many leases have ended.
    Expired(usize),
    /// These attempts have begun.
    Claimed {
        /// Each with its event as it is now.
        attempts: Vec<Claimed>,
        /// When the subscription's next webhook is due, or is to be looked after.
        next: Option<Timestamp>,
    },
    /// The attempt's end is stored.
    Settled(Box<Settled>),
    /// What waited for a subscription was given up, or a part of it.
    GaveUp {
        /// When there is more to do: at once, or when those that are on their way must have come to their end.
        next: Option<Timestamp>,
        /// Whether the subscription is gone now.
        removed: bool,
    },
    /// The subscription as it is now.
    Subscribed(Box<SubscriptionRow>),
    /// The tenant has as many subscriptions as it may.
    TooMany,
    /// This many things have reached their age and are gone.
    Swept {
        /// How many.
        removed: usize,
        /// Whether there may be more.
        more: bool,
    },
    /// The event was removed.
    Deleted,
    /// There is no such event.
    NotFound,
    /// The event was deleted before.
    Gone,
}

/// Counts of a tenant's events by status, in the order of [`EventStatus::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([i64; 4]);

impl Counts {
    /// The count of one status.
    pub fn get(&self, status: EventStatus) -> i64 {
        self.0[status as usize]
    }

    /// Changes the count of one status.
    pub fn add(&mut self, status: EventStatus, delta: i64) {
        self.0[status as usize] += delta;
    }
}

/// The outcomes of a batch, in the order of its commands.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// The tenant's counts as they are with this batch.
    pub counts: Counts,
    /// When the tenant's first lease ends, if this batch may have changed that.
    pub first_lease_end: Option<Option<Timestamp>>,
    /// The subscriptions for which this batch has added webhooks, each with the earliest time at which one is due.
    pub due: BTreeMap<SubscriptionId, Timestamp>,
}

/// Applies a batch. `last_id` is the tenant's last id as the inbox knows it; the appended ids are minted after it.
///
/// # Errors
/// [`TableError::NotOwner`]; [`TableError::HeadMoved`] if the store's last id is neither `last_id` nor this batch's own;
/// [`TableError::Store`].
pub async fn apply(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    last_id: EventId,
    commands: &[Command],
) -> Result<Applied, TableError> {
    if !is_planted(Bug::FenceNotChecked) {
        guard.check(tx).await?;
    }
    let minted = commands.iter().rev().find_map(|command| match command {
        Command::Append(append) => Some(append.id),
        _ => None,
    });
    let head = read_head(tx, keys).await?;
    let repeated = match minted {
        Some(minted) => is_repeated(&head, last_id, minted)?,
        None => false,
    };
    let mut batch = Batch {
        keys,
        repeated,
        delta: Counts::default(),
        appended: false,
        lease_ends_changed: false,
        leases_expired: false,
        leased: Vec::new(),
        stored_subscriptions: head.subscriptions,
        subscriptions: None,
        due: BTreeMap::new(),
        settled: HashSet::new(),
        claimed_bytes: 0,
    };
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        outcomes.push(batch.run(tx, command).await?);
    }
    if repeated {
        batch.suppose_all_due(tx).await?;
    }
    let first_lease_end = batch.finish(tx, head, minted).await?;
    // Absolute, so that a batch that is run again after it committed tells the same.
    let counts = super::inbox::counts(tx, keys).await?;
    Ok(Applied { outcomes, counts, first_lease_end, due: batch.due })
}

async fn read_head(tx: &mut dyn Transaction, keys: &TenantKeys) -> Result<Head, TableError> {
    let stored = tx.get(&keys.head()).await?;
    Ok(stored.map(|bytes| Head::from_bytes(&bytes)).transpose()?.unwrap_or(Head::NEW))
}

/// Whether this very batch has committed before; an error if something else has.
fn is_repeated(head: &Head, last_id: EventId, minted: EventId) -> Result<bool, TableError> {
    match head.last_id {
        actual if actual == last_id => Ok(false),
        actual if actual == minted => Ok(true),
        actual => Err(TableError::HeadMoved { actual }),
    }
}

/// What one run of a batch keeps between its commands.
struct Batch<'a> {
    keys: &'a TenantKeys,
    /// The head says that this batch's events exist already (`BATCH-2`).
    repeated: bool,
    delta: Counts,
    appended: bool,
    lease_ends_changed: bool,
    /// The pointer is set anew after leases have ended; before that one that is too early does no harm.
    leases_expired: bool,
    leased: Vec<(u64, Vec<EventId>)>,
    /// How many subscriptions are stored.
    stored_subscriptions: u32,
    /// The active ones, once they have been read.
    subscriptions: Option<Vec<SubscriptionRow>>,
    due: BTreeMap<SubscriptionId, Timestamp>,
    /// Events that this batch has settled attempts of: no claim takes them, so that a repeated run finds what it did.
    settled: HashSet<EventId>,
    /// Payload bytes of the attempts that this batch has claimed.
    claimed_bytes: usize,
}

impl Batch<'_> {
    async fn run(
        &mut self,
        tx: &mut dyn Transaction,
        command: &Command,
    ) -> Result<Outcome, TableError> {
        match command {
            Command::Append(append) => self.append(tx, append).await,
            Command::Acknowledge { id, at, token } => self.acknowledge(tx, *id, *at, *token).await,
            Command::Delete { id, at } => self.delete(tx, *id, *at).await,
            Command::Lease(lease) => self.lease(tx, lease).await,
            Command::Extend { id, token, at, until, nonce } => {
                self.extend(tx, *id, *token, (*at, *until), *nonce).await
            }
            Command::Refuse(refuse) => self.refuse(tx, refuse).await,
            Command::Expire { at, seed } => self.expire(tx, *at, *seed).await,
            Command::Replay { id, at, nonce } => self.replay(tx, *id, *at, *nonce).await,
            Command::Claim(claim) => self.claim(tx, claim).await,
            Command::Settle(settle) => self.settle(tx, settle).await,
            Command::GiveUp { subscription, at } => self.give_up(tx, *subscription, *at).await,
            Command::Subscribe { row, subscriptions_max, by } => {
                self.subscribe(tx, row, *subscriptions_max, by).await
            }
            Command::ChangeSubscription { id, change, at, by } => {
                self.change_subscription(tx, *id, change, *at, by).await
            }
            Command::Unsubscribe { id, at, by } => self.unsubscribe(tx, *id, *at, by).await,
            Command::Sweep(sweep) => self.sweep(tx, sweep).await,
        }
    }

    /// Writes what belongs to the tenant as a whole: the head, the counters, the wake-up pointer.
    async fn finish(
        &mut self,
        tx: &mut dyn Transaction,
        mut head: Head,
        minted: Option<EventId>,
    ) -> Result<Option<Option<Timestamp>>, TableError> {
        let before = head;
        if let (Some(last_id), true) = (minted, self.appended) {
            head.last_id = last_id;
        }
        head.subscriptions = self.stored_subscriptions;
        let first_lease_end = self.point(tx, &mut head).await?;
        if head != before {
            tx.set(&self.keys.head(), &head.to_bytes());
        }
        for status in EventStatus::ALL {
            match self.delta.get(status) {
                0 => {}
                delta => tx.add(&self.keys.counter(status), delta),
            }
        }
        if !self.leased.is_empty() {
            let recent = RecentLeases(std::mem::take(&mut self.leased));
            tx.set(&self.keys.recent_leases(), &recent.to_bytes());
        }
        Ok(first_lease_end)
    }
}
