//! Tests of requests to a node that does not own the tenant: it answers like the owner.
//!
//! - ROUTES-1: the rate limit of a key applies to all nodes together.
//! - ROUTES-2: a key that is revoked through one node is rejected by all.
//! - ROUTES-3: large pages and streams arrive complete through any node.
//! - ROUTES-4: errors keep their codes and the request id.
//! - ROUTES-5: a forwarded stream ends with the node that the client is connected to, and does not
//!   delay the stop of that node.

use super::fleet::{Fleet, tenant};
use crate::harness::{Call, Client, STATE_DEADLINE_MS, wait_until};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_answers_as_the_owner_does() {
    let Some(mut fleet) = Fleet::start(&["node-1", "node-2"]).await else { return };
    fleet.balanced().await;
    let admin = fleet.client("node-1");
    let clients = |key: &str| ["node-1", "node-2"].map(|name| fleet.client(name).with_key(key));

    let key = tenant(&admin, "whole", json!({})).await;
    let both = clients(key["key"].as_str().unwrap());
    large_pages(&both).await;
    let [mut first, mut second] = streams(&both, key["key"].as_str().unwrap(), &fleet).await;
    errors(&both).await;
    codings(&both).await;

    let key = tenant(&admin, "metered", json!({ "rate_limit_per_minute": 60 })).await;
    rates(&clients(key["key"].as_str().unwrap())).await;

    let key = tenant(&admin, "revoked", json!({})).await;
    let both = clients(key["key"].as_str().unwrap());
    for client in &both {
        client.accepted("a.b", "{}").await;
    }
    admin.delete(&format!("/v1/keys/{}", key["id"].as_str().unwrap())).await.expect(204);
    for client in &both {
        wait_until(STATE_DEADLINE_MS, "the key is rejected everywhere", || async {
            client.send(Call::event("a.b", "{}")).await.status == 401
        })
        .await;
    }

    let owner = fleet.owner(super::partition_of("whole")).await;
    let (other, stream) =
        if owner == "node-1" { ("node-2", &mut second) } else { ("node-1", &mut first) };
    let (code, ended) = tokio::join!(fleet.terminate(other), async {
        while let Some(frame) = stream.frame().await {
            frame.expect("ROUTES-5: it ends in order");
        }
    });
    assert_eq!((code, ended), (0, ()), "ROUTES-5");
}

async fn large_pages(both: &[Client; 2]) {
    let text = "x".repeat(60_000);
    let event = json!({ "event_type": "large.one", "payload": { "text": text } });
    let body = json!({ "events": vec![event; 40] }).to_string();
    for client in both {
        client.send(Call::post("/v1/events/batch", body.clone())).await.expect(201);
    }
    let mut pages = Vec::new();
    for client in both {
        pages.push(client.get("/v1/inbox?limit=80").await.expect(200).body);
    }
    assert!(pages[0].len() > 4 << 20 && pages[0] == pages[1], "ROUTES-3");
}

async fn codings(both: &[Client; 2]) {
    for (client, coding) in both.iter().zip(["gzip", "zstd"]) {
        let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(5_000));
        let event = Call::event("coded.event", &payload).coded(coding);
        let answer = client.send(event.header("accept-encoding", coding)).await.expect(201);
        assert_eq!(answer.header("content-encoding"), coding, "ROUTES-3");
        assert_eq!(answer.expanded().json()["payload"]["text"], "x".repeat(5_000), "ROUTES-3");
        let unknown = Call::event("coded.event", "{}").header("content-encoding", "br");
        let rejected = client.send(unknown).await.expect(415);
        assert_eq!(rejected.header("accept-encoding"), "gzip, zstd", "ROUTES-4");
    }
    let read = "/v1/inbox?limit=80&event_type=large.one";
    let plain = both[0].get(read).await.expect(200);
    for client in both {
        let call = Call::get(read).header("accept-encoding", "zstd");
        let answer = client.send(call).await.expect(200);
        assert!(answer.body.len() < plain.body.len() / 10, "ROUTES-3");
        assert_eq!(answer.expanded().body, plain.body, "ROUTES-3");
    }
}

/// Opens a stream at each node; an event posted to one node arrives in both streams.
async fn streams(both: &[Client; 2], key: &str, fleet: &Fleet) -> [Incoming; 2] {
    let http = legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<bytes::Bytes>>();
    let mut bodies = Vec::new();
    let last = both[0].accepted("stream.first", "{}").await;
    for name in ["node-1", "node-2"] {
        let request = hyper::Request::get(format!("{}/v1/inbox/stream", fleet.node(name).url))
            .header("x-api-key", key)
            .header("last-event-id", &last)
            .body(Empty::new())
            .unwrap();
        let response = http.request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        bodies.push(response.into_body());
    }
    let id = both[1].accepted("stream.news", "{}").await;
    for body in &mut bodies {
        let mut text = String::new();
        let found = async {
            while !text.contains(&id) {
                let frame = body.frame().await.expect("the stream goes on").unwrap();
                text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap()));
            }
        };
        let found = tokio::time::timeout(Duration::from_millis(STATE_DEADLINE_MS), found).await;
        assert!(found.is_ok(), "ROUTES-3: {text}");
    }
    bodies.try_into().expect("two were opened")
}

async fn errors(both: &[Client; 2]) {
    let mut codes = Vec::new();
    for client in both {
        let call =
            Call::post("/v1/events", "{\"event_type\":7}").header("x-request-id", "the-same");
        let answer = client.send(call).await.expect(400);
        assert_eq!(answer.header("x-request-id"), "the-same", "ROUTES-4");
        assert_eq!(answer.string("/error/request_id"), "the-same", "ROUTES-4");
        codes.push((answer.string("/error/code"), answer.json()["error"]["details"].clone()));
        client.get("/v1/events/00000000-0000-7000-8000-000000000000").await.expect(404);
        client.with_key("trg_live_nonsense").get("/v1/inbox").await.expect(401);
    }
    assert_eq!(codes[0], codes[1], "ROUTES-4");
}

async fn rates(both: &[Client; 2]) {
    let mut last = u64::MAX;
    for turn in 0..10 {
        let answer = both[turn % 2].send(Call::event("a.b", "{}")).await.expect(201);
        let remaining = answer.header("x-ratelimit-remaining").parse().unwrap();
        assert!(remaining < last, "ROUTES-1: {remaining} after {last}");
        last = remaining;
    }
    let mut rejected = [false; 2];
    for turn in 0..200 {
        let answer = both[turn % 2].send(Call::event("a.b", "{}")).await;
        rejected[turn % 2] |= answer.status == 429;
        if rejected == [true; 2] {
            return;
        }
    }
    panic!("ROUTES-1: 200 requests at once are too many for a rate of 60 a minute: {rejected:?}");
}
