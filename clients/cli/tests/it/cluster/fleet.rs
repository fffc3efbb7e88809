//! The nodes of a cluster as processes that share a PostgreSQL server of the test.
//!
//! The cluster's times are a quarter of the defaults, so that a dead node is detected within
//! seconds.

use super::gate::{Gate, Target};
use crate::harness::{Client, STATE_DEADLINE_MS, process, wait_until};
use serde_json::Value;
use server::Server;
use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::sync::Arc;
use tempfile::NamedTempFile;

#[path = "../../../../../store/tests/it/postgres/server.rs"]
pub mod server;

pub const ADMIN_KEY: &str = "trg_live_tIhktQZz6jGrhWoYcRex9XRm0XJeJvEukRTUw7EE8Ve2jCVMA";
const TIMES: [(&str, &str); 5] = [
    ("TRIGGERS__CLUSTER__HEARTBEAT_INTERVAL_MS", "500"),
    ("TRIGGERS__CLUSTER__STOP_AFTER_MS", "2000"),
    ("TRIGGERS__CLUSTER__TAKE_OVER_AFTER_MS", "3000"),
    ("TRIGGERS__LISTEN__DRAIN_DELAY_MS", "1000"),
    ("TRIGGERS__LIMITS__RATE_LIMIT_PER_MINUTE", "1000000"),
];

/// A cluster of node processes.
pub struct Fleet {
    pub server: Arc<Server>,
    pub nodes: BTreeMap<String, FleetNode>,
    /// Additional environment variables of every node; `{name}` stands for its name.
    more: Vec<(String, String)>,
}

/// A node of the fleet.
pub struct FleetNode {
    child: Child,
    log: NamedTempFile,
    /// URL of the public listener.
    pub url: String,
    pub admin_url: String,
    /// Gate between the node and the database.
    pub database: Gate,
    /// Gate between the node and the nodes that connect to it.
    pub peers: Gate,
}

/// Creates a tenant through one node.
pub async fn tenant(admin: &Client, id: &str, more: Value) -> Value {
    admin.post("/v1/tenants", &serde_json::json!({ "id": id, "name": "Tenant" })).await.expect(201);
    let scopes = ["events:write", "inbox:read", "inbox:ack"];
    let mut body = serde_json::json!({ "name": "k", "tenant_id": id, "scopes": scopes });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    admin.post("/v1/keys", &body).await.expect(201).json()
}

impl Fleet {
    /// Starts nodes with these names; `None` if PostgreSQL is not installed.
    pub async fn start(names: &[&str]) -> Option<Self> {
        Self::start_with(names, Vec::new()).await
    }

    /// Like `start`, with additional variables; `{name}` stands for the node's name.
    pub async fn start_with(names: &[&str], more: Vec<(String, String)>) -> Option<Self> {
        let server = tokio::task::spawn_blocking(|| Server::start(&[])).await.unwrap()?;
        let mut fleet = Self { server: Arc::new(server), nodes: BTreeMap::new(), more };
        for name in names {
            fleet.add(name).await;
        }
        Some(fleet)
    }

    /// Starts or restarts a node and waits until it is ready.
    pub async fn add(&mut self, name: &str) {
        let database = Gate::to(Some(Target::Unix(self.server.socket()))).await;
        let peers = Gate::to(None).await;
        let url = format!("postgresql://triggers@{}/postgres?sslmode=disable", database.address);
        let advertised = peers.address.to_string();
        let own = [
            ("TRIGGERS_ADMIN_KEY", ADMIN_KEY),
            ("TRIGGERS__NODE__NAME", name),
            ("TRIGGERS__STORE__ENGINE", "postgres"),
            ("TRIGGERS__STORE__POSTGRES_URL", &url),
            ("TRIGGERS__LISTEN__ADDRESS", "127.0.0.1:0"),
            ("TRIGGERS__ADMIN__ADDRESS", "127.0.0.1:0"),
            ("TRIGGERS__CLUSTER__ADDRESS", "127.0.0.1:0"),
            ("TRIGGERS__CLUSTER__ADVERTISED_ADDRESS", &advertised),
            ("TRIGGERS__LOG__FORMAT", "json"),
        ];
        let more: Vec<_> = self
            .more
            .iter()
            .map(|(key, value)| (key.as_str(), value.replace("{name}", name)))
            .collect();
        let more = more.iter().map(|(key, value)| (*key, value.as_str()));
        let envs: Vec<_> = own.into_iter().chain(TIMES).chain(more).collect();
        let log = process::log_file();
        let mut child = process::spawn(&["serve"], &envs, &log, &log);
        let mut started = None;
        for _ in 0..STATE_DEADLINE_MS / 10 {
            let text = process::text(&log);
            if let Some(listening) = line(&text, "peer listener ready") {
                peers
                    .leads_to(Target::Tcp(listening["address"].as_str().unwrap().parse().unwrap()));
            }
            started = line(&text, "started");
            if started.is_some() || child.try_wait().unwrap().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let Some(started) = started else {
            // The process may have ended already.
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} does not serve:\n{}", process::text(&log));
        };
        let address =
            |field: &str| format!("http://{}", started[field].as_str().expect("an address"));
        let (url, admin_url) = (address("address"), address("admin_address"));
        self.nodes
            .insert(name.to_owned(), FleetNode { child, log, url, admin_url, database, peers });
    }

    pub fn node(&self, name: &str) -> &FleetNode {
        &self.nodes[name]
    }

    pub fn client(&self, name: &str) -> Client {
        Client::new(&self.node(name).url, ADMIN_KEY)
    }

    /// Stops a node with SIGTERM and returns its exit code.
    pub async fn terminate(&mut self, name: &str) -> i32 {
        let mut member = self.nodes.remove(name).unwrap();
        member.signal("TERM");
        member.exit_code().await
    }

    pub fn kill(&mut self, name: &str) {
        let mut member = self.nodes.remove(name).unwrap();
        member.child.kill().unwrap();
        member.child.wait().unwrap();
    }

    /// Waits until all partitions are owned and no node has more than 1.3 times its share.
    pub async fn balanced(&self) {
        let names: Vec<&String> = self.nodes.keys().collect();
        for name in &names {
            wait_until(
                STATE_DEADLINE_MS,
                &format!("an even cluster, as {name} sees it"),
                || async {
                    let Some(view) = self.node(name).view().await else { return false };
                    let share = view["partitions"]["count"].as_f64().unwrap() / names.len() as f64;
                    let members = view["members"].as_array().unwrap();
                    let is_fair = |member: &Value| {
                        let owned = member["partitions_owned"].as_f64().unwrap();
                        let is_one = names.iter().any(|name| member["name"] == name.as_str());
                        owned == 0.0 || (is_one && owned <= 1.3 * share && owned >= 0.5 * share)
                    };
                    let serving =
                        members.iter().filter(|member| member["partitions_owned"] != 0).count();
                    view["partitions"]["owned"] == view["partitions"]["count"]
                        && serving == names.len()
                        && members.iter().all(is_fair)
                },
            )
            .await;
        }
    }

    /// The owner of a partition, as the nodes report it.
    pub async fn owner(&self, partition: u64) -> String {
        let view = self.nodes.values().next().unwrap().view().await.unwrap();
        let owners = view["partitions"]["owners"].as_array().unwrap();
        let owner =
            owners.iter().find(|owner| owner["partition"] == partition).expect("it has an owner");
        owner["owner"].as_str().unwrap().to_owned()
    }
}

impl FleetNode {
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "the signal reached the node");
    }

    /// The cluster view of this node.
    pub async fn view(&self) -> Option<Value> {
        view(&self.admin_url).await
    }

    /// Waits for the process to end and returns its exit code.
    pub async fn exit_code(&mut self) -> i32 {
        let status = process::wait(&mut self.child).await;
        status.expect("the node ended in time").code().unwrap_or(-1)
    }

    /// Tests whether the log has a line with this message.
    pub fn has_logged(&self, message: &str) -> bool {
        line(&process::text(&self.log), message).is_some()
    }

    /// The number of log lines with this message.
    pub fn times_logged(&self, message: &str) -> usize {
        process::text(&self.log).lines().filter(|line| line.contains(message)).count()
    }

    pub fn tail(&self) -> String {
        let text = process::text(&self.log);
        let lines: Vec<&str> = text.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for FleetNode {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- end of the log of {} ---\n{}", self.url, self.tail());
        }
    }
}

/// The answer to `GET /v1/cluster`.
pub async fn view(admin_url: &str) -> Option<Value> {
    let answer =
        Client::new(admin_url, "").try_send(crate::harness::Call::get("/v1/cluster")).await.ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// The first log line with this message, as JSON.
fn line(log: &str, message: &str) -> Option<Value> {
    log.lines()
        .filter(|line| line.contains(message))
        .find_map(|line| serde_json::from_str(line).ok())
}
