//! All writes of a tenant's inbox: one transaction carries a batch of commands, each with an outcome of its own.
//!
//! Invariants: `BATCH-1` ids in a batch are greater than the tenant's last one, and the head moves with them; `BATCH-2`
//! a second run after an unknown outcome finds its own rows and gives the same outcomes; `BATCH-3` every counter changes
//! together with the queue row that it counts; `BATCH-4` one command's refusal (unknown, gone, key reused) does not touch
//! the others; `BATCH-5` the caller names an event at most once in a batch, or several times by the same kind of command:
//! what a first run did to an event could not be told from what came before it otherwise. Everything random or timed is in the commands before the transaction begins.

mod append;
mod lifecycle;

pub use append::{Append, IdempotencyKey};

use super::TableError;
use super::fence::Guard;
use super::keys::TenantKeys;
use super::rows::{Head, Row};
use crate::kv::Transaction;
use triggers_protocol::{Event, EventId, EventStatus, Timestamp};

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
    },
    /// Remove an event and remember that it was there.
    Delete {
        /// Which.
        id: EventId,
        /// When; also tells this deletion from others.
        at: Timestamp,
    },
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The event is delivered, by this command or before.
    Acknowledged(Box<Event>),
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

    /// Adds another set of counts to this one.
    pub fn merge(&mut self, other: &Counts) {
        for status in EventStatus::ALL {
            self.add(status, other.get(status));
        }
    }
}

/// The outcomes of a batch, in the order of its commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// How the tenant's counts change; all zero when a second run finds everything done.
    pub delta: Counts,
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
    guard.check(tx).await?;
    let minted = commands.iter().rev().find_map(|command| match command {
        Command::Append(append) => Some(append.id),
        Command::Acknowledge { .. } | Command::Delete { .. } => None,
    });
    let repeated = match minted {
        Some(minted) => check_head(tx, keys, last_id, minted).await?,
        None => false,
    };
    let mut batch = Batch { keys, repeated, delta: Counts::default(), appended: false };
    let mut outcomes = Vec::with_capacity(commands.len());
    for command in commands {
        outcomes.push(match command {
            Command::Append(append) => batch.append(tx, append).await?,
            Command::Acknowledge { id, at } => batch.acknowledge(tx, *id, *at).await?,
            Command::Delete { id, at } => batch.delete(tx, *id, *at).await?,
        });
    }
    if let (Some(last_id), true) = (minted, batch.appended) {
        tx.set(&keys.head(), &Head { last_id }.to_bytes());
    }
    for status in EventStatus::ALL {
        match batch.delta.get(status) {
            0 => {}
            delta => tx.add(&keys.counter(status), delta),
        }
    }
    Ok(Applied { outcomes, delta: batch.delta })
}

/// Whether this very batch has committed before; an error if something else has.
async fn check_head(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    last_id: EventId,
    minted: EventId,
) -> Result<bool, TableError> {
    let stored = tx.get(&keys.head()).await?.map(|bytes| Head::from_bytes(&bytes)).transpose()?;
    let actual = stored.map_or(EventId::ZERO, |head| head.last_id);
    if actual == last_id {
        Ok(false)
    } else if actual == minted {
        Ok(true)
    } else {
        Err(TableError::HeadMoved { actual })
    }
}

/// What one run of a batch keeps between its commands.
struct Batch<'a> {
    keys: &'a TenantKeys,
    /// The head says that this batch's events exist already (`BATCH-2`).
    repeated: bool,
    delta: Counts,
    appended: bool,
}
