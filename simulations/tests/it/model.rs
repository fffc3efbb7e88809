//! Reference model of one tenant's inbox: the result of each command, without storage, batches or
//! failures.
//!
//! Invariants: `MODEL-1` an event has one status; `MODEL-2` an acknowledged event never waits
//! again; `MODEL-3` a deleted id stays deleted; `MODEL-4` a key stands for its first event.
//! The model is written to be read, not to be fast, and shares no code with the product.

use std::collections::{BTreeMap, BTreeSet};
use triggers_protocol::{EventId, EventStatus};

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The event is new.
    Appended,
    /// The key stands for this event.
    Replayed(EventId),
    /// The key stands for another request.
    KeyReused,
    /// The event is delivered, by this command or an earlier one.
    Acknowledged,
    /// This command removed the event.
    Deleted,
    /// An earlier command removed the event.
    Gone,
    /// There never was such an event.
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
    /// Accepts an event under `id`. `key` is an idempotency key with the digest of the request.
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

    /// The ids of the events with a status, oldest first.
    pub fn in_status(&self, status: EventStatus) -> Vec<EventId> {
        self.events.iter().filter(|(_, has)| **has == status).map(|(id, _)| *id).collect()
    }

    /// The ids of all events that were accepted, also of deleted ones.
    pub fn ids(&self) -> Vec<EventId> {
        self.events.keys().chain(&self.deleted).copied().collect()
    }

    fn missing(&self, id: EventId) -> Expected {
        if self.deleted.contains(&id) { Expected::Gone } else { Expected::NotFound }
    }
}
