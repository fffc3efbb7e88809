//! The state of a simulated store, as a machine without I/O: the caller passes in the time.
//!
//! Invariants:
//! - `SIMULATED-STORE-1`: time never goes back.
//! - `SIMULATED-STORE-2`: late commits are applied in order of their due times, before later calls.
//! - `SIMULATED-STORE-3`: a transaction older than five seconds reads and commits nothing.
//! - `SIMULATED-STORE-4`: during an outage no call takes effect.

use super::SimulatedOptions;
use super::faults::{CommitFate, FaultStreams};
use super::versions::{Proposal, Versions};
use super::{ObservedCommit, Observer};
use crate::kv::limits::{TRANSACTION_MS_MAX, check_age};
use crate::kv::{Ordered, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// An open transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenTransaction {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) begun: Duration,
}

pub(super) struct SimulatedStore {
    pub(super) observer: Option<Box<dyn Observer>>,
    pub(super) options: SimulatedOptions,
    pub(super) faults: FaultStreams,
    pub(super) is_out: bool,
    /// Time since the store was created, on the most advanced clock.
    pub(super) now: Duration,
    versions: Versions,
    open: BTreeMap<u64, OpenTransaction>,
    late: BTreeMap<(Duration, u64), Proposal>,
    ids: u64,
}

impl SimulatedStore {
    pub(super) fn new(options: SimulatedOptions) -> Self {
        Self {
            observer: None,
            faults: FaultStreams::new(options.seed),
            options,
            is_out: false,
            now: Duration::ZERO,
            versions: Versions::default(),
            open: BTreeMap::new(),
            late: BTreeMap::new(),
            ids: 0,
        }
    }

    /// Advances the time and applies late commits that are due.
    pub(super) fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
        while let Some(first) = self.late.first_entry() {
            let due = first.key().0;
            if due > self.now {
                return;
            }
            let proposal = first.remove();
            match self.attempt(proposal, due) {
                Ok(()) => self.faults.fired.late_applied += 1,
                Err(_) => self.faults.fired.late_dropped += 1,
            }
        }
    }

    pub(super) fn begin(&mut self) -> Result<OpenTransaction, StoreError> {
        self.reject_in_outage()?;
        self.ids += 1;
        let opened =
            OpenTransaction { id: self.ids, version: self.versions.newest(), begun: self.now };
        self.open.insert(opened.id, opened);
        Ok(opened)
    }

    /// Removes a transaction that has ended.
    pub(super) fn close(&mut self, opened: &OpenTransaction) {
        self.open.remove(&opened.id);
    }

    /// Returns the versions to read from.
    pub(super) fn read(&mut self, opened: &OpenTransaction) -> Result<&Versions, StoreError> {
        self.reject_in_outage()?;
        check_age(self.now.saturating_sub(opened.begun), TRANSACTION_MS_MAX)?;
        Ok(&self.versions)
    }

    /// Commits a proposal; calls `ordered` if it takes effect and returns `Ok`.
    pub(super) fn commit(
        &mut self,
        proposal: Proposal,
        ordered: Option<Ordered>,
    ) -> Result<(), StoreError> {
        if self.is_out {
            self.faults.fired.outage_rejections += 1;
            if self.faults.is_rejected_in_outage() {
                return Err(StoreError::Retryable("simulated outage".into()));
            }
            return Err(unknown("simulated outage"));
        }
        match self.faults.fate(&self.options) {
            CommitFate::Normal => {
                self.attempt(proposal, self.now)?;
                if let Some(ordered) = ordered {
                    ordered();
                }
                Ok(())
            }
            CommitFate::Conflict => {
                self.faults.fired.conflicts += 1;
                Err(StoreError::Retryable("simulated conflict".into()))
            }
            CommitFate::UnknownCommitted => {
                self.attempt(proposal, self.now)?;
                self.faults.fired.unknown_committed += 1;
                Err(unknown("simulated unknown result"))
            }
            CommitFate::UnknownNotCommitted => {
                self.faults.fired.unknown_not_committed += 1;
                Err(unknown("simulated unknown result"))
            }
            CommitFate::Late(delay) => {
                self.faults.fired.late_answered += 1;
                self.ids += 1;
                self.late.insert((self.now + delay, self.ids), proposal);
                Err(unknown("simulated late commit"))
            }
        }
    }

    fn attempt(&mut self, proposal: Proposal, at: Duration) -> Result<(), StoreError> {
        check_age(at.saturating_sub(proposal.begun), TRANSACTION_MS_MAX)?;
        if self.versions.conflicts(&proposal) {
            return Err(StoreError::Retryable("conflict: a key that was read has changed".into()));
        }
        let writer = proposal.writer.clone();
        let observed = self.observer.is_some();
        let keys: Vec<Bytes> = proposal.writes.keys().filter(|_| observed).cloned().collect();
        self.versions.apply(proposal, at)?;
        if let Some(observer) = &mut self.observer {
            let (writer, keys, versions) = (&*writer, &*keys, &self.versions);
            observer.committed(&ObservedCommit { writer, at, keys, versions });
        }
        self.trim(at);
        Ok(())
    }

    /// Drops versions that only transactions too old at `at` could need. The store's time may be
    /// later than `at`, but a late commit due in between must still be checked.
    fn trim(&mut self, at: Duration) {
        let since = at.saturating_sub(Duration::from_millis(TRANSACTION_MS_MAX));
        while let Some(first) = self.open.first_entry() {
            if first.get().begun >= since {
                break;
            }
            first.remove();
        }
        let oldest = self.open.first_key_value().map(|(_, opened)| opened.version);
        self.versions.trim(oldest.unwrap_or(self.versions.newest()), since);
    }

    pub(super) fn dump(&self) -> Vec<(Bytes, Bytes)> {
        self.versions.all()
    }

    fn reject_in_outage(&mut self) -> Result<(), StoreError> {
        if self.is_out {
            self.faults.fired.outage_rejections += 1;
            return Err(StoreError::Retryable("simulated outage".into()));
        }
        Ok(())
    }
}

fn unknown(reason: &str) -> StoreError {
    StoreError::MaybeCommitted(reason.into())
}
