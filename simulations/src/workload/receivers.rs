//! Webhook receivers. Faults change how a tenant's first receiver answers, and let the receivers of
//! a tenant close kept connections.

use super::history::{Received, SharedHistory};
use crate::plan::Behaviour;
use crate::trace::Trace;
use crate::world::HostId;
use crate::world::network::{Network, SimStream};
use axum::serve::Listener;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use triggers_protocol::lock::lock;

/// Port of the first receiver of tenant 0.
const PORT: u16 = 9_000;
/// Time that a slow receiver takes to answer.
const SLOW: Duration = Duration::from_millis(700);

/// Receivers per tenant. Faults change the first one; the others stay healthy.
pub const RECEIVERS_PER_TENANT: usize = 2;

pub fn port(tenant: usize, receiver: usize) -> u16 {
    PORT + u16::try_from((tenant * RECEIVERS_PER_TENANT + receiver) % 20_000).unwrap_or(0)
}

/// The behaviour of each tenant's first receiver, and the tenants whose receivers hang up; cheap to
/// clone.
#[derive(Clone, Default)]
pub struct Behaviours {
    first: Arc<Mutex<BTreeMap<usize, Behaviour>>>,
    hang_ups: Arc<Mutex<BTreeSet<usize>>>,
}

impl Behaviours {
    pub fn set(&self, tenant: usize, behaviour: Behaviour) {
        lock(&self.first).insert(tenant, behaviour);
    }

    pub fn set_hang_ups(&self, tenant: usize, is_on: bool) {
        let mut hang_ups = lock(&self.hang_ups);
        match is_on {
            true => hang_ups.insert(tenant),
            false => hang_ups.remove(&tenant),
        };
    }

    fn of(&self, tenant: usize) -> Behaviour {
        let behaviours = lock(&self.first);
        behaviours.get(&tenant).copied().unwrap_or(Behaviour::Healthy)
    }

    fn hangs_up(&self, tenant: usize) -> bool {
        lock(&self.hang_ups).contains(&tenant)
    }
}

#[derive(Clone)]
pub struct Receiver {
    pub tenant: usize,
    /// Number among the tenant's receivers, from 0.
    pub number: usize,
    pub behaviours: Behaviours,
    pub history: SharedHistory,
    pub trace: Trace,
    /// Start of the run on the clock of the receivers' host.
    pub base: Instant,
}

impl Receiver {
    /// Receives webhooks until the run ends.
    pub async fn run(self, network: Network, host: HostId) {
        let mut listener = network.listen(host, port(self.tenant, self.number));
        loop {
            let (stream, _) = listener.accept().await;
            tokio::spawn(self.clone().connection(stream));
        }
    }

    async fn connection(self, stream: SimStream) {
        let is_used = AtomicBool::new(false);
        let service = service_fn(|request: Request<Incoming>| {
            self.clone().answer(request, is_used.swap(true, Ordering::SeqCst))
        });
        // Connections that break are expected: senders and faults close them.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        is_kept: bool,
    ) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (at, tenant, number) = (self.base.elapsed(), self.tenant, self.number);
        if is_kept && self.behaviours.hangs_up(tenant) {
            self.trace.note(at, "receiver", format_args!("t-{tenant}, {number}, hangs up"));
            return Err(std::io::Error::other("closed while idle"));
        }
        let subscription = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
        let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let behaviour =
            if self.number == 0 { self.behaviours.of(self.tenant) } else { Behaviour::Healthy };
        let received = self.history.lock().received.len();
        let answered = match behaviour {
            Behaviour::Healthy | Behaviour::Slow => Some(200),
            Behaviour::Failing => Some(500),
            Behaviour::Flapping => Some(if received.is_multiple_of(2) { 200 } else { 503 }),
            Behaviour::Silent | Behaviour::Aborting => None,
        };
        let at = self.base.elapsed();
        let id = event["event_id"].as_str().unwrap_or_default();
        self.trace.note(
            at,
            "receiver",
            format_args!("t-{tenant}, {number}, gets {id} and is {behaviour:?}"),
        );
        let (receiver, id) = (number, id.to_owned());
        let is_resent = is_kept && behaviour == Behaviour::Aborting;
        let webhook = Received { at, tenant, receiver, subscription, id, answered, is_resent };
        self.history.lock().received.push(webhook);
        match behaviour {
            Behaviour::Slow => tokio::time::sleep(SLOW).await,
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Aborting => return Err(std::io::Error::other("closed on purpose")),
            Behaviour::Healthy | Behaviour::Failing | Behaviour::Flapping => {}
        }
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() =
            answered.and_then(|status| status.try_into().ok()).unwrap_or_default();
        Ok(response)
    }
}
