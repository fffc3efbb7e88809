//! Tests of a node's start and stop, and of its health, metrics and documentation endpoints.
//!
//! - LIFECYCLE-T-1: a data directory has one node; a second one ends with exit code 4 and names the
//!   directory.
//! - LIFECYCLE-T-2: only the owner can read `dev.json`; its keys stay valid after any end of the
//!   node.
//! - LIFECYCLE-T-3: on SIGTERM the node finishes requests in progress and ends with exit code 0.
//! - LIFECYCLE-T-4: an invalid configuration ends with exit code 3 and lists all faults.
//!
//! The command line is tested in `lifecycle/command_line.rs`, `serve` in `lifecycle/serve.rs`.

mod command_line;
mod serve;

use crate::harness::{Call, Client, Node, STATE_DEADLINE_MS, Wire, listing, process, wait_until};
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_directory_belongs_to_one_node() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let failed = Node::run_to_failure(directory.path(), &[]).await;
    assert_eq!(failed.code, 4, "LIFECYCLE-T-1: {failed:?}");
    let shown = directory.path().to_string_lossy().into_owned();
    assert!(
        failed.stderr.contains(&shown),
        "LIFECYCLE-T-1: the message names the directory: {failed:?}"
    );
    node.client().accepted("still.serving", "{}").await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let address = node.dev.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let other = tempfile::tempdir().expect("a temporary directory can be made");
    let data = other.path().to_string_lossy().into_owned();
    let arguments =
        ["dev", "--data-dir", &data, "--listen", &address, "--admin-listen", "127.0.0.1:0"];
    let failed = process::run(&arguments, &[]).await;
    assert_eq!(failed.code, 4, "{failed:?}");
    assert!(failed.stderr.contains(&address), "the message names the address: {failed:?}");
}

#[tokio::test]
async fn the_keys_of_a_directory_stay() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let first = node.dev.clone();
    let id = node.client().accepted("kept.event", "{}").await;
    for is_hard in [true, false, true] {
        let metadata =
            std::fs::metadata(directory.path().join("dev.json")).expect("the file is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "LIFECYCLE-T-2");
        if is_hard {
            node.kill_hard();
        } else {
            assert_eq!(node.terminate().await, 0, "LIFECYCLE-T-3");
        }
        node = Node::start(directory.path(), &[]).await;
        let keys = (&node.dev.tenant_id, &node.dev.api_key, &node.dev.admin_key);
        assert_eq!(keys, (&first.tenant_id, &first.api_key, &first.admin_key), "LIFECYCLE-T-2");
        node.client().get(&format!("/v1/events/{id}")).await.expect(200);
    }
    assert_ne!(first.api_key, first.admin_key);
}

/// Tests whether the node is not ready: it says so, or it does not listen any more.
async fn is_unready(client: &Client) -> bool {
    client.try_send(Call::get("/readyz")).await.is_ok_and(|answer| answer.status == 200).eq(&false)
}

const BEGUN: &str = "{\"event_type\":\"begun.event\",\"payload\":{ \"n\" : 1 }}";

/// Sends the first half of a request, which the node starts to handle.
async fn half_a_request(node: &Node) -> Wire {
    let key = &node.dev.api_key;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: node\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        BEGUN.len()
    );
    let mut wire = Wire::connect(&node.dev.url).await;
    assert!(wire.write(head).await);
    let go_ahead = wire.answer().await.expect("the node answers 100 Continue");
    assert_eq!(go_ahead.status, 100, "the request has begun: {}", go_ahead.text());
    assert!(wire.write(&BEGUN[..20]).await);
    wire
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let _wire = half_a_request(&node).await;
    node.signal_termination();
    let client = node.client();
    wait_until(STATE_DEADLINE_MS, "the node drains", || is_unready(&client)).await;
    node.signal_termination();
    assert_eq!(node.exit_code().await, 5, "its request was not finished");
}

#[tokio::test]
async fn termination_finishes_requests_in_progress() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let mut wire = half_a_request(&node).await;

    node.signal_termination();
    let client = node.client();
    wait_until(STATE_DEADLINE_MS, "the node drains", || is_unready(&client)).await;
    Client::new(&node.dev.admin_url, "").anonymous().get("/livez").await.expect(200);
    assert!(wire.write(&BEGUN[20..]).await, "LIFECYCLE-T-3: the connection is still open");
    let answer = wire.answer().await.expect("LIFECYCLE-T-3: the request in progress is answered");
    let id = answer.expect(201).string("/event_id");
    assert_eq!(node.exit_code().await, 0, "LIFECYCLE-T-3");

    let node = Node::start(directory.path(), &[]).await;
    let listed = listing::all(&node.client(), "").await.events;
    assert_eq!(listed.iter().map(|event| event.event_id.as_str()).collect::<Vec<_>>(), [id]);
}

#[tokio::test]
async fn termination_ends_idle_connections() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let idle: Vec<Client> = (0..5).map(|_| node.client()).collect();
    for client in &idle {
        client.get("/v1/health").await.expect(200);
    }
    let _silent = Wire::connect(&node.dev.url).await;
    node.client().get("/v1/inbox").await.expect(200);
    assert_eq!(node.terminate().await, 0, "LIFECYCLE-T-3");
}

#[tokio::test]
async fn the_health_check_needs_no_key() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client().anonymous();
    for path in ["/livez", "/readyz"] {
        client.get(path).await.expect(200);
    }
    let health = client.get("/v1/health").await.expect(200).json();
    assert_eq!(health["status"], "healthy", "{health}");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"), "{health}");
    assert!(health["node"].as_str().is_some_and(|node| !node.is_empty()), "{health}");
    let timestamp = health["timestamp"].as_str().expect("a time");
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{health}");
}

#[tokio::test]
async fn only_the_admin_listener_serves_metrics() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    node.client().accepted("counted.event", "{}").await;
    let admin = Client::new(&node.dev.admin_url, &node.dev.admin_key);
    let metrics = admin.get("/metrics").await.expect(200);
    let text = String::from_utf8(metrics.body.to_vec()).expect("metrics are text");
    assert!(text.contains("# TYPE triggers_"), "{text}");
    assert!(
        !text.contains(&node.dev.api_key) && !text.contains(&node.dev.admin_key),
        "no key in the metrics"
    );
    node.client().get("/metrics").await.expect(404);
}

#[tokio::test]
async fn the_api_describes_itself() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(directory.path(), &[]).await;
    let client = node.client().anonymous();
    let document = client.get("/openapi.json").await.expect(200).json();
    assert!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    let paths = [
        "/v1/events",
        "/v1/events/batch",
        "/v1/events/{id}",
        "/v1/inbox",
        "/v1/inbox/lease",
        "/v1/inbox/stream",
        "/v1/keys",
        "/v1/health",
    ];
    for path in paths {
        assert!(
            document["paths"].get(path).is_some(),
            "no {path} in {:?}",
            document["paths"].as_object().map(|paths| paths.keys())
        );
    }
    let docs = client.get("/docs").await.expect(200);
    assert!(
        docs.header("content-type").starts_with("text/html"),
        "{}",
        docs.header("content-type")
    );
    let page = String::from_utf8(docs.body.to_vec()).expect("HTML is text").to_lowercase();
    let outside = [
        "src=\"http",
        "src='http",
        "src=\"//",
        "@import",
        "url(http",
        "url(//",
        "url(\"http",
        "<base",
    ];
    for fragment in outside {
        assert!(!page.contains(fragment), "the page loads from outside: {fragment}");
    }
    for link in page.split("<link").skip(1) {
        let tag = link.split('>').next().unwrap_or_default();
        assert!(
            !tag.contains("http") && !tag.contains("\"//"),
            "the page links an outside asset: {tag}"
        );
    }
}
