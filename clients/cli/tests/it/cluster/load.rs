//! Writers and consumers that run while the test changes the cluster, and check their answers.
//!
//! During the test they check that ids of one writer increase, that acknowledged events do not
//! reappear, and that no epoch of a partition is served by two nodes. At the end they check that
//! every event that was answered with 201 exists once.

use super::fleet::{self, Fleet, view};
use crate::harness::{Call, Client, listing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A node as a load balancer sees it.
struct Backend {
    admin_url: String,
    url: String,
    is_ready: AtomicBool,
}

/// The state that all tasks of the load share.
pub struct Load {
    backends: Mutex<BTreeMap<String, Arc<Backend>>>,
    stop: AtomicBool,
    /// Requests that failed from the view of a client.
    failures: Mutex<Vec<String>>,
    pub answered: AtomicU64,
    /// Tenant, writer and number of each accepted event, with its id.
    accepted: Mutex<BTreeMap<(usize, usize, u64), String>>,
    acknowledged: Mutex<BTreeSet<String>>,
    /// The node that has served each partition and epoch.
    served: Mutex<BTreeMap<(u64, u64), String>>,
    keys: Vec<String>,
}

pub struct Running {
    pub load: Arc<Load>,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Creates tenants and starts writers and consumers.
    pub async fn start(fleet: &Fleet, tenants: usize) -> Self {
        let name = fleet.nodes.keys().next().unwrap();
        let admin = fleet.client(name);
        let mut keys = Vec::new();
        for tenant in 0..tenants {
            let key = fleet::tenant(&admin, &format!("t-{tenant}"), serde_json::json!({})).await;
            keys.push(key["key"].as_str().unwrap().to_owned());
        }
        let load = Arc::new(Load {
            backends: Mutex::default(),
            stop: AtomicBool::new(false),
            failures: Mutex::default(),
            answered: AtomicU64::new(0),
            accepted: Mutex::default(),
            acknowledged: Mutex::default(),
            served: Mutex::default(),
            keys,
        });
        load.follow(fleet);
        let mut tasks = vec![tokio::spawn(load.clone().watch())];
        for tenant in 0..tenants {
            for writer in 0..writers(tenant) {
                tasks.push(tokio::spawn(load.clone().write(tenant, writer)));
            }
        }
        tasks.push(tokio::spawn(load.clone().acknowledge(0)));
        tasks.push(tokio::spawn(load.clone().acknowledge(1)));
        Self { load, tasks }
    }

    /// Stops the load and checks the stored events.
    pub async fn finish(self, fleet: &Fleet) {
        self.load.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("no check has failed");
        }
        assert!(!self.load.acknowledged.lock().unwrap().is_empty(), "consumers were at work");
        for (tenant, key) in self.load.keys.iter().enumerate() {
            let client = fleet.client(fleet.nodes.keys().next().unwrap()).with_key(key);
            let mut stored: BTreeMap<String, String> = BTreeMap::new();
            for status in ["received", "delivered"] {
                let listing =
                    listing::follow(&client, &format!("status={status}&limit=200"), None).await;
                assert_eq!(
                    listing.total_count,
                    listing.events.len() as u64,
                    "the count is that of the events"
                );
                for event in listing.events {
                    let twice =
                        stored.insert(event.event_id.clone(), event.payload.get().to_owned());
                    assert!(twice.is_none(), "{} is listed twice", event.event_id);
                    let is_acknowledged =
                        self.load.acknowledged.lock().unwrap().contains(&event.event_id);
                    assert!(
                        !is_acknowledged || status == "delivered",
                        "{} came back",
                        event.event_id
                    );
                }
            }
            let accepted = self.load.accepted.lock().unwrap();
            let accepted = accepted.iter().filter(|((of, ..), _)| *of == tenant);
            let mut count = 0;
            for ((_, writer, number), id) in accepted {
                let payload = stored
                    .get(id)
                    .unwrap_or_else(|| panic!("{id} of {tenant}/{writer}/{number} is lost"));
                assert_eq!(*payload, payload_of(*writer, *number), "{id} is what was sent");
                count += 1;
            }
            // The last event of each writer may exist without an answer.
            assert!(
                stored.len() - count <= writers(tenant),
                "{} events exist without an answer",
                stored.len() - count
            );
        }
    }
}

/// Number of writers of a tenant; the first tenant has the highest load.
fn writers(tenant: usize) -> usize {
    if tenant == 0 { 6 } else { 2 }
}

fn payload_of(writer: usize, number: u64) -> String {
    format!("{{\"writer\":{writer},\"number\":{number}}}")
}

impl Load {
    /// Continues with the present nodes of the fleet.
    pub fn follow(&self, fleet: &Fleet) {
        let mut backends = self.backends.lock().unwrap();
        backends.retain(|name, backend| {
            fleet.nodes.get(name).is_some_and(|member| member.url == backend.url)
        });
        for (name, member) in &fleet.nodes {
            backends.entry(name.clone()).or_insert_with(|| {
                let (url, admin_url) = (member.url.clone(), member.admin_url.clone());
                Arc::new(Backend { admin_url, url, is_ready: AtomicBool::new(true) })
            });
        }
    }

    /// Returns and clears the failures since the last call.
    pub fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.failures.lock().unwrap())
    }

    /// Waits until `more` further requests are answered.
    pub async fn answers(&self, more: u64) {
        let target = self.answered.load(Ordering::Relaxed) + more;
        crate::harness::wait_until(60_000, "requests are answered", || async {
            self.answered.load(Ordering::Relaxed) >= target
        })
        .await;
    }

    fn all(&self) -> Vec<Arc<Backend>> {
        self.backends.lock().unwrap().values().cloned().collect()
    }

    /// Polls the readiness and the served partitions of the nodes.
    async fn watch(self: Arc<Self>) {
        while !self.stop.load(Ordering::SeqCst) {
            let polls = self.all().into_iter().map(|backend| {
                let load = self.clone();
                tokio::spawn(async move { load.poll(&backend).await })
            });
            for poll in polls.collect::<Vec<_>>() {
                poll.await.expect("no epoch is served by two");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn poll(&self, backend: &Backend) {
        let client = Client::new(&backend.url, "");
        let ready =
            tokio::time::timeout(Duration::from_millis(500), client.try_send(Call::get("/readyz")))
                .await;
        backend
            .is_ready
            .store(matches!(ready, Ok(Ok(answer)) if answer.status == 200), Ordering::Relaxed);
        let Ok(Some(view)) =
            tokio::time::timeout(Duration::from_millis(500), view(&backend.admin_url)).await
        else {
            return;
        };
        let incarnation = view["incarnation"].as_str().unwrap().to_owned();
        let mut served = self.served.lock().unwrap();
        for partition in view["served"].as_array().unwrap() {
            let key =
                (partition["partition"].as_u64().unwrap(), partition["epoch"].as_u64().unwrap());
            let by = served.entry(key).or_insert_with(|| incarnation.clone());
            assert_eq!(*by, incarnation, "two have served partition and epoch {key:?}");
        }
    }

    /// Clients of the ready nodes, starting with a different node for each `turn`.
    fn clients(&self, turn: u64, key: &str) -> Vec<Client> {
        let all = self.all();
        let ready: Vec<_> =
            all.iter().filter(|backend| backend.is_ready.load(Ordering::Relaxed)).collect();
        let mut chosen: Vec<_> = if ready.is_empty() { all.iter().collect() } else { ready };
        let first = turn as usize % chosen.len().max(1);
        chosen.rotate_left(first);
        chosen.into_iter().map(|backend| Client::new(&backend.url, key)).collect()
    }

    /// Posts events; each one is repeated until it is accepted.
    async fn write(self: Arc<Self>, tenant: usize, writer: usize) {
        let (mut last, mut number) = (String::new(), 0_u64);
        let mut turn = (tenant + writer) as u64;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            let body = format!(
                "{{\"event_type\":\"n.{writer}\",\"payload\":{}}}",
                payload_of(writer, number)
            );
            loop {
                turn += 1;
                let client = self.clients(turn, &self.keys[tenant]).remove(0);
                let call = Call::post("/v1/events", body.clone())
                    .header("idempotency-key", &format!("{tenant}-{writer}-{number}"));
                let answer =
                    tokio::time::timeout(Duration::from_secs(5), client.try_send(call)).await;
                match answer {
                    Ok(Ok(answer)) if answer.status == 201 => {
                        let id = answer.string("/event_id");
                        assert!(id > last, "ids of one writer grow: {last} then {id}");
                        last.clone_from(&id);
                        self.accepted.lock().unwrap().insert((tenant, writer, number), id);
                        self.answered.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Ok(Ok(answer)) => {
                        self.fail(format!("write {}: {}", answer.status, answer.text()))
                    }
                    Ok(Err(error)) => self.fail(format!("write: {error}")),
                    Err(_) => self.fail("write: no answer in time".to_owned()),
                }
                if self.stop.load(Ordering::SeqCst) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Leases and acknowledges events.
    async fn acknowledge(self: Arc<Self>, tenant: usize) {
        let mut turn = 0;
        while !self.stop.load(Ordering::SeqCst) {
            turn += 1;
            let client = self.clients(turn, &self.keys[tenant]).remove(0);
            let page = client.try_send(Call::get("/v1/inbox?limit=20")).await;
            let ids: Vec<String> = match page {
                Ok(page) if page.status == 200 => {
                    let events = page.json()["events"].as_array().unwrap().clone();
                    events
                        .iter()
                        .map(|event| event["event_id"].as_str().unwrap().to_owned())
                        .collect()
                }
                Ok(page) => {
                    self.fail(format!("list {}: {}", page.status, page.text()));
                    continue;
                }
                Err(error) => {
                    self.fail(format!("list: {error}"));
                    continue;
                }
            };
            for id in &ids {
                assert!(
                    !self.acknowledged.lock().unwrap().contains(id),
                    "{id} was acknowledged and came back"
                );
            }
            if !ids.is_empty() {
                let body = serde_json::json!({ "event_ids": ids }).to_string();
                match client.try_send(Call::post("/v1/events/acknowledge/batch", body)).await {
                    Ok(answer) if answer.status == 200 => {
                        self.acknowledged.lock().unwrap().extend(ids)
                    }
                    Ok(answer) => {
                        self.fail(format!("acknowledge {}: {}", answer.status, answer.text()))
                    }
                    Err(error) => self.fail(format!("acknowledge: {error}")),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn fail(&self, what: String) {
        self.failures.lock().unwrap().push(what);
    }
}
