//! The receivers of webhooks: HTTP servers on loopback that count what arrives.
//!
//! Until they are opened they answer every webhook with 503 and a long `Retry-After`. Then they
//! answer with 204. The ids of the webhooks are kept to recognise duplicates, 16 bytes each, for as
//! many as the load has events.

use super::super::BenchError;
use super::super::bodies::time_of;
use super::super::milestones::Milestones;
use super::super::tally::Sample;
use super::super::worker::Load;
use super::http::{Unreadable, read_head};
use bytes::{Buf as _, BytesMut};
use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Most connections of one receiver; more wait in the backlog of the system.
const CONNECTIONS_MAX: usize = 4_096;
/// Room for the next bytes of a connection.
const READ_BYTES: usize = 4 * 1024;
/// Pause after an error of accepting, in milliseconds.
const PAUSE_MS: u64 = 10;

const ACCEPTED: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const HELD: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 36000\r\ncontent-length: 0\r\n\r\n";

/// What the receivers count for, once they are open.
pub struct Gate {
    /// The load that webhooks belong to.
    pub load: Arc<Load>,
    /// The progress of a backlog; without one, payloads have the times of their events.
    pub milestones: Option<Arc<Milestones>>,
}

/// Running receivers. Dropping them stops them.
pub struct Receivers {
    shared: Arc<Shared>,
    urls: Vec<String>,
    servers: Vec<JoinHandle<()>>,
}

/// What all receivers share.
struct Shared {
    gate: OnceLock<Gate>,
    /// For each receiver, the ids that it has answered.
    ids: Vec<Mutex<Ids>>,
    received: AtomicU64,
    duplicates: AtomicU64,
}

/// Ids of webhooks.
#[derive(Default)]
struct Ids {
    /// Answered with 503 before the receivers were opened.
    refused: HashSet<u128>,
    received: HashSet<u128>,
}

/// One webhook that has arrived.
struct Arrival {
    receiver: usize,
    id: u128,
    /// The time in its payload, in nanoseconds since the start.
    sent_ns: Option<u64>,
    /// Time of its arrival.
    at_ns: u64,
}

impl Receivers {
    /// Starts this many receivers.
    ///
    /// # Errors
    /// `BenchError::Receiver` if one cannot listen.
    pub async fn start(count: u32) -> Result<Self, BenchError> {
        let shared = Arc::new(Shared {
            gate: OnceLock::new(),
            ids: (0..count).map(|_| Mutex::default()).collect(),
            received: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        });
        let mut receivers = Self { shared, urls: Vec::new(), servers: Vec::new() };
        for receiver in 0..count as usize {
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BenchError::Receiver)?;
            let address = listener.local_addr().map_err(BenchError::Receiver)?;
            receivers.urls.push(format!("http://{address}/"));
            let server = accept(receivers.shared.clone(), receiver, listener);
            receivers.servers.push(tokio::spawn(server));
        }
        Ok(receivers)
    }

    /// The URL of each receiver.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Answers webhooks with 204 from now on, and counts them.
    pub fn open(&self, gate: Gate) {
        // A load opens its receivers once.
        let _ = self.shared.gate.set(gate);
    }

    /// Whether each receiver has answered a webhook with 503.
    pub fn have_all_refused(&self) -> bool {
        self.shared.ids.iter().all(|ids| !locked(ids).refused.is_empty())
    }

    /// Webhooks that arrived, without duplicates.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Webhooks that arrived again.
    pub fn duplicates(&self) -> u64 {
        self.shared.duplicates.load(Ordering::Relaxed)
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        for server in &self.servers {
            server.abort();
        }
    }
}

async fn accept(shared: Arc<Shared>, receiver: usize, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve(shared.clone(), receiver, stream));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await,
        }
    }
}

/// Serves a connection until the node closes it or sends what cannot be read.
async fn serve(shared: Arc<Shared>, receiver: usize, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    loop {
        let head = match read_head(&buffer) {
            Ok(head) => head.filter(|head| buffer.len() >= head.head_bytes + head.body_bytes),
            Err(Unreadable) => return Ok(()),
        };
        let Some(head) = head else {
            buffer.reserve(READ_BYTES);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let Some(gate) = shared.gate.get() else {
            locked(&shared.ids[receiver]).refused.insert(head.webhook_id);
            stream.write_all(HELD).await?;
            buffer.advance(head.head_bytes + head.body_bytes);
            continue;
        };
        let arrival = Arrival {
            receiver,
            id: head.webhook_id,
            sent_ns: time_of(&buffer[head.head_bytes..head.head_bytes + head.body_bytes]),
            at_ns: gate.load.clock.elapsed_ns(),
        };
        stream.write_all(ACCEPTED).await?;
        shared.count(gate, &arrival);
        buffer.advance(head.head_bytes + head.body_bytes);
    }
}

impl Shared {
    fn count(&self, gate: &Gate, arrival: &Arrival) {
        let begin_ns = match (&gate.milestones, arrival.sent_ns) {
            (Some(_), _) => 0,
            (None, Some(sent_ns)) => sent_ns,
            // An event of another sender.
            (None, None) => return,
        };
        let is_new = {
            let mut ids = locked(&self.ids[arrival.receiver]);
            if ids.refused.contains(&arrival.id) {
                return;
            }
            ids.received.insert(arrival.id)
        };
        if !is_new {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.received.fetch_add(1, Ordering::Relaxed);
        let sample = Sample { begin_ns, end_ns: arrival.at_ns, result: Ok(1), items_failed: 0 };
        gate.load.tallies.record(arrival.receiver, gate.load.window, sample);
        if let Some(milestones) = &gate.milestones {
            milestones.add(1, arrival.at_ns);
        }
    }
}

/// Locks the ids. A panic between two changes leaves them correct, so poison does not matter.
fn locked(ids: &Mutex<Ids>) -> MutexGuard<'_, Ids> {
    ids.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
