//! Tests of what is recorded and kept: secrets in their grace period, attempts, what a changed
//! subscription still gets, and the recovery of what it missed.

use super::{reaches, started, subscribe};
use crate::harness::receiver::{Reaction, Receiver};
use serde_json::json;
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
