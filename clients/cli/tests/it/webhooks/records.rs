//! Tests of what is recorded and kept: secrets in their grace period, attempts, what a changed
//! subscription still gets, and the recovery of what it missed.

use super::{reaches, started, subscribe};
use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Call, Client, STATE_DEADLINE_MS, listing, wait_until};
use serde_json::{Value, json};
use triggers_protocol::Timestamp;
use triggers_protocol::webhook::{SignedHeaders, VerifyingKey, verify};

#[tokio::test]
async fn a_rotation_without_a_place_is_refused_and_every_secret_keeps_signing() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(200)).await);
    let made = subscribe(&client, &receiver.url(), &[]).await;
    let path = format!("/v1/subscriptions/{}/rotate", made.string("/id"));
    let mut secrets = vec![made.string("/secret")];
    let refused = loop {
        let answer = client.post(&path, &json!({ "grace_seconds": 3_600 })).await;
        if answer.status != 200 {
            break answer.expect(409);
        }
        secrets.push(answer.string("/secret"));
        assert!(secrets.len() < 10, "WEBHOOKS-8: no rotation is refused");
    };
    assert_eq!((secrets.len(), refused.string("/error/code").as_str()), (5, "CONFLICT"));
    let message = refused.string("/error/message");
    let end = message.split(' ').find_map(|word| Timestamp::parse(word.trim_end_matches(':')).ok());
    assert!(end.is_some(), "it names the end of the oldest: {message}");
    let id = client.accepted("order.created", "{}").await;
    reaches(&client, &id, "delivered").await;
    let arrived = receiver.arrived().remove(0);
    let headers = SignedHeaders {
        id: arrived.header("webhook-id"),
        timestamp: arrived.header("webhook-timestamp"),
        signatures: arrived.header("webhook-signature"),
    };
    let at = arrived.event()["last_attempt_at"].as_str().expect("a time").to_owned();
    let at = Timestamp::parse(&at).expect("a time");
    for secret in &secrets {
        let key = VerifyingKey::parse(secret).expect("the shown secret is a key");
        assert_eq!(verify(&key, headers, &arrived.body, at), Ok(()), "WEBHOOKS-8");
    }
    client.post(&path, &json!({ "grace_seconds": 0 })).await.expect(200);
}

/// The listed attempts of a subscription, newest first.
async fn listed(client: &Client, subscription: &str) -> Vec<Value> {
    let path = format!("/v1/subscriptions/{subscription}/attempts");
    client.get(&path).await.expect(200).json()["attempts"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn each_of_many_subscriptions_lists_its_attempts() {
    const SUBSCRIPTIONS: usize = 70;
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(500)).await);
    let mut ids = Vec::new();
    for _ in 0..SUBSCRIPTIONS {
        ids.push(subscribe(&client, &receiver.url(), &[0]).await.string("/id"));
    }
    let event = client.accepted("order.created", "{}").await;
    let attempts = reaches(&client, &event, "failed").await;
    assert_eq!(attempts.len(), 2 * SUBSCRIPTIONS, "WEBHOOKS-7: the event lists each attempt");
    for (attempt, number) in attempts.iter().zip(1..) {
        assert_eq!(attempt["number"], json!(number), "oldest first");
    }
    for id in &ids {
        let of_it = attempts.iter().filter(|attempt| attempt["subscription_id"] == json!(id));
        let list = listed(&client, id).await;
        assert_eq!((of_it.count(), list.len()), (2, 2), "WEBHOOKS-7: {id}: {list:?}");
        for attempt in list {
            assert_eq!(
                (&attempt["outcome"], &attempt["http_status"]),
                (&json!("failed"), &json!(500))
            );
            assert!(
                attempt["finished_at"].is_string() && attempt["error"].is_string(),
                "{attempt}"
            );
        }
    }
    client.delete(&format!("/v1/events/{event}")).await.expect(204);
}

#[tokio::test]
async fn an_attempt_that_the_tenant_ends_is_listed_with_its_end() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Hang).await);
    let id = subscribe(&client, &receiver.url(), &[]).await.string("/id");
    for (count, why) in [(1, "acknowledged"), (2, "removed")] {
        let event = client.accepted("order.created", "{}").await;
        wait_until(STATE_DEADLINE_MS, "it arrives", || async { receiver.count() == count }).await;
        match why {
            "acknowledged" => {
                client.post(&format!("/v1/events/{event}/ack"), &json!({})).await.expect(200);
            }
            _ => drop(client.delete(&format!("/v1/events/{event}")).await.expect(204)),
        }
        let list = listed(&client, &id).await;
        assert_eq!((list.len(), &list[0]["event_id"]), (count, &json!(event)), "WEBHOOKS-7");
        let error = list[0]["error"].as_str().expect("an error");
        assert!(error.contains(why) && list[0]["finished_at"].is_string(), "{}", list[0]);
    }
}

#[tokio::test]
async fn a_retry_that_the_subscription_no_longer_selects_is_skipped() {
    let (_directory, node) = started().await;
    let client = node.client();
    let (receiver, other) = (
        Receiver::start(Reaction::Answer(500)).await,
        Receiver::start(Reaction::Answer(200)).await,
    );
    let made = subscribe(&client, &receiver.url(), &[2, 1, 1]).await.string("/id");
    let alone = client.accepted("order.created", "{}").await;
    let body = json!({ "target_url": other.url(), "event_types": ["order.paid"] });
    client.post("/v1/subscriptions", &body).await.expect(201);
    let both = client.accepted("order.paid", "{}").await;
    wait_until(STATE_DEADLINE_MS, "the first attempts", || async { receiver.count() == 2 }).await;
    let change = Call::new("PATCH", format!("/v1/subscriptions/{made}"));
    client.send(change.body(r#"{"event_types":["invoice.*"]}"#)).await.expect(200);
    for (event, status) in [(&alone, "failed"), (&both, "delivered")] {
        reaches(&client, event, status).await;
        let shown = client.get(&format!("/v1/events/{event}/status")).await.expect(200).json();
        let webhooks = shown["webhooks"].as_array().expect("a list");
        let to_it = webhooks.iter().find(|webhook| webhook["subscription_id"] == json!(made));
        assert_eq!(to_it.expect("it is shown")["status"], "skipped", "{shown}");
    }
    assert_eq!(receiver.count(), 2, "no retry is sent");
    let event = client.get(&format!("/v1/events/{alone}")).await.expect(200).json();
    let why = event["last_error"].as_str().expect("an error");
    assert!(why.contains("does not select"), "{why}");
    assert_eq!(event["attempts"], json!(1), "a skipped webhook is no attempt");
}

#[tokio::test]
async fn what_a_subscription_missed_is_recovered_once() {
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(410)).await);
    let other = Receiver::start(Reaction::Answer(200)).await;
    let body = json!({ "target_url": receiver.url(), "event_types": ["order.*"] });
    let made = client.post("/v1/subscriptions", &body).await.expect(201);
    let path = format!("/v1/subscriptions/{}", made.string("/id"));
    let earlier = client.accepted("order.created", "{}").await;
    reaches(&client, &earlier, "failed").await;
    let since = client.get(&path).await.expect(200).string("/disabled_at");
    let body = json!({ "target_url": other.url(), "event_types": ["order.paid"] });
    client.post("/v1/subscriptions", &body).await.expect(201);
    let mut missed = vec![client.accepted("order.paid", "{}").await];
    reaches(&client, &missed[0], "delivered").await;
    for _ in 0..120 {
        missed.push(client.accepted("order.created", "{}").await);
    }
    client.accepted("invoice.paid", "{}").await;
    let handled = client.accepted("order.created", "{}").await;
    client.post(&format!("/v1/events/{handled}/ack"), &json!({})).await.expect(200);
    let recovered = async |query: &str| {
        client.post(&format!("{path}/recover{query}"), &json!({ "since": since })).await
    };
    let counted = recovered("?dry_run=true").await.expect(202).json();
    assert_eq!((&counted["recovered"], &counted["has_more"]), (&json!(121), &json!(false)));
    assert_eq!(recovered("").await.expect(409).string("/error/code"), "CONFLICT");
    receiver.set(Reaction::Answer(200));
    client.send(Call::new("PATCH", path.clone()).body(r#"{"status":"active"}"#)).await.expect(200);
    assert_eq!(recovered("").await.expect(202).json()["recovered"], json!(121));
    for id in &missed {
        reaches(&client, id, "delivered").await;
    }
    assert_eq!(recovered("").await.expect(202).json()["recovered"], json!(0), "once");
    let mut received = receiver.ids();
    assert_eq!(received.remove(&earlier), Some(1), "it was accepted before");
    assert_eq!(received.len(), missed.len());
    assert!(missed.iter().all(|id| received.get(id) == Some(&1)), "{received:?}");
    assert_eq!(other.count(), 1, "other subscriptions get nothing again");
    assert_eq!(listing::received_count(&client).await, 1, "what it does not select stays");
    let counts = client.get("/v1/stats").await.expect(200).json()["counts"].clone();
    assert_eq!((&counts["delivered"], &counts["queued"]), (&json!(122), &json!(0)), "{counts}");
    let bad = client.post(&format!("{path}/recover?dry_run=x"), &json!({ "since": since })).await;
    assert_eq!(bad.expect(400).string("/error/details/0/field"), "dry_run");
}
