//! The reference model of one tenant's inbox: what each command must give, without storage, batches or failures.
//!
//! Invariants: `MODEL-1` an event is in one status; `MODEL-2` an acknowledged event never waits again; `MODEL-3` a deleted id
//! stays deleted; `MODEL-4` a key stands for its first event until it expires.
//! It is written for reading, not for speed, and shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::{EventId, EventStatus};

/// What a command gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A new event.
    Appended,
    /// The event that the key stands for.
    Replayed(EventId),
    /// The key stands for another request.
    KeyReused,
    /// Delivered now or before.
    Acknowledged,
    /// Removed now.
    Deleted,
    /// Removed before.
    Gone,
    /// Never there.
    NotFound,
}

/// The state of one tenant's inbox.
#[derive(Debug, Clone, Default)]
pub struct InboxModel {
    events: BTreeMap<EventId, EventStatus>,
    deleted: BTreeSet<EventId>,
    keys: BTreeMap<u8, (u8, EventId)>,
}

impl InboxModel {
    /// Accepts an event under `id`, with an idempotency key and the digest of its request.
    pub fn append(&mut self, id: EventId, key: Option<(u8, u8)>) -> Expected {
        if let Some((key, digest)) = key {
            match self.keys.get(&key) {
                Some((first, event)) if *first == digest => return Expected::Replayed(*event),
                Some(_) => return Expected::KeyReused,
                None => drop(self.keys.insert(key, (digest, id))),
            }
        }
        self.events.insert(id, EventStatus::Received);
        Expected::Appended
    }

    /// Marks an event as delivered.
    pub fn acknowledge(&mut self, id: EventId) -> Expected {
        match self.events.get_mut(&id) {
            Some(status) => {
                *status = EventStatus::Delivered;
                Expected::Acknowledged
            }
            None => self.missing(id),
        }
    }

    /// Removes an event.
    pub fn delete(&mut self, id: EventId) -> Expected {
        match self.events.remove(&id) {
            Some(_) => {
                self.deleted.insert(id);
                Expected::Deleted
            }
            None => self.missing(id),
        }
    }

    /// The ids in a status, oldest first.
    pub fn in_status(&self, status: EventStatus) -> Vec<EventId> {
        self.events.iter().filter(|(_, has)| **has == status).map(|(id, _)| *id).collect()
    }

    /// Every id that was ever accepted.
    pub fn ids(&self) -> Vec<EventId> {
        self.events.keys().chain(&self.deleted).copied().collect()
    }

    fn missing(&self, id: EventId) -> Expected {
        if self.deleted.contains(&id) { Expected::Gone } else { Expected::NotFound }
    }
}
