//! Writes the audit entries of a batch.

use super::Batch;
use crate::kv::{RangeRead, Transaction};
use crate::tables::TableError;
use crate::tables::keys::number_of_audit;
use crate::tables::rows::{Actor, AuditAction, AuditRow, Row};
use triggers_protocol::{SubscriptionId, Timestamp};

/// The origin of a change, for the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiator {
    /// Holder of the API key, or the broker.
    pub actor: Actor,
    /// Address of the client.
    pub source_ip: String,
    /// Id of the request.
    pub request_id: String,
}

impl Initiator {
    /// The broker itself, which acts without a request.
    pub const BROKER: Self =
        Self { actor: Actor::Broker, source_ip: String::new(), request_id: String::new() };
}

impl Batch<'_> {
    /// Adds an audit entry, numbered after the last one, so entries of one time keep their order.
    pub(in crate::tables) async fn audit(
        &self,
        tx: &mut dyn Transaction,
        at: Timestamp,
        by: &Initiator,
        target: SubscriptionId,
        action: AuditAction,
        detail: String,
    ) -> Result<(), TableError> {
        let last = RangeRead { range: self.keys.audits(), limit: 1, is_reverse: true };
        let last = tx.range_snapshot(last).await?;
        let last = last.pairs.first().and_then(|(key, _)| number_of_audit(key));
        let number = last.map_or(0, |number| number + 1);
        let Initiator { actor, source_ip, request_id } = by.clone();
        let row =
            AuditRow { actor, action, target: target.to_string(), detail, source_ip, request_id };
        tx.set(&self.keys.audit(at, number), &row.to_bytes());
        Ok(())
    }
}

/// Scheme and host of a URL, without its path and query, which may be secret.
pub(in crate::tables) fn host(target_url: &str) -> String {
    let begin = target_url.find("://").map_or(0, |at| at + 3);
    let end = target_url[begin..].find(['/', '?', '#']).map_or(target_url.len(), |at| begin + at);
    target_url[..end].to_owned()
}
