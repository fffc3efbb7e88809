//! Reading subscriptions, their attempts and the audit. They are written by [`super::batch`], as everything of a tenant is.
//!
//! Invariants: `SUBSCRIPTIONS-1` one that is being deleted is not given to whoever asks for it; `SUBSCRIPTIONS-2` a list of
//! attempts is newest first, in pages that neither skip nor repeat one.

use super::TableError;
use super::fence::Guard;
use super::keys::{TenantKeys, id_of_key, number_of_audit, time_of_audit, time_of_due_key};
use super::rows::{AuditRow, LoggedAttempt, Row, SubscriptionRow, SubscriptionStatus};
use crate::kv::{KeyRange, RangeRead, Transaction};
use triggers_protocol::{EventId, SubscriptionId, Timestamp};

/// Subscriptions that are read at a time.
const ROWS_PAGE: usize = 250;

/// A place in a list that goes back in time: entries before it follow.
pub type Before = (Timestamp, EventId);

/// A page of a subscription's attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptPage {
    /// Each with its event, the newest first.
    pub attempts: Vec<(EventId, LoggedAttempt)>,
    /// Where the next page begins, if there is one.
    pub next: Option<Before>,
}

/// A page of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Each with its time and number, the newest first.
    pub entries: Vec<(Timestamp, u64, AuditRow)>,
    /// Whether there are older ones.
    pub more: bool,
}

/// One subscription, also one that is being deleted.
pub(super) async fn read(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, TableError> {
    let stored = tx.get(&keys.subscription(id)).await?;
    Ok(stored.map(|bytes| SubscriptionRow::from_bytes(&bytes)).transpose()?)
}

/// All subscriptions, oldest first, also those that are being deleted.
pub(super) async fn read_all(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
) -> Result<Vec<SubscriptionRow>, TableError> {
    let (mut rows, mut range) = (Vec::new(), keys.subscriptions());
    loop {
        // Nobody but the owner changes them, and its fence is checked.
        let page = tx.range_snapshot(RangeRead::first(range.clone(), ROWS_PAGE)).await?;
        for (_, bytes) in &page.pairs {
            rows.push(SubscriptionRow::from_bytes(bytes)?);
        }
        match page.pairs.last() {
            Some((last, _)) if page.has_more => range.begin = [&last[..], &[0]].concat().into(),
            _ => return Ok(rows),
        }
    }
}

/// When the first webhook of a subscription is due, or is to be looked after.
pub(super) async fn first_due(
    tx: &mut dyn Transaction,
    keys: &TenantKeys,
    id: SubscriptionId,
) -> Result<Option<Timestamp>, TableError> {
    let page = tx.range_snapshot(RangeRead::first(keys.pushes(id), 1)).await?;
    Ok(page.pairs.first().and_then(|(key, _)| time_of_due_key(key)))
}

/// The subscriptions of a tenant, oldest first.
///
/// # Errors
/// [`TableError::NotOwner`]; [`TableError::Store`].
pub async fn list(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
) -> Result<Vec<SubscriptionRow>, TableError> {
    guard.check(tx).await?;
    let mut rows = read_all(tx, keys).await?;
    rows.retain(|row| row.status != SubscriptionStatus::Deleted);
    Ok(rows)
}

/// One subscription.
///
/// # Errors
/// [`TableError::NotOwner`]; [`TableError::Store`].
pub async fn find(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, TableError> {
    guard.check(tx).await?;
    Ok(read(tx, keys, id).await?.filter(|row| row.status != SubscriptionStatus::Deleted))
}

/// The attempts of a subscription that have ended, the newest first; none if there is no such subscription.
///
/// # Errors
/// [`TableError::NotOwner`]; [`TableError::Store`].
pub async fn attempts(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    id: SubscriptionId,
    (before, limit): (Option<Before>, usize),
) -> Result<Option<AttemptPage>, TableError> {
    if find(tx, guard, keys, id).await?.is_none() {
        return Ok(None);
    }
    let all = keys.logged_attempts(id);
    let range = match before {
        Some((time, event)) => KeyRange::new(all.begin, keys.logged_attempt(id, time, event)),
        None => all,
    };
    let page = tx.range_snapshot(RangeRead { range, limit, is_reverse: true }).await?;
    let mut attempts = Vec::with_capacity(page.pairs.len());
    let mut last = None;
    for (key, value) in &page.pairs {
        let (Some(time), Some(event)) = (time_of_due_key(key), id_of_key(key)) else { continue };
        attempts.push((event, LoggedAttempt::from_bytes(value)?));
        last = Some((time, event));
    }
    Ok(Some(AttemptPage { attempts, next: last.filter(|_| page.has_more) }))
}

/// The audit of a tenant, the newest first, before the entry with this time and number.
///
/// # Errors
/// [`TableError::NotOwner`]; [`TableError::Store`].
pub async fn audit(
    tx: &mut dyn Transaction,
    guard: &Guard,
    keys: &TenantKeys,
    (before, limit): (Option<(Timestamp, u64)>, usize),
) -> Result<AuditPage, TableError> {
    guard.check(tx).await?;
    let all = keys.audits();
    let range = match before {
        Some((time, number)) => KeyRange::new(all.begin, keys.audit(time, number)),
        None => all,
    };
    let page = tx.range_snapshot(RangeRead { range, limit, is_reverse: true }).await?;
    let mut entries = Vec::with_capacity(page.pairs.len());
    for (key, value) in &page.pairs {
        let (Some(time), Some(number)) = (time_of_audit(key), number_of_audit(key)) else {
            continue;
        };
        entries.push((time, number, AuditRow::from_bytes(value)?));
    }
    Ok(AuditPage { entries, more: page.has_more })
}
