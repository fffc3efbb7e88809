//! Fuzz bodies of the API: arbitrary bytes as request bodies and as cursors.
//!
//! `READERS-1`: a reader accepts the JSON of the value that it returned, and returns it again.

use super::cursor::{self, EventList};
use super::events::delivery;
use super::inbox::{acknowledge, lease, leases, replay};
use super::ingest::{batch, cloud_events, envelope};
use super::subscriptions::recover;
use super::subscriptions::request::{self as subscriptions, Rules};
use super::{keys, tenants};
use crate::http::body;
use crate::http::error::ApiError;
use crate::webhook::TargetPolicy;
use serde::Serialize;
use std::borrow::Cow;
use triggers_cluster_config::LimitOptions;
use triggers_protocol::json::check_payload;
use triggers_protocol::{SubscriptionId, TenantId, Timestamp};

const PAYLOAD_BYTES_MAX: usize = 1_000;
static TARGETS: TargetPolicy = TargetPolicy { is_https_required: true, allowed: Vec::new() };
const RULES: Rules<'static> = Rules { targets: &TARGETS, is_admin: true };

/// Reads a request body and writes the value again.
pub(crate) type Reader = fn(&[u8]) -> Result<String, ApiError>;

fn written<T: Serialize>(value: T) -> Result<String, ApiError> {
    serde_json::to_string(&value).map_err(ApiError::internal)
}

/// The reader of each request body, by the name of its schema.
pub(crate) const READERS: [(&str, Reader); 19] = [
    ("NewEvent", |data| written(envelope::parse(body::text(data)?, PAYLOAD_BYTES_MAX)?)),
    ("NewBatch", |data| written(batch::read(data, PAYLOAD_BYTES_MAX)?)),
    ("Acknowledgement", |data| written(delivery::acknowledgement(data)?)),
    ("Acknowledgements", |data| written(acknowledge::acknowledgements(data, 1_000)?)),
    ("Nack", |data| written(delivery::nack(data)?)),
    ("LeaseExtension", |data| written(delivery::extension(data)?)),
    ("LeaseAcknowledgement", |data| written(leases::acknowledgement(data, 200)?)),
    ("LeaseNack", |data| written(leases::nack(data, 200)?)),
    ("LeaseRenewal", |data| written(leases::renewal(data, 200)?)),
    ("LeaseRequest", |data| written(lease::read_request(data, &LimitOptions::default())?)),
    ("InboxReplay", |data| written(replay::read_request(data)?)),
    ("NewSubscription", |data| written(subscriptions::new_subscription(data, RULES)?)),
    ("SubscriptionPatch", |data| written(subscriptions::patch(data, RULES)?)),
    ("SubscriptionRecovery", |data| written(recover::read_request(data)?)),
    ("SecretRotation", |data| written(subscriptions::rotation(data)?)),
    ("NewKey", |data| written(keys::request::new_key(data, Timestamp::EPOCH)?)),
    ("KeyRotation", |data| written(keys::request::rotation(data)?)),
    ("NewTenant", |data| written(tenants::request::new_tenant(data)?)),
    ("TenantPatch", |data| written(tenants::request::tenant_patch(data)?)),
];

/// Reads arbitrary bytes as each request body.
pub fn fuzz_bodies(data: &[u8]) {
    for (schema, read) in READERS {
        if let Ok(text) = read(data) {
            let again = read(text.as_bytes());
            assert_eq!(again.as_ref(), Ok(&text), "READERS-1: {schema}");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(draft) = cloud_events::structured(text, PAYLOAD_BYTES_MAX) {
        let payload = &draft.event.payload;
        assert!(matches!(payload, Cow::Owned(_)) || text.contains(payload.get()), "INGEST-2");
        assert!(check_payload(payload.get()).is_ok(), "JSON-2");
    }
}

/// Opens arbitrary bytes as each kind of cursor.
pub fn fuzz_cursors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (secret, tenant) = ([7; 32], TenantId::from_random([7; 10]));
    let subscription = SubscriptionId::from_bytes([7; 16]);
    let is_opened = [
        cursor::open_event(&secret, EventList::Inbox, &tenant, text).is_ok(),
        cursor::open_event(&secret, EventList::Replay, &tenant, text).is_ok(),
        cursor::open_tenant(&secret, text).is_ok(),
        cursor::open_attempt(&secret, &tenant, subscription, text).is_ok(),
        cursor::open_audit(&secret, &tenant, text).is_ok(),
    ];
    assert_eq!(is_opened, [false; 5], "CURSOR-2");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A value that some member of some body could have.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z.*]{1,4}".prop_map(|text| format!("{text:?}")),
            (0u32..100_000).prop_map(|number| number.to_string()),
            prop::sample::select(vec![
                "null",
                "true",
                "{}",
                "[]",
                "[\"a.*\"]",
                "{\"x\":true}",
                "{\"n\" : 1.0}",
                "\"failed\"",
                "\"active\"",
                "\"beta\"",
                "\"ed25519\"",
                "[\"admin\"]",
                "\"https://EXAMPLE.com:443/\"",
                "\"2026-01-01T01:00:00.1234567+01:00\"",
                "{\"delays_seconds\":[1,2]}",
                "[{\"event_type\":\"a\",\"payload\":{}}]",
                "{\"initial\":1,\"factor\":1.5,\"max\":9,\"max_attempts\":3}",
                "\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"",
            ])
            .prop_map(str::to_owned),
        ]
    }

    /// The properties of the request schemas.
    fn properties() -> Vec<String> {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let schemas = &document["components"]["schemas"];
        let of = |schema: &str| schemas[schema]["properties"].as_object().unwrap().clone();
        READERS.into_iter().flat_map(|(schema, _)| of(schema)).map(|(name, _)| name).collect()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes(data: Vec<u8>) {
            fuzz_bodies(&data);
            fuzz_cursors(&data);
        }

        #[test]
        fn objects_that_resemble_bodies(
            members in prop::collection::vec((prop::sample::select(properties()), value()), 0..6),
        ) {
            let text = members.iter().map(|(name, value)| format!("{name:?}:{value}"));
            fuzz_bodies(format!("{{{}}}", text.collect::<Vec<_>>().join(",")).as_bytes());
        }

        #[test]
        fn texts_that_resemble_cursors(text in "[A-Za-z0-9_-]{0,110}") {
            fuzz_cursors(text.as_bytes());
        }
    }
}
