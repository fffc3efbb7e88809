//! Tests of `serve`: rejected configurations, and a production node configured by its environment.
//!
//! The node listens on a free port; the tests find the address in the log.

use crate::harness::{Client, STATE_DEADLINE_MS, process, wait_until};
use serde_json::json;
use std::process::{Child, Command};
use tempfile::NamedTempFile;

/// An admin key for these tests.
const ADMIN_KEY: &str = "trg_live_ThisKeyIsForTestsOnly00000000000000000000000o34wY";

#[tokio::test]
async fn every_fault_of_a_configuration_is_listed() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("triggers.toml");
    let text = "[listen]\naddress = \"nowhere\"\nadress = \"127.0.0.1:0\"\n\n\
                [limits]\npage_events_max = 0\n\n[nonsense]\nx = 1\n";
    std::fs::write(&file, text).expect("a file can be written");
    let file = file.to_string_lossy().into_owned();
    let envs =
        [("TRIGGERS__LISTEN__BODY_TIMEOUT_MS", "soon"), ("TRIGGERS__STORE__MAP_BYTES_MAX", "1")];
    let named = [
        "listen.address",
        "listen.adress",
        "limits.page_events_max",
        "nonsense",
        "TRIGGERS__LISTEN__BODY_TIMEOUT_MS",
        "TRIGGERS__STORE__MAP_BYTES_MAX",
        &file,
    ];
    for arguments in [vec!["serve", "--config", &file], vec!["config", "check", "--config", &file]]
    {
        let finished = process::run(&arguments, &envs).await;
        assert_eq!(finished.code, 3, "LIFECYCLE-T-4: {finished:?}");
        for name in named {
            assert!(
                finished.stderr.contains(name),
                "LIFECYCLE-T-4: {name} is not listed: {finished:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_missing_or_malformed_configuration_is_rejected() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let missing = directory.path().join("missing.toml").to_string_lossy().into_owned();
    let broken = directory.path().join("broken.toml");
    std::fs::write(&broken, "[listen\naddress = ").expect("a file can be written");
    let broken = broken.to_string_lossy().into_owned();
    for file in [&missing, &broken] {
        let finished = process::run(&["serve", "--config", file.as_str()], &[]).await;
        assert_eq!(finished.code, 3, "LIFECYCLE-T-4: {finished:?}");
        assert!(
            finished.stderr.contains(file.as_str()),
            "LIFECYCLE-T-4: the file is named: {finished:?}"
        );
    }
}

/// A running `triggers serve`, which is killed when dropped.
struct Serving {
    child: Child,
    client: Client,
    _log: NamedTempFile,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `serve` on free ports and reads its address from the log.
async fn serve(envs: &[(&str, &str)]) -> Serving {
    let log = process::log_file();
    let mut all = vec![
        ("TRIGGERS__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("TRIGGERS__ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    all.extend_from_slice(envs);
    let child = process::spawn(&["serve"], &all, &log, &log);
    let mut serving =
        Serving { child, client: Client::new("http://127.0.0.1:1", ADMIN_KEY), _log: log };
    let found = std::sync::Mutex::new(None);
    wait_until(STATE_DEADLINE_MS, "serve logs its address and answers there", || async {
        for address in addresses(&process::text(&serving._log)) {
            let client = Client::new(&format!("http://{address}"), ADMIN_KEY);
            if client
                .try_send(crate::harness::Call::get("/v1/tenants"))
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                *found.lock().expect("no task panics while holding the lock") = Some(client);
                return true;
            }
        }
        false
    })
    .await;
    let found = found.into_inner().expect("no task panics while holding the lock");
    serving.client = found.expect("an address was found");
    serving
}

/// Finds every `127.0.0.1:<port>` in a text.
fn addresses(log: &str) -> Vec<String> {
    let ports = log.split("127.0.0.1:").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u16>().ok().filter(|port| *port != 0)
    });
    ports.map(|port| format!("127.0.0.1:{port}")).collect()
}

#[tokio::test]
async fn a_production_node_starts_with_the_admin_key_of_its_environment() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let data = directory.path().to_string_lossy().into_owned();
    let envs =
        [("TRIGGERS__STORE__DATA_DIRECTORY", data.as_str()), ("TRIGGERS_ADMIN_KEY", ADMIN_KEY)];
    let mut serving = serve(&envs).await;
    let admin = serving.client.clone();
    admin.post("/v1/tenants", &json!({ "name": "Acme", "id": "acme" })).await.expect(201);
    let key = admin
        .post("/v1/keys", &json!({ "name": "first", "tenant_id": "acme" }))
        .await
        .expect(201)
        .string("/key");
    assert!(key.starts_with("trg_"), "{key}");
    let id = admin.with_key(&key).accepted("first.event", "{ }").await;
    assert!(!directory.path().join("dev.json").exists(), "a production node stores no plain keys");

    let pid = serving.child.id().to_string();
    assert!(
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill is installed").success()
    );
    let status = process::wait(&mut serving.child).await.expect("serve ends");
    assert_eq!(status.code(), Some(0), "LIFECYCLE-T-3");

    let serving = serve(&envs).await;
    serving.client.with_key(&key).get(&format!("/v1/events/{id}")).await.expect(200);
}
