//! Tests of `triggers subscriptions …` and `triggers listen` with a real node.

use super::{reaches, started};
use crate::harness::receiver::{Reaction, Receiver};
use crate::harness::{Node, STATE_DEADLINE_MS, process, wait_until};
use serde_json::Value;
use std::process::Command;

fn envs(node: &Node) -> [(&str, &str); 2] {
    [("TRIGGERS_URL", node.dev.url.as_str()), ("TRIGGERS_API_KEY", node.dev.api_key.as_str())]
}

#[tokio::test]
async fn the_command_line_manages_subscriptions() {
    let (_directory, node) = started().await;
    let receiver = Receiver::start(Reaction::Answer(200)).await;
    let run = async |arguments: &[&str]| process::run(arguments, &envs(&node)).await;
    let url = receiver.url();
    let made =
        run(&["subscriptions", "create", "--target-url", &url, "--type", "order.*", "--json"])
            .await;
    assert_eq!(made.code, 0, "{made:?}");
    let made: Value = serde_json::from_str(&made.stdout).expect("JSON");
    assert!(made["secret"].as_str().expect("a secret").starts_with("whsec_"), "{made}");
    let id = made["id"].as_str().expect("an id");
    let listed = run(&["subscriptions", "list"]).await;
    assert!(listed.stdout.contains(id) && listed.stdout.contains("order.*"), "{listed:?}");
    let tested = run(&["subscriptions", "test", id]).await;
    assert_eq!(tested.code, 0, "{tested:?}");
    assert_eq!(receiver.arrived()[0].event()["event_type"], "ping");
    let event = node.client().accepted("order.created", "{}").await;
    reaches(&node.client(), &event, "delivered").await;
    let attempts = run(&["subscriptions", "attempts", id]).await;
    assert!(attempts.stdout.contains(&event), "{attempts:?}");
    receiver.set(Reaction::Answer(500));
    let tested = run(&["subscriptions", "test", id]).await;
    assert!(tested.code == 1 && tested.stderr.contains("answered 500"), "{tested:?}");
    let disabled = run(&["subscriptions", "disable", id]).await;
    assert_eq!(disabled.code, 0, "{disabled:?}");
    let shown = run(&["subscriptions", "show", id]).await;
    assert!(shown.stdout.contains("disabled"), "{shown:?}");
    assert_eq!(run(&["subscriptions", "delete", id]).await.code, 0);
    assert_eq!(run(&["subscriptions", "show", id]).await.code, 1);
}

/// A running `triggers listen`, which is killed when dropped.
struct Listening(std::process::Child);

impl Drop for Listening {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn listen_prints_webhooks_and_deletes_its_subscription() {
    let (_directory, node) = started().await;
    let client = node.client();
    let (stdout, stderr) = (process::log_file(), process::log_file());
    let mut child =
        Listening(process::spawn(&["listen", "--json"], &envs(&node), &stdout, &stderr));
    let subscriptions =
        async || client.get("/v1/subscriptions").await.expect(200).json()["subscriptions"].clone();
    wait_until(STATE_DEADLINE_MS, "it has subscribed", || async {
        subscriptions().await != serde_json::json!([])
    })
    .await;
    let id = client.accepted("order.created", "{\"n\":1}").await;
    reaches(&client, &id, "delivered").await;
    wait_until(STATE_DEADLINE_MS, "it has printed", || async {
        process::text(&stdout).contains(&id)
    })
    .await;
    let line: Value =
        serde_json::from_str(process::text(&stdout).lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&line["verified"], &line["webhook_id"]),
        (&Value::Bool(true), &Value::from(id)),
        "{line}"
    );
    let status = Command::new("kill")
        .args(["-INT", &child.0.id().to_string()])
        .status()
        .expect("kill is installed");
    assert!(status.success());
    let ended = process::wait(&mut child.0).await.expect("it ends");
    assert_eq!(ended.code(), Some(0), "{}", process::text(&stderr));
    assert_eq!(subscriptions().await, serde_json::json!([]), "its subscription is gone");
}
