//! Begins attempts, and keeps the last ones of each consumer.
//!
//! - `ATTEMPTS-KEPT-1`: an attempt that runs is in its delivery's row, where its end finds it.
//! - `ATTEMPTS-KEPT-2`: of each consumer (a subscription, or those that pull) at least the last
//!   [`ATTEMPTS_KEPT_MAX`] ended attempts are kept. Once a delivery's row has as many ended
//!   attempts, the older ones of several consumers move to one row for each consumer.

use super::Batch;
use crate::kv::Transaction;
use crate::tables::TableError;
use crate::tables::rows::{
    ATTEMPTS_KEPT_MAX, Attempt, AttemptOutcome, Delivery, OlderAttempts, Row,
};
use triggers_protocol::planted::{Bug, is_planted};
use triggers_protocol::{EventId, SubscriptionId, Timestamp};

impl Batch<'_> {
    /// Adds an attempt that begins.
    pub(in crate::tables) async fn begin_attempt(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        delivery: &mut Delivery,
        number: u32,
        started_at: Timestamp,
        subscription: Option<SubscriptionId>,
    ) -> Result<(), TableError> {
        if delivery.attempts.iter().filter(|attempt| has_ended(attempt)).count()
            >= ATTEMPTS_KEPT_MAX
        {
            self.move_older_attempts(tx, id, delivery).await?;
        }
        if is_planted(Bug::AttemptNotListed) && delivery.attempts.len() > 1 {
            delivery.attempts.remove(0);
        }
        delivery.attempts.push(Attempt {
            number,
            started_at,
            finished_at: None,
            outcome: AttemptOutcome::InProgress,
            error: None,
            http_status: None,
            subscription,
        });
        Ok(())
    }

    /// Makes room in a delivery's row: moves the ended attempts of one consumer to a row of their
    /// own, or removes the oldest if the row still has enough of that consumer.
    async fn move_older_attempts(
        &self,
        tx: &mut dyn Transaction,
        id: EventId,
        delivery: &mut Delivery,
    ) -> Result<(), TableError> {
        let Some(oldest) = delivery.attempts.iter().position(has_ended) else { return Ok(()) };
        let consumer = delivery.attempts[oldest].subscription;
        let is_of = |attempt: &Attempt| has_ended(attempt) && attempt.subscription == consumer;
        if delivery.attempts.iter().filter(|attempt| is_of(attempt)).count() >= ATTEMPTS_KEPT_MAX {
            delivery.attempts.remove(oldest);
            return Ok(());
        }
        let key = self.keys.older_attempts(id, consumer);
        let stored = tx.get(&key).await?;
        let mut older = stored.map(|bytes| OlderAttempts::from_bytes(&bytes)).transpose()?;
        let OlderAttempts(kept) = older.get_or_insert_default();
        kept.extend(delivery.attempts.extract_if(.., |attempt| is_of(attempt)));
        kept.drain(..kept.len().saturating_sub(ATTEMPTS_KEPT_MAX));
        tx.set_owned(key, OlderAttempts(std::mem::take(kept)).to_bytes());
        delivery.has_older_attempts = true;
        Ok(())
    }
}

fn has_ended(attempt: &Attempt) -> bool {
    attempt.finished_at.is_some()
}
