//! Checks our signatures with another implementation: the PyPI package `standardwebhooks`.
//!
//! `TRIGGERS_TEST_PYTHON` names a Python interpreter with the package; if it lacks the package, the
//! test fails. Without the variable the test uses `python3`, and is skipped if that lacks the
//! package.

use super::{reaches, started, subscribe};
use crate::harness::receiver::{Reaction, Receiver};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const CHECK: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook
given = json.load(sys.stdin)
event = Webhook(given["secret"]).verify(given["body"], given["headers"])
print(event["event_id"])
"#;

const INTERPRETER: &str = "TRIGGERS_TEST_PYTHON";

fn python() -> String {
    std::env::var(INTERPRETER).unwrap_or_else(|_| "python3".to_owned())
}

fn has_package() -> bool {
    let output = Command::new(python()).args(["-c", "import standardwebhooks"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn check(given: &serde_json::Value) -> Output {
    let mut child = Command::new(python())
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut stdin = child.stdin.take().expect("the input is piped");
    stdin.write_all(given.to_string().as_bytes()).expect("python reads its input");
    drop(stdin);
    child.wait_with_output().expect("python ends")
}

#[tokio::test]
async fn the_published_package_accepts_our_signatures() {
    if !has_package() {
        assert!(
            std::env::var_os(INTERPRETER).is_none(),
            "the package standardwebhooks is missing for {}",
            python()
        );
        eprintln!(
            "SKIPPED: {} has no package standardwebhooks (pip install standardwebhooks)",
            python()
        );
        return;
    }
    let (_directory, node) = started().await;
    let (client, receiver) = (node.client(), Receiver::start(Reaction::Answer(200)).await);
    let secret = subscribe(&client, &receiver.url(), &[]).await.string("/secret");
    let id = client.accepted("order.created", "{\"text\":\"ключ 漢 😀 \\u00e9\"}").await;
    reaches(&client, &id, "delivered").await;
    let arrived = receiver.arrived().remove(0);
    let headers: serde_json::Map<String, serde_json::Value> =
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| (name.to_owned(), arrived.header(name).into()))
            .into_iter()
            .collect();
    let body = String::from_utf8(arrived.body.to_vec()).expect("UTF-8");
    let given =
        |body: &str| serde_json::json!({ "secret": secret, "headers": headers, "body": body });
    let good = check(&given(&body));
    assert!(good.status.success(), "WEBHOOKS-6: {}", String::from_utf8_lossy(&good.stderr));
    assert_eq!(String::from_utf8_lossy(&good.stdout).trim(), id);
    let bad = check(&given(&body.replace("order.created", "order.changed")));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("WebhookVerificationError"), "{bad:?}");
}
