//! One method of [`Client`] for each operation of the API.
//!
//! `OPERATIONS-1`: each operation of `docs/openapi.json` has a method, named after its
//! `operationId`.

use crate::call::Call;
use crate::client::Client;
use crate::error::ClientError;
use crate::query::{AttemptsQuery, AuditQuery, InboxQuery, PageQuery};
use crate::reply::Reply;
use crate::stream::EventStream;
use crate::{Event, InboxPage, LeaseAnswer, LeasedEvent};
use std::fmt::Display;
use triggers_protocol::api::{
    AcknowledgeAnswer, Acknowledgement, Acknowledgements, AuditList, BatchAnswer, CloudEvent,
    DeliveryStatus, Health, InboxReplay, Key, KeyList, KeyRotation, LeaseAcknowledgement,
    LeaseExtension, LeaseNack, LeaseRenewal, LeaseRequest, Nack, NewBatch, NewEvent, NewKey,
    NewSubscription, NewTenant, Probe, RecoveryAnswer, ReplayAnswer, SecretRotation, Stats,
    Subscription, SubscriptionAttemptList, SubscriptionList, SubscriptionPatch,
    SubscriptionRecovery, SubscriptionTest, Tenant, TenantList, TenantPatch,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Declares methods: doc lines, name, arguments, type of the answer, the call to send.
macro_rules! operations {
    ($(
        $(#[doc = $doc:literal])+
        fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $call:expr;
    )+) => {
        impl Client {$(
            $(#[doc = $doc])+
            ///
            /// # Errors
            /// As [`Client::send`].
            pub async fn $name(
                &self,
                $($argument: $type),*
            ) -> Result<Reply<$answer>, ClientError> {
                self.send($call).await
            }
        )+}
    };
}

// Events.
operations! {
    /// Sends an event. The event is durable when the call returns. Repeating the call with the same
    /// `idempotency_key` returns the first answer again.
    fn create_event(event: &NewEvent<'_>, idempotency_key: Option<&str>) -> Event =
        Call::post(&["events"]).json(event)?.header_optional(IDEMPOTENCY_KEY, idempotency_key)?;

    /// Sends a CloudEvent. Its `source` and `id` are the idempotency key.
    fn create_cloud_event(event: &CloudEvent<'_>) -> Event =
        Call::post(&["events"])
            .json(event)?
            .header("content-type", "application/cloudevents+json")?;

    /// Sends up to 1,000 events. Each has a result of its own.
    fn create_events(events: &NewBatch<'_>, idempotency_key: Option<&str>) -> BatchAnswer =
        Call::post(&["events", "batch"])
            .json(events)?
            .header_optional(IDEMPOTENCY_KEY, idempotency_key)?;

    /// Reads an event with its payload.
    fn get_event(id: impl Display) -> Event = Call::get(&["events", &id.to_string()]);

    /// Reads the delivery of an event so far.
    fn get_event_status(id: impl Display) -> DeliveryStatus =
        Call::get(&["events", &id.to_string(), "status"]);

    /// Deletes an event for good.
    fn delete_event(id: impl Display) -> () = Call::delete(&["events", &id.to_string()]);

    /// Acknowledges an event: it counts as delivered and leaves the inbox.
    fn acknowledge_event(id: impl Display, body: &Acknowledgement) -> Event =
        Call::post(&["events", &id.to_string(), "ack"]).json(body)?;

    /// Acknowledges up to 1,000 events. Each has a result of its own.
    fn acknowledge_events(body: &Acknowledgements) -> AcknowledgeAnswer =
        Call::post(&["events", "acknowledge", "batch"]).json(body)?;

    /// Gives an event back, so that it is delivered again later.
    fn refuse_event(id: impl Display, body: &Nack) -> Event =
        Call::post(&["events", &id.to_string(), "nack"]).json(body)?;

    /// Extends the lease of an event.
    fn extend_lease(id: impl Display, body: &LeaseExtension) -> LeasedEvent =
        Call::post(&["events", &id.to_string(), "lease"]).json(body)?;

    /// Makes the node deliver a failed or delivered event again.
    fn replay_event(id: impl Display) -> Event =
        Call::post(&["events", &id.to_string(), "replay"]);
}

// The inbox.
operations! {
    /// Lists a page of the inbox, oldest event first.
    fn list_inbox(query: &InboxQuery) -> InboxPage = query.call();

    /// Leases events. The caller acknowledges them or gives them back before the lease ends.
    fn lease_events(request: &LeaseRequest) -> LeaseAnswer =
        Call::post(&["inbox", "lease"]).json(request)?;

    /// Acknowledges a lease, or some of its events.
    fn acknowledge_lease(lease: &str, body: &LeaseAcknowledgement) -> AcknowledgeAnswer =
        Call::post(&["inbox", "leases", lease, "ack"]).json(body)?;

    /// Gives a lease back, or some of its events, so that they are delivered again later.
    fn nack_lease(lease: &str, body: &LeaseNack) -> AcknowledgeAnswer =
        Call::post(&["inbox", "leases", lease, "nack"]).json(body)?;

    /// Holds a lease longer, or some of its events.
    fn renew_lease(lease: &str, body: &LeaseRenewal) -> AcknowledgeAnswer =
        Call::post(&["inbox", "leases", lease, "extend"]).json(body)?;

    /// Makes the node deliver failed or delivered events again. If the answer has a cursor, more
    /// events match.
    fn replay_inbox(selection: &InboxReplay) -> ReplayAnswer =
        Call::post(&["inbox", "replay"]).json(selection)?;

    /// Polls for received events, newest first, as automation services do.
    fn poll_events(event_types: &[String], limit: Option<u32>) -> Vec<Event> =
        Call::get(&["triggers", "poll"])
            .query_optional("limit", limit)
            .query_each("event_type", event_types);
}

impl Client {
    /// Opens a stream of the events of these types (all if there are none), from behind the event
    /// `after` or from now.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn stream_inbox(
        &self,
        event_types: &[String],
        after: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        let call = Call::get(&["inbox", "stream"])
            .query_each("event_type", event_types)
            .header_optional("last-event-id", after)?;
        Ok(EventStream::new(self.clone(), self.open(call).await?))
    }
}

// Subscriptions.
operations! {
    /// Lists the subscriptions, without their secrets.
    fn list_subscriptions() -> SubscriptionList = Call::get(&["subscriptions"]);

    /// Creates a subscription. Only this answer contains the secret.
    fn create_subscription(body: &NewSubscription) -> Subscription =
        Call::post(&["subscriptions"]).json(body)?;

    /// Reads a subscription, without its secret.
    fn get_subscription(id: impl Display) -> Subscription =
        Call::get(&["subscriptions", &id.to_string()]);

    /// Changes the settings of a subscription that `body` names.
    fn update_subscription(id: impl Display, body: &SubscriptionPatch) -> Subscription =
        Call::patch(&["subscriptions", &id.to_string()]).json(body)?;

    /// Deletes a subscription for good.
    fn delete_subscription(id: impl Display) -> () =
        Call::delete(&["subscriptions", &id.to_string()]);

    /// Replaces the signing key. During the grace period webhooks carry a signature of the old key
    /// as well.
    fn rotate_subscription_secret(id: impl Display, body: &SecretRotation) -> Subscription =
        Call::post(&["subscriptions", &id.to_string(), "rotate"]).json(body)?;

    /// Makes the node send one webhook now; the answer tells how the endpoint responded.
    fn test_subscription(id: impl Display) -> SubscriptionTest =
        Call::post(&["subscriptions", &id.to_string(), "test"]);

    /// Makes the node send a subscription what it has missed, or only count that. If the answer has
    /// a cursor, there may be more.
    fn recover_subscription(
        id: impl Display,
        dry_run: bool,
        body: &SubscriptionRecovery
    ) -> RecoveryAnswer =
        Call::post(&["subscriptions", &id.to_string(), "recover"])
            .query("dry_run", &dry_run.to_string())
            .json(body)?;

    /// Lists the delivery attempts of a subscription, newest first.
    fn list_subscription_attempts(
        id: impl Display,
        query: &AttemptsQuery
    ) -> SubscriptionAttemptList =
        query.add_to(Call::get(&["subscriptions", &id.to_string(), "attempts"]));
}

// Keys, tenants, the audit, statistics, health.
operations! {
    /// Lists the keys of a tenant, without their secrets. Another tenant than the key's own needs
    /// an admin key.
    fn list_keys(tenant_id: Option<&str>) -> KeyList =
        Call::get(&["keys"]).query_optional("tenant_id", tenant_id);

    /// Creates a key. Only this answer contains the plain key.
    fn create_key(body: &NewKey) -> Key = Call::post(&["keys"]).json(body)?;

    /// Replaces a key by a new one. The old key works until the grace period ends.
    fn rotate_key(id: impl Display, body: &KeyRotation) -> Key =
        Call::post(&["keys", &id.to_string(), "rotate"]).json(body)?;

    /// Revokes a key. Every node rejects it within a second.
    fn revoke_key(id: impl Display) -> () = Call::delete(&["keys", &id.to_string()]);

    /// Lists the tenants. Needs an admin key.
    fn list_tenants(query: &PageQuery) -> TenantList = query.add_to(Call::get(&["tenants"]));

    /// Creates a tenant. Needs an admin key.
    fn create_tenant(body: &NewTenant) -> Tenant = Call::post(&["tenants"]).json(body)?;

    /// Reads a tenant. Needs an admin key.
    fn get_tenant(id: impl Display) -> Tenant = Call::get(&["tenants", &id.to_string()]);

    /// Changes the settings of a tenant that `body` names. Needs an admin key.
    fn update_tenant(id: impl Display, body: &TenantPatch) -> Tenant =
        Call::patch(&["tenants", &id.to_string()]).json(body)?;

    /// Lists the changes of a tenant's subscriptions, newest first.
    fn list_audit(query: &AuditQuery) -> AuditList = query.call();

    /// Reads the tenant's counts and rates.
    fn get_stats() -> Stats = Call::get(&["stats"]);

    /// Reads the node's health. Needs no key.
    fn get_health() -> Health = Call::get(&["health"]);

    /// Asks whether the process answers. Needs no key.
    fn get_livez() -> Probe = Call::get_root("livez");

    /// Asks whether the node is ready for traffic. Needs no key.
    fn get_readyz() -> Probe = Call::get_root("readyz");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    const DOCUMENT: &str = include_str!("../../../docs/openapi.json");
    const SOURCE: &str = include_str!("operations.rs");

    fn snake_case(name: &str) -> String {
        let letters = name.chars().map(|letter| match letter {
            'A'..='Z' => format!("_{}", letter.to_ascii_lowercase()),
            _ => letter.to_string(),
        });
        letters.collect()
    }

    #[test]
    fn each_operation_has_a_method() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|path| path.as_object().unwrap().values());
        let names = operations.filter_map(|operation| operation["operationId"].as_str());
        let expected: BTreeSet<String> = names.map(snake_case).collect();
        assert!(expected.len() > 30, "{expected:?}");
        let missing: Vec<_> =
            expected.iter().filter(|name| !SOURCE.contains(&format!("fn {name}("))).collect();
        assert!(missing.is_empty(), "OPERATIONS-1: {missing:?}");
    }
}
