//! Tests of the command line with a node: events, keys and tenants, as text and as JSON (`--json`).
//!
//! Results go to standard output, notes to standard error. A request that the node rejects ends
//! with exit code 1 and the node's message; invalid arguments end with 2.

use crate::harness::process::{self, Finished};
use crate::harness::{Node, listing};
use serde_json::Value;

const UNKNOWN_ID: &str = "019a0000-0000-7000-8000-000000000000";

/// Runs a command with the node's address and a key in its environment.
async fn command(node: &Node, key: &str, arguments: &[&str]) -> Finished {
    process::run(arguments, &[("TRIGGERS_URL", node.dev.url.as_str()), ("TRIGGERS_API_KEY", key)])
        .await
}

/// Runs a command with the tenant's key; it must succeed.
async fn tenant(node: &Node, arguments: &[&str]) -> Finished {
    let finished = command(node, &node.dev.api_key, arguments).await;
    assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
    finished
}

/// Runs a command with the admin key; it must succeed.
async fn admin(node: &Node, arguments: &[&str]) -> Finished {
    let finished = command(node, &node.dev.admin_key, arguments).await;
    assert_eq!(finished.code, 0, "{arguments:?}: {finished:?}");
    finished
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("not JSON ({error}): {finished:?}"))
}

async fn start() -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    (directory, node)
}

#[tokio::test]
async fn events_are_sent_listed_shown_and_acknowledged() {
    let (_directory, node) = start().await;
    let payload = "{ \"n\" : 1.0 }";
    let sent = tenant(&node, &["events", "send", "--type", "cli.sent", "--payload", payload]).await;
    let id = sent.stdout.trim().to_owned();
    let read = node.client().get(&format!("/v1/events/{id}")).await.expect(200);
    assert_eq!(listing::raw_payload(&read), payload, "byte for byte");

    let listed = tenant(&node, &["events", "list"]).await.stdout;
    assert!(listed.contains(&id) && listed.contains("cli.sent"), "{listed}");
    let shown = tenant(&node, &["events", "show", &id]).await.stdout;
    assert!(shown.contains(&id) && shown.contains(payload), "{shown}");
    let acknowledged = tenant(&node, &["events", "ack", &id]).await.stdout;
    assert!(acknowledged.contains(&id) && acknowledged.contains("delivered"), "{acknowledged}");
    let listed = tenant(&node, &["events", "list", "--status", "delivered"]).await.stdout;
    assert!(listed.contains(&id), "{listed}");
    assert!(
        !tenant(&node, &["events", "list"]).await.stdout.contains(&id),
        "acknowledged events left the inbox"
    );
}

#[tokio::test]
async fn json_output_is_that_of_the_node() {
    let (_directory, node) = start().await;
    let send = ["events", "send", "--type", "cli.sent", "--payload", "{\"n\":1}", "--json"];
    let sent = json(&tenant(&node, &send).await);
    let id = sent["event_id"].as_str().expect("an id");
    assert_eq!(sent["status"], "received");
    let listed = json(&tenant(&node, &["events", "list", "--json"]).await);
    assert_eq!(listed["events"][0]["event_id"], id, "{listed}");
    assert_eq!(listed["pagination"]["total_count"], 1, "{listed}");
    let shown = json(&tenant(&node, &["events", "show", id, "--json"]).await);
    assert_eq!(shown["payload"]["n"], 1, "{shown}");
    let acknowledged = json(&tenant(&node, &["events", "ack", id, "--json"]).await);
    assert_eq!(acknowledged["success_count"], 1, "{acknowledged}");
}

#[tokio::test]
async fn an_event_is_one_line_of_json_whatever_its_payload() {
    let (_directory, node) = start().await;
    let payload = "{\n\t\"n\":\r\n[1.0,\n\"\\n\"]\n}";
    for _ in 0..3 {
        node.client().accepted("cli.lines", payload).await;
    }
    let id = node.client().accepted("cli.lines", payload).await;
    for (arguments, lines) in [
        (&["events", "list", "--json"][..], 1),
        (&["events", "list", "--all", "--limit", "2", "--json"], 4),
        (&["events", "show", &id, "--json"], 1),
        (&["events", "ack", &id, "--json"], 1),
        (&["events", "replay", &id, "--json"], 1),
    ] {
        let output = tenant(&node, arguments).await.stdout;
        let read: Vec<Value> = output
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {output}")))
            .collect();
        assert_eq!(read.len(), lines, "{arguments:?}: {output}");
        assert!(arguments.contains(&"ack") || output.contains("1.0"), "{arguments:?}: {output}");
    }
}

#[tokio::test]
async fn keys_are_created_used_and_revoked() {
    let (_directory, node) = start().await;
    let create = [
        "keys",
        "create",
        "--name",
        "reader",
        "--scope",
        "inbox:read",
        "--tenant",
        &node.dev.tenant_id,
    ];
    let made = admin(&node, &create).await;
    let key = made.stdout.trim();
    assert!(key.starts_with("trg_"), "the output is only the key: {made:?}");
    node.client().with_key(key).get("/v1/inbox").await.expect(200);
    let rejected = command(&node, key, &["events", "send", "--type", "a.b"]).await;
    assert_eq!(rejected.code, 1, "{rejected:?}");
    assert!(rejected.stderr.contains("FORBIDDEN"), "the node's message: {rejected:?}");

    let listed = admin(&node, &["keys", "list"]).await.stdout;
    assert!(!listed.contains(key), "a list shows no key: {listed}");
    let made = json(&admin(&node, &[&create[..], &["--json"]].concat()).await);
    let id = made["id"].as_str().expect("an id");
    let listed = admin(&node, &["keys", "list", "--json"]).await;
    assert!(listed.stdout.contains(id), "{listed:?}");
    serde_json::from_str::<Value>(&listed.stdout).expect("JSON");
    admin(&node, &["keys", "revoke", id]).await;
}

#[tokio::test]
async fn tenants_are_created_listed_and_changed() {
    let (_directory, node) = start().await;
    let made = json(
        &admin(&node, &["tenants", "create", "--name", "Acme Ltd", "--id", "acme", "--json"]).await,
    );
    assert_eq!(made["name"], "Acme Ltd", "{made}");
    let listed = admin(&node, &["tenants", "list"]).await.stdout;
    assert!(listed.contains("acme") && listed.contains("Acme Ltd"), "{listed}");
    admin(&node, &["tenants", "update", "acme", "--retention-days", "90"]).await;
    let listed = json(&admin(&node, &["tenants", "list", "--json"]).await).to_string();
    assert!(listed.contains("\"retention_days\":90"), "{listed}");
    let again = command(
        &node,
        &node.dev.admin_key,
        &["tenants", "create", "--name", "Other", "--id", "acme"],
    )
    .await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("CONFLICT"), "{again:?}");
}

#[tokio::test]
async fn every_failure_has_an_exit_code() {
    let (_directory, node) = start().await;
    let key = node.dev.api_key.as_str();
    let failed: [&[&str]; 2] = [&["events", "show", UNKNOWN_ID], &["events", "ack", UNKNOWN_ID]];
    for arguments in failed {
        let finished = command(&node, key, arguments).await;
        assert_eq!(finished.code, 1, "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.is_empty(), "{arguments:?} says why");
    }
    let wrong: [&[&str]; 5] = [
        &["nonsense"],
        &["events", "send", "--type", "a..b"],
        &["events", "list", "--limit", "0"],
        &["events", "send"],
        &["events", "send", "--type", "a", "--payload", "[1]"],
    ];
    for arguments in wrong {
        assert_eq!(command(&node, key, arguments).await.code, 2, "{arguments:?}");
    }
    let unreachable = process::run(
        &["events", "list"],
        &[("TRIGGERS_URL", "http://127.0.0.1:1"), ("TRIGGERS_API_KEY", key)],
    )
    .await;
    assert_eq!(unreachable.code, 1, "{unreachable:?}");
    let helped = process::run(&["--help"], &[]).await;
    assert_eq!(helped.code, 0);
    assert!(helped.stdout.contains("serve") && helped.stdout.contains("events"), "{helped:?}");
}
