//! CloudEvents 1.0 over HTTP in all modes: complete ones are accepted, others are rejected.
//!
//! `type` becomes the event type, `time` the timestamp, `data` the payload, and `source` with `id`
//! the idempotency key when no key is sent.
//!
//! `bodies.rs` tests bodies that are not JSON; here is only one of each shape.

use super::probe::Probe;
use crate::harness::{Answer, Call, listing};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

fn complete(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/shop", "type": "order.created",
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json", "data": { "n": 1 },
    })
}

fn structured(event: &Value) -> Call {
    Call::post("/v1/events", event.to_string())
        .header("content-type", "application/cloudevents+json")
}

fn check_event(answer: &Answer) {
    assert_eq!(answer.string("/event_type"), "order.created");
    let timestamp: jiff::Timestamp = answer.string("/timestamp").parse().expect("RFC 3339");
    assert_eq!(timestamp, "2026-01-01T00:00:00Z".parse().expect("RFC 3339"));
}

#[tokio::test]
async fn structured_events_need_their_attributes() {
    let mut probe = Probe::start(&[]).await;
    let first = probe.accepts(structured(&complete("1")), 1).await;
    check_event(&first);
    assert_eq!(first.json()["payload"], json!({ "n": 1 }));
    let again = probe.accepts(structured(&complete("1")), 0).await;
    assert_eq!(
        again.string("/event_id"),
        first.string("/event_id"),
        "source and id are the idempotency key"
    );
    assert_eq!(again.header("idempotent-replayed"), "true");
    let charset = Call::post("/v1/events", complete("2").to_string())
        .header("content-type", "application/cloudevents+json; charset=UTF-8");
    probe.accepts(charset, 1).await;
    for attribute in ["specversion", "id", "source", "type"] {
        for value in [None, Some(json!("")), Some(json!(5)), Some(json!(null))] {
            let mut event = complete("3");
            let members = event.as_object_mut().expect("an object");
            match value {
                None => drop(members.remove(attribute)),
                Some(value) => drop(members.insert(attribute.to_owned(), value)),
            }
            probe.rejects(structured(&event), 400, &["VALIDATION_ERROR"]).await;
        }
    }
    let wrong = [
        ("specversion", json!("0.3")),
        ("type", json!("not a type")),
        ("datacontenttype", json!(5)),
        ("data_base64", json!("e30=")),
        ("time", json!("never")),
    ];
    for (attribute, value) in wrong {
        let mut event = complete("4");
        event[attribute] = value;
        probe.rejects(structured(&event), 400, &["VALIDATION_ERROR"]).await;
    }
    let call =
        Call::post("/v1/events", "nonsense").header("content-type", "application/cloudevents+json");
    probe.rejects(call, 400, &["INVALID_JSON"]).await;
}

fn binary(without: &str, body: &str) -> Call {
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-id", "b-1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.created"),
        ("ce-time", "2026-01-01T00:00:00Z"),
    ];
    let call = Call::post("/v1/events", body.to_owned());
    attributes
        .iter()
        .filter(|(name, _)| *name != without)
        .fold(call, |call, (name, value)| call.header(name, value))
}

#[tokio::test]
async fn binary_events_need_their_headers() {
    let mut probe = Probe::start(&[]).await;
    let first = probe.accepts(binary("", "{ \"n\" : 1.0 }"), 1).await;
    check_event(&first);
    assert_eq!(listing::raw_payload(&first), "{ \"n\" : 1.0 }", "byte for byte");
    let again = probe.accepts(binary("", "{ \"n\" : 1.0 }"), 0).await;
    assert_eq!(again.string("/event_id"), first.string("/event_id"));
    for missing in ["ce-specversion", "ce-id", "ce-source", "ce-type"] {
        probe.rejects(binary(missing, "{\"n\":1}"), 400, &["VALIDATION_ERROR"]).await;
    }
    probe.rejects(binary("", "nonsense"), 400, &["VALIDATION_ERROR"]).await;
}

#[tokio::test]
async fn data_of_every_kind_has_the_same_payload_in_every_mode() {
    let mut probe = Probe::start(&[]).await;
    let json = "application/json";
    let cases: [(Option<&str>, &[u8], Value); 9] = [
        (Some(json), b"", json!({})),
        (None, b"", json!({})),
        (Some(json), b"null", json!({})),
        (Some(json), b"{\"n\":1}", json!({ "n": 1 })),
        (None, b"{\"n\":1}", json!({ "n": 1 })),
        (Some(json), b"[1,2]", json!({ "data": [1, 2], "datacontenttype": json })),
        (Some(json), b"\"text\"", json!({ "data": "text", "datacontenttype": json })),
        (
            Some("text/xml; charset=utf-8"),
            b"<a/>",
            json!({ "data": "<a/>", "datacontenttype": "text/xml; charset=utf-8" }),
        ),
        (
            Some("image/png"),
            b"\x89PNG",
            json!({ "data_base64": "iVBORw==", "datacontenttype": "image/png" }),
        ),
    ];
    for (number, (content_type, bytes, payload)) in cases.into_iter().enumerate() {
        let mut event = complete("");
        let members = event.as_object_mut().expect("an object");
        members.remove("data");
        members.remove("datacontenttype");
        if let Some(content_type) = content_type {
            members.insert("datacontenttype".to_owned(), json!(content_type));
        }
        let mut events = vec![event.clone()];
        events[0]["data_base64"] = json!(STANDARD.encode(bytes));
        if bytes.is_empty() {
            events.push(event.clone());
            events.push(event.clone());
            events[2]["data"] = json!(null);
        } else if let Ok(data) = serde_json::from_slice::<Value>(bytes) {
            event["data"] = data;
            events.push(event);
        }
        for (sent, mut event) in events.into_iter().enumerate() {
            event["id"] = json!(format!("{number}-{sent}"));
            let accepted = probe.accepts(structured(&event), 1).await;
            assert_eq!(accepted.json()["payload"], payload, "{event}");
            event["id"] = json!(format!("{number}-{sent}-batch"));
            let batch = Call::post("/v1/events/batch", json!([event]).to_string())
                .header("content-type", "application/cloudevents-batch+json");
            let id = probe.accepts(batch, 1).await.string("/results/0/event_id");
            let read = probe.client.get(&format!("/v1/events/{id}")).await.expect(200);
            assert_eq!(read.json()["payload"], payload, "{event}");
        }
        let mut call = Call::post("/v1/events", bytes.to_vec())
            .header("ce-specversion", "1.0")
            .header("ce-id", &format!("{number}-binary"))
            .header("ce-source", "/shop")
            .header("ce-type", "order.created");
        if let Some(content_type) = content_type {
            call = call.header("content-type", content_type);
        }
        let accepted = probe.accepts(call, 1).await;
        assert_eq!(accepted.json()["payload"], payload, "binary, {content_type:?}");
    }
    for wrong in [json!(5), json!("e30"), json!("not base64")] {
        let mut event = complete("wrong");
        event.as_object_mut().expect("an object").remove("data");
        event["data_base64"] = wrong;
        probe.rejects_field(structured(&event), "data_base64").await;
    }
    let large = "x".repeat((1 << 20) - 40);
    for name in ["data", "data_base64"] {
        let mut event = complete("large");
        event["datacontenttype"] = json!("text/plain");
        event.as_object_mut().expect("an object").remove("data");
        event[name] = json!(large);
        probe.rejects(structured(&event), 413, &["PAYLOAD_TOO_LARGE"]).await;
    }
}

/// Ways to send one CloudEvent; each differs from the others in white space, data and `time`.
fn spellings(id: &str) -> Vec<(&'static str, Call)> {
    let spaced = format!(
        "{{ \"data\" : {{ \"n\" : 1.0 }}, \"type\":\"order.changed\", \"id\":\"{id}\", \
         \"source\":\"\\u002fshop\", \"specversion\":\"1.0\" }}"
    );
    let spaced = || Call::post("/v1/events", spaced.clone());
    let type_of_batch = "application/cloudevents-batch+json";
    let batch = |path: &str| {
        Call::post(path, format!("[ {} ]", complete(id))).header("content-type", type_of_batch)
    };
    let headers = [("ce-specversion", "1.0"), ("ce-source", "%2Fshop"), ("ce-type", "order.new")];
    let binary = headers
        .iter()
        .fold(Call::post("/v1/events", "{\"n\":2}"), |call, (name, value)| call.header(name, value))
        .header("ce-id", &format!("\"{id}\""));
    vec![
        ("structured", structured(&complete(id))),
        ("spaced", spaced().header("content-type", "application/cloudevents+json")),
        ("binary", binary.clone()),
        ("binary with a time", binary.header("ce-time", "2026-02-01T00:00:00Z")),
        ("batch", batch("/v1/events/batch")),
        ("batch to the single path", batch("/v1/events")),
    ]
}

#[tokio::test]
async fn source_and_id_are_one_event_in_every_mode() {
    let mut probe = Probe::start(&[]).await;
    let event_id = |answer: &Answer| {
        let json = answer.json();
        json.pointer("/results/0/event_id").or(json.pointer("/event_id")).cloned()
    };
    for first_mode in 0..spellings("").len() {
        let id = format!("same-{first_mode}");
        let (first_name, call) = spellings(&id).swap_remove(first_mode);
        let first = probe.accepts(call, 1).await;
        assert_eq!(first.header("idempotent-replayed"), "", "{first_name}");
        for (name, call) in spellings(&id) {
            let what = format!("{first_name}, then {name}");
            let again = probe.accepts(call, 0).await;
            assert_eq!(again.header("idempotent-replayed"), "true", "{what}");
            assert_eq!(event_id(&again), event_id(&first), "{what}");
            if first.json().get("payload").is_some() && again.json().get("payload").is_some() {
                assert_eq!(again.body, first.body, "{what}: byte for byte");
            }
        }
    }
    for (source, id) in [("/shop", "other"), ("/other", "same-0"), ("/sho", "p\nsame-0")] {
        let mut event = complete(id);
        event["source"] = json!(source);
        let other = probe.accepts(structured(&event), 1).await;
        assert_eq!(other.header("idempotent-replayed"), "", "{source} {id}");
    }
}

#[tokio::test]
async fn a_key_in_a_header_goes_before_source_and_id() {
    let mut probe = Probe::start(&[]).await;
    let keyed = |event: &Value| structured(event).header("idempotency-key", "key-1");
    let first = probe.accepts(keyed(&complete("1")), 1).await;
    let again = probe.accepts(keyed(&complete("2")), 0).await;
    assert_eq!(again.body, first.body);
    let mut changed = complete("1");
    changed["data"] = json!({ "n": 2 });
    probe.rejects(keyed(&changed), 422, &["IDEMPOTENCY_KEY_REUSED"]).await;
}

#[tokio::test]
async fn batched_events_fail_one_by_one() {
    let mut probe = Probe::start(&[]).await;
    let batch = |path: &str, events: &Value| {
        Call::post(path, events.to_string())
            .header("content-type", "application/cloudevents-batch+json")
    };
    let mut bad = complete("b");
    bad["type"] = json!("not a type");
    let answer = probe
        .accepts(batch("/v1/events/batch", &json!([complete("a"), bad, complete("c")])), 2)
        .await
        .json();
    assert_eq!(answer["success_count"], 2, "{answer}");
    assert_eq!(answer["failure_count"], 1, "{answer}");
    let failed = answer["results"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|result| result.get("error").is_some());
    assert_eq!(failed.map(|result| &result["index"]), Some(&json!(1)), "{answer}");
    probe.rejects(batch("/v1/events/batch", &json!([])), 400, &["VALIDATION_ERROR"]).await;
    probe.rejects(batch("/v1/events/batch", &json!([bad])), 400, &["VALIDATION_ERROR"]).await;
    probe
        .rejects(
            batch("/v1/events/batch", &complete("d")),
            400,
            &["VALIDATION_ERROR", "INVALID_JSON"],
        )
        .await;
}
