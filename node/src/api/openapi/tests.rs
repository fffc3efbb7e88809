//! Compares the document with the committed one, the contract's routes, its own references, the
//! parsers, and the guide of errors.

pub(crate) mod live;

use super::*;
use crate::api::document_json;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

fn document() -> Value {
    serde_json::from_str(&document_json()).unwrap()
}

/// Method and path of every operation.
fn documented(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
        methods
            .into_iter()
            .map(|method| format!("{} {path}", method.to_uppercase()))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_committed_document_is_the_one_served() {
    let current = document_json();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &current).unwrap();
    }
    let committed = std::fs::read_to_string(Path::new(GOLDEN)).unwrap_or_default();
    assert!(
        committed == current,
        "OPENAPI-3: docs/openapi.json is old; run the tests with UPDATE_GOLDEN=1"
    );
}

#[test]
fn the_contract_s_operations_are_in_the_document() {
    let expected = [
        "POST /v1/events",
        "POST /v1/events/batch",
        "POST /v1/events/acknowledge/batch",
        "GET /v1/events/{id}",
        "DELETE /v1/events/{id}",
        "GET /v1/events/{id}/status",
        "POST /v1/events/{id}/ack",
        "POST /v1/events/{id}/nack",
        "POST /v1/events/{id}/lease",
        "POST /v1/events/{id}/replay",
        "GET /v1/inbox",
        "POST /v1/inbox/lease",
        "POST /v1/inbox/leases/{id}/ack",
        "POST /v1/inbox/leases/{id}/nack",
        "POST /v1/inbox/leases/{id}/extend",
        "POST /v1/inbox/replay",
        "GET /v1/inbox/stream",
        "GET /v1/triggers/poll",
        "GET /v1/stats",
        "POST /v1/subscriptions",
        "GET /v1/subscriptions",
        "GET /v1/subscriptions/{id}",
        "PATCH /v1/subscriptions/{id}",
        "DELETE /v1/subscriptions/{id}",
        "POST /v1/subscriptions/{id}/rotate",
        "POST /v1/subscriptions/{id}/test",
        "POST /v1/subscriptions/{id}/recover",
        "GET /v1/subscriptions/{id}/attempts",
        "POST /v1/keys",
        "GET /v1/keys",
        "DELETE /v1/keys/{id}",
        "POST /v1/keys/{id}/rotate",
        "POST /v1/tenants",
        "GET /v1/tenants",
        "GET /v1/tenants/{id}",
        "PATCH /v1/tenants/{id}",
        "GET /v1/audit",
        "GET /v1/health",
        "GET /livez",
        "GET /readyz",
    ];
    let expected: BTreeSet<_> = expected.into_iter().map(str::to_owned).collect();
    assert_eq!(documented(&document()), expected);
}

#[test]
fn every_reference_leads_somewhere() {
    fn visit(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("$ref") {
                    let pointer = reference.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
                }
                members.values().for_each(|member| visit(member, document));
            }
            Value::Array(items) => items.iter().for_each(|item| visit(item, document)),
            _ => {}
        }
    }
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    visit(&document, &document);
}

#[test]
fn operations_have_ids_tags_and_errors() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{what}: its id is not its own"
            );
            assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{what}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("500"), "OPENAPI-2: {what}");
            let authenticated = operation["security"][0]["api_key"].is_array();
            assert_eq!(responses.contains_key("401"), authenticated, "OPENAPI-2: {what}");
            assert_eq!(
                responses.contains_key("415"),
                operation["requestBody"].is_object(),
                "OPENAPI-2: {what}"
            );
        }
    }
}

#[test]
fn the_described_scopes_are_those_of_the_protocol() {
    let document = document();
    let described: Vec<_> =
        document["components"]["schemas"]["Scope"]["enum"].as_array().unwrap().clone();
    assert_eq!(described, triggers_protocol::Scope::ALL.map(|scope| Value::from(scope.as_str())));
}

#[test]
fn examples_of_requests_are_accepted() {
    let document = document();
    let example = |schema: &str| document["components"]["schemas"][schema]["example"].to_string();
    for (schema, read) in crate::api::fuzzing::READERS {
        read(example(schema).as_bytes())
            .unwrap_or_else(|error| panic!("OPENAPI-4: {schema}: {error}"));
    }
    crate::api::ingest::cloud_events::structured(&example("CloudEvent"), 1_000).unwrap();
}

/// The name of the schema of an operation's JSON body.
fn body_schema(operation: &Value) -> Option<&str> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let reference = [&schema["$ref"], &schema["oneOf"][1]["$ref"]].map(Value::as_str);
    reference.into_iter().flatten().next()?.rsplit('/').next()
}

#[tokio::test]
async fn every_property_of_a_body_is_read_and_named() {
    let live = live::LiveEdge::start().await;
    let key = live.key("acme", triggers_protocol::Scope::ALL.into_iter().collect()).await;
    let document = document();
    let mut count = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(schema) = body_schema(operation) else { continue };
            let properties = &document["components"]["schemas"][schema]["properties"];
            for property in properties.as_object().unwrap().keys() {
                let path = path.replace("{id}", "019b76da-a800-7000-8000-000000000001");
                let body = serde_json::json!({ property: [[]] }).to_string();
                let answer = live.send(&method.to_uppercase(), &path, &key, &body).await;
                let details = answer.json["error"]["details"].as_array().unwrap();
                let named = details.iter().any(|detail| {
                    let field = detail["field"].as_str().unwrap();
                    field == property || field.starts_with(&format!("{property}["))
                });
                assert!(named, "OPENAPI-4: {method} {path} {property}: {}", answer.json);
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

/// Every code has one section, in the order of the codes, that begins with its status.
#[test]
fn the_guide_has_a_section_for_each_error_code() {
    let guide = include_str!("../../../../docs/reference/error-codes.md");
    let sections: Vec<_> = guide.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), ErrorCode::ALL.len());
    for (section, code) in sections.into_iter().zip(ErrorCode::ALL) {
        let start = format!("{}\n\nStatus {}. ", code.as_str(), code.status());
        assert!(section.starts_with(&start), "the section of {}: {section}", code.as_str());
        for part in [
            "- Causes: ",
            "- What to do: ",
            "```json\n",
            &format!("\"code\":\"{}\"", code.as_str()),
        ] {
            assert!(section.contains(part), "{}: no {part}", code.as_str());
        }
    }
}
