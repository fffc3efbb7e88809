//! Receivers of webhooks, which behave as faults tell them to.

use super::history::{History, Received};
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
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The port of the first tenant's first receiver.
const PORT: u16 = 9_000;
/// How long a slow receiver takes.
const SLOW: Duration = Duration::from_millis(700);

/// Receivers of each tenant: the first one behaves as faults tell it to, the others well.
pub const EACH: usize = 2;

/// The port of a receiver.
pub fn port(tenant: usize, receiver: usize) -> u16 {
    PORT + u16::try_from((tenant * EACH + receiver) % 20_000).unwrap_or(0)
}

/// How each tenant's first receiver behaves; cheap to clone.
#[derive(Clone, Default)]
pub struct Behaviours(Arc<Mutex<BTreeMap<usize, Behaviour>>>);

impl Behaviours {
    /// Sets how a tenant's receiver behaves from now on.
    pub fn set(&self, tenant: usize, behaviour: Behaviour) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, behaviour);
    }

    fn of(&self, tenant: usize) -> Behaviour {
        let behaviours = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        behaviours.get(&tenant).copied().unwrap_or(Behaviour::Well)
    }
}

/// What a receiver has.
#[derive(Clone)]
pub struct Receiver {
    /// Whose.
    pub tenant: usize,
    /// Which of them.
    pub number: usize,
    /// How it behaves.
    pub behaviours: Behaviours,
    /// What it remembers.
    pub history: History,
    /// The account of the run.
    pub trace: Trace,
    /// When the run began.
    pub base: Instant,
}

impl Receiver {
    /// Receives for ever.
    pub async fn run(self, network: Network, host: HostId) {
        let mut listener = network.listen(host, port(self.tenant, self.number));
        loop {
            let (stream, _) = listener.accept().await;
            tokio::spawn(self.clone().connection(stream));
        }
    }

    async fn connection(self, stream: SimStream) {
        let service = service_fn(|request: Request<Incoming>| self.clone().answer(request));
        // Whoever breaks off is the sender's or a fault's business.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let subscription = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
        let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let behaviour =
            if self.number == 0 { self.behaviours.of(self.tenant) } else { Behaviour::Well };
        let came = self.history.lock().received.len();
        let answered = match behaviour {
            Behaviour::Well | Behaviour::Slow => Some(200),
            Behaviour::Failing => Some(500),
            Behaviour::Flapping => Some(if came.is_multiple_of(2) { 200 } else { 503 }),
            Behaviour::Silent | Behaviour::Lying => None,
        };
        self.history.lock().received.push(Received {
            at: self.base.elapsed(),
            tenant: self.tenant,
            receiver: self.number,
            subscription,
            id: event["event_id"].as_str().unwrap_or_default().to_owned(),
            answered,
        });
        let (tenant, number, id) =
            (self.tenant, self.number, event["event_id"].as_str().unwrap_or_default());
        let now = self.base.elapsed();
        self.trace.note(
            now,
            "receiver",
            format_args!("t-{tenant}, {number}, gets {id} and is {behaviour:?}"),
        );
        match behaviour {
            Behaviour::Slow => tokio::time::sleep(SLOW).await,
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Lying => return Err(std::io::Error::other("broken off on purpose")),
            _ => {}
        }
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() =
            answered.and_then(|status| status.try_into().ok()).unwrap_or_default();
        Ok(response)
    }
}
