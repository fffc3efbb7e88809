//! Events that come in, through the router: into the tenant's inbox, in parts that fit a commit each.
//!
//! Invariants: `ROUTER-APPEND-1` the parts of a request go in their order and pass one gate;
//! `ROUTER-APPEND-2` once a part was sent, each event has an outcome of its own. A part that was lost is an unknown one.

use super::{Router, receive};
use crate::inbox::request::{Accepted, BrokerError, NewEvent, Refusal, Write, WriteResult};
use tokio::time::Instant;
use triggers_protocol::TenantId;

impl Router {
    /// Makes events durable, in their order. One result for each; `waiting_events_max` is the tenant's quota.
    ///
    /// # Errors
    /// [`BrokerError`] if the request as a whole failed.
    pub async fn append(
        &self,
        tenant: &TenantId,
        events: Vec<NewEvent>,
        waiting_events_max: Option<u64>,
        deadline: Instant,
    ) -> Result<Vec<Result<Accepted, Refusal>>, BrokerError> {
        // Behind one gate, so that no part is left in front of it.
        let (partition, entered) = self.enter(tenant, deadline).await?;
        let mut sent = Vec::new();
        for (index, part) in self.split(events).into_iter().enumerate() {
            let events = part.len();
            match self
                .submit_to(&partition, entered.again(), tenant, part, waiting_events_max, deadline)
                .await
            {
                Ok(answer) => sent.push((events, Ok(answer))),
                Err(error) if index == 0 => return Err(error),
                Err(error) => sent.push((events, Err(error))),
            }
        }
        let whole = sent.len() == 1;
        let mut results = Vec::new();
        for (events, answer) in sent {
            let answer = match answer {
                Ok(receiver) => receive(receiver, deadline).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(part) => results.extend(part.into_iter().map(append_result)),
                Err(error) if whole => return Err(error),
                Err(BrokerError::Unknown) => {
                    results.extend((0..events).map(|_| Err(Refusal::Unknown)))
                }
                Err(_) => results.extend((0..events).map(|_| Err(Refusal::Unavailable))),
            }
        }
        Ok(results)
    }

    /// Makes one event durable, as [`Self::append`] does.
    ///
    /// # Errors
    /// [`BrokerError`] if the request as a whole failed.
    pub async fn append_one(
        &self,
        tenant: &TenantId,
        event: NewEvent,
        waiting_events_max: Option<u64>,
        deadline: Instant,
    ) -> Result<Result<Accepted, Refusal>, BrokerError> {
        let writes = vec![Write::Append(Box::new(event))];
        let answer = self.submit(tenant, writes, waiting_events_max, deadline).await?;
        Ok(receive(answer, deadline).await?.pop().map_or(Err(Refusal::Unknown), append_result))
    }

    /// Splits a request into parts that fit a commit each, without changing the order.
    fn split(&self, events: Vec<NewEvent>) -> Vec<Vec<Write>> {
        let (mut parts, mut bytes) = (vec![Vec::new()], 0);
        for event in events {
            let part = parts.last().map_or(0, Vec::len);
            let full = part >= self.0.options.batch_events_max
                || bytes + event.payload.len() > self.0.options.batch_bytes_max;
            if full && part > 0 {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += event.payload.len();
            if let Some(part) = parts.last_mut() {
                part.push(Write::Append(Box::new(event)));
            }
        }
        parts
    }
}

fn append_result(result: WriteResult) -> Result<Accepted, Refusal> {
    match result {
        WriteResult::Accepted(accepted) => Ok(*accepted),
        WriteResult::Refused(refusal) => Err(refusal),
        _ => Err(Refusal::Unavailable),
    }
}
