//! Appends through the router: a large request goes into the tenant's inbox in parts that fit a
//! commit.
//!
//! Invariants: `ROUTER-APPEND-1` the parts of a request go in their order and pass one gate;
//! `ROUTER-APPEND-2` once a part was sent, each event has a result of its own; the events of a lost
//! part have an unknown one.

use super::Router;
use crate::admission::count_rejection;
use crate::error::BrokerError;
use crate::inbox::request::receive;
use tokio::time::Instant;
use triggers_protocol::TenantId;
use triggers_store::tables::operations::{Accepted, Append, NewEvent, Rejection};

impl Router {
    /// Makes events durable, in their order. One result for each.
    ///
    /// # Errors
    /// [`BrokerError`] if the request as a whole failed.
    pub async fn append(
        &self,
        tenant: &TenantId,
        append: Append,
        deadline: Instant,
    ) -> Result<Vec<Result<Accepted, Rejection>>, BrokerError> {
        if self.0.store.environment().is_clock_suspect() {
            count_rejection("clock");
            return Err(BrokerError::ClockSuspect);
        }
        // Behind one gate, so that no part is left in front of it.
        let (partition, pass) = self.enter(tenant, deadline).await?;
        let mut sent = Vec::new();
        for (index, part) in self.split(append).into_iter().enumerate() {
            let events = part.events.len();
            match self.submit(&partition, pass.again(), tenant, part, deadline).await {
                Ok(reply) => sent.push((events, Ok(reply))),
                Err(error) if index == 0 => return Err(error),
                Err(error) => sent.push((events, Err(error))),
            }
        }
        let is_single = sent.len() == 1;
        let mut results = Vec::new();
        for (events, reply) in sent {
            let reply = match reply {
                Ok(receiver) => receive(receiver, deadline).await,
                Err(error) => Err(error),
            };
            match reply {
                Ok(part) => results.extend(part),
                Err(error) if is_single => return Err(error),
                Err(BrokerError::Unknown) => {
                    results.extend((0..events).map(|_| Err(Rejection::Unknown)));
                }
                Err(_) => results.extend((0..events).map(|_| Err(Rejection::Unavailable))),
            }
        }
        Ok(results)
    }

    /// Splits a request into parts that fit a commit each, without changing the order.
    fn split(&self, append: Append) -> Vec<Append> {
        let Append { events, waiting_events_max } = append;
        let (events_max, bytes_max) =
            (self.0.options.batch_events_max, self.0.options.batch_bytes_max);
        let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
        if events.len() <= events_max && bytes <= bytes_max {
            return vec![Append { events, waiting_events_max }];
        }
        let mut parts: Vec<Vec<NewEvent>> = vec![Vec::new()];
        let mut bytes = 0;
        for event in events {
            let length = parts.last().map_or(0, Vec::len);
            let is_full = length >= events_max || bytes + event.payload.len() > bytes_max;
            if is_full && length > 0 {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += event.payload.len();
            if let Some(part) = parts.last_mut() {
                part.push(event);
            }
        }
        parts.into_iter().map(|events| Append { events, waiting_events_max }).collect()
    }
}
