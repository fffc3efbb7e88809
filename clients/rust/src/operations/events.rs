//! Operations on events: send, read, acknowledge, give back, replay, delete.

use std::fmt::Display;

use triggers_protocol::api::{
    AcknowledgeAnswer, Acknowledgement, Acknowledgements, BatchAnswer, CloudEvent, DeliveryStatus,
    LeaseExtension, Nack, NewBatch, NewEvent,
};

use crate::call::Call;
use crate::client::Client;
use crate::error::ClientError;
use crate::reply::Reply;
use crate::{Event, LeasedEvent};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Client {
    /// Sends an event. The event is durable when the call returns. Repeating the call with the same
    /// `idempotency_key` returns the first answer again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn create_event(
        &self,
        event: &NewEvent<'_>,
        idempotency_key: Option<&str>,
    ) -> Result<Reply<Event>, ClientError> {
        let call = Call::post(&["events"]).json(event)?;
        self.send(call.header_optional(IDEMPOTENCY_KEY, idempotency_key)?).await
    }

    /// Sends a CloudEvent. Its `source` and `id` are the idempotency key.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn create_cloud_event(
        &self,
        event: &CloudEvent<'_>,
    ) -> Result<Reply<Event>, ClientError> {
        let call = Call::post(&["events"]).json(event)?;
        self.send(call.header("content-type", "application/cloudevents+json")?).await
    }

    /// Sends up to 1,000 events. Each has a result of its own.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn create_events(
        &self,
        events: &NewBatch<'_>,
        idempotency_key: Option<&str>,
    ) -> Result<Reply<BatchAnswer>, ClientError> {
        let call = Call::post(&["events", "batch"]).json(events)?;
        self.send(call.header_optional(IDEMPOTENCY_KEY, idempotency_key)?).await
    }

    /// Reads an event with its payload.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_event(&self, id: impl Display) -> Result<Reply<Event>, ClientError> {
        self.send(Call::get(&["events", &id.to_string()])).await
    }

    /// Reads the delivery of an event so far.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn get_event_status(
        &self,
        id: impl Display,
    ) -> Result<Reply<DeliveryStatus>, ClientError> {
        self.send(Call::get(&["events", &id.to_string(), "status"])).await
    }

    /// Deletes an event for good.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn delete_event(&self, id: impl Display) -> Result<Reply<()>, ClientError> {
        self.send(Call::delete(&["events", &id.to_string()])).await
    }

    /// Acknowledges an event: it counts as delivered and leaves the inbox.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn acknowledge_event(
        &self,
        id: impl Display,
        body: &Acknowledgement,
    ) -> Result<Reply<Event>, ClientError> {
        self.send(Call::post(&["events", &id.to_string(), "ack"]).json(body)?).await
    }

    /// Acknowledges up to 1,000 events. Each has a result of its own.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn acknowledge_events(
        &self,
        body: &Acknowledgements,
    ) -> Result<Reply<AcknowledgeAnswer>, ClientError> {
        self.send(Call::post(&["events", "acknowledge", "batch"]).json(body)?).await
    }

    /// Gives an event back, so that it is delivered again later.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn refuse_event(
        &self,
        id: impl Display,
        body: &Nack,
    ) -> Result<Reply<Event>, ClientError> {
        self.send(Call::post(&["events", &id.to_string(), "nack"]).json(body)?).await
    }

    /// Extends the lease of an event.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn extend_lease(
        &self,
        id: impl Display,
        body: &LeaseExtension,
    ) -> Result<Reply<LeasedEvent>, ClientError> {
        self.send(Call::post(&["events", &id.to_string(), "lease"]).json(body)?).await
    }

    /// Has a failed or delivered event delivered again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn replay_event(&self, id: impl Display) -> Result<Reply<Event>, ClientError> {
        self.send(Call::post(&["events", &id.to_string(), "replay"])).await
    }
}
