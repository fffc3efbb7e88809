//! The mode consume: leases and acknowledges a backlog until it is drained.
//!
//! Each consumer has one connection. It leases events, acknowledges all of them, and then leases
//! again. A consumer that finds no event of one tenant goes on with the next key.
//!
//! - `CONSUME-1`: every leased event is acknowledged once, also if the time ends meanwhile.
//! - `CONSUME-2`: the load ends when as many events as the backlog has are acknowledged or have
//!   failed, or when the time is over.

use super::backlog;
use super::link::Link;
use super::milestones::Milestones;
use super::plan::{AcknowledgeBy, Plan};
use super::report::{Measured, Report};
use super::requests::RequestParts;
use super::script::BatchAnswer;
use super::tally::{Failure, Sample};
use super::worker::Load;
use super::{BenchError, dial, drain, watch};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Pause of a consumer that found nothing, in milliseconds.
const PAUSE_MS: u64 = 5;

/// Fills the backlog of a plan, and measures how fast it is consumed.
///
/// # Errors
/// If the backlog cannot be filled, or a lease has no id although the plan needs it.
pub async fn run(
    plan: &Plan,
    by: AcknowledgeBy,
    progress: &impl Fn(&str),
) -> Result<Report, BenchError> {
    let (dialer, connections) = dial(plan, plan.base_url(), progress).await?;
    let parts = RequestParts::new(plan, dialer.address())?;
    backlog::fill(plan, &dialer, &parts, progress).await?;

    let load = Load::new(plan, dialer);
    let shared = Arc::new(Shared {
        load: load.clone(),
        parts,
        by,
        lease: Bytes::from(format!("{{\"limit\":{}}}", plan.lease_limit)),
        milestones: Milestones::new(plan.backlog_events),
    });
    let mut consumers = JoinSet::new();
    for (index, connection) in connections.into_iter().enumerate() {
        let link = Link::new(load.dialer.clone(), connection);
        consumers.spawn(Consumer { shared: shared.clone(), link, index, key: index }.run());
    }
    let is_interrupted = watch(&load, progress, all_ended(&mut consumers)).await?;
    let stopped_ns = load.clock.elapsed_ns();
    load.pace.stop();
    let unanswered = drain(consumers).await;
    let milestones = &shared.milestones;
    let measured = Measured {
        measured_ns: milestones.completed_ns().unwrap_or(stopped_ns).min(load.window.end_ns),
        unanswered,
        is_interrupted,
        tenths: milestones.tenths(0),
        left: milestones.left(),
        ..Measured::default()
    };
    Ok(Report::new(plan, &load.tallies, measured))
}

/// Waits until all consumers have ended, or one with an error.
async fn all_ended(consumers: &mut JoinSet<Result<(), BenchError>>) -> Result<(), BenchError> {
    while let Some(ended) = consumers.join_next().await {
        ended.map_err(|error| BenchError::Task(error.to_string()))??;
    }
    Ok(())
}

/// The parts that all consumers share.
struct Shared {
    load: Arc<Load>,
    parts: Arc<RequestParts>,
    by: AcknowledgeBy,
    lease: Bytes,
    milestones: Milestones,
}

#[derive(Deserialize)]
struct LeaseAnswer {
    lease_id: Option<String>,
    events: Vec<LeasedEvent>,
}

#[derive(Deserialize)]
struct LeasedEvent {
    event_id: String,
    lease_token: String,
}

#[derive(Serialize)]
struct EventIds<'a> {
    event_ids: Vec<&'a str>,
}

struct Consumer {
    shared: Arc<Shared>,
    link: Link,
    index: usize,
    /// Counts the keys, beginning anew behind the last.
    key: usize,
}

impl Consumer {
    async fn run(mut self) -> Result<(), BenchError> {
        let mut body = Vec::new();
        while !self.shared.milestones.is_complete() {
            let load = self.shared.load.clone();
            let Some(begin_ns) = load.pace.next(&load.clock).await else { break };
            match self.lease(begin_ns, &mut body).await {
                Some(lease) if !lease.events.is_empty() => {
                    self.acknowledge(&lease, &mut body).await?;
                }
                answer => {
                    self.key += usize::from(answer.is_some());
                    tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
                }
            }
        }
        Ok(())
    }

    /// Leases events. `None` if that fails.
    async fn lease(&mut self, begin_ns: u64, body: &mut Vec<u8>) -> Option<LeaseAnswer> {
        let Self { shared, link, key, .. } = self;
        let Shared { parts, lease, .. } = &**shared;
        let request = || parts.post(parts.lease_uri.clone(), *key, lease.clone());
        let answer = link.exchange(request, Some(body)).await;
        let lease = answer.and_then(|status| {
            success(status)?;
            serde_json::from_slice::<LeaseAnswer>(body).map_err(|_| Failure::Item)
        });
        // A lease of nothing only asks whether there is something.
        let is_counted = lease.as_ref().is_ok_and(|lease| !lease.events.is_empty());
        match lease {
            Ok(lease) => {
                if is_counted {
                    self.record(begin_ns, Ok(0), 0);
                }
                Some(lease)
            }
            Err(failure) => {
                self.record(begin_ns, Err(failure), 0);
                None
            }
        }
    }

    async fn acknowledge(
        &mut self,
        lease: &LeaseAnswer,
        body: &mut Vec<u8>,
    ) -> Result<(), BenchError> {
        let events = lease.events.len() as u64;
        let parts = self.shared.parts.clone();
        match self.shared.by {
            AcknowledgeBy::Single => {
                for event in &lease.events {
                    let uri = parts.target(&format!("/v1/events/{}/ack", event.event_id))?;
                    let text = format!("{{\"lease_token\":\"{}\"}}", event.lease_token);
                    let text = Bytes::from(text);
                    let key = self.key;
                    self.finish(1, || parts.post(uri.clone(), key, text.clone()), None).await;
                }
            }
            AcknowledgeBy::Batch => {
                let event_ids = lease.events.iter().map(|event| event.event_id.as_str()).collect();
                let text = serde_json::to_vec(&EventIds { event_ids });
                let text = Bytes::from(text.map_err(|error| BenchError::Task(error.to_string()))?);
                let (uri, key) = (parts.acknowledge_uri.clone(), self.key);
                let request = || parts.post(uri.clone(), key, text.clone());
                self.finish(events, request, Some(body)).await;
            }
            AcknowledgeBy::Lease => {
                let id = lease.lease_id.as_ref().ok_or(BenchError::NoLeaseId)?;
                let uri = parts.target(&format!("/v1/inbox/leases/{id}/ack"))?;
                let key = self.key;
                let request = || parts.post(uri.clone(), key, Bytes::from_static(b"{}"));
                self.finish(events, request, Some(body)).await;
            }
        }
        Ok(())
    }

    /// Sends an acknowledgement of some events. An answer that is read counts them itself.
    async fn finish(
        &mut self,
        events: u64,
        request: impl Fn() -> Request<Full<Bytes>>,
        body: Option<&mut Vec<u8>>,
    ) {
        let begin_ns = self.shared.load.clock.elapsed_ns();
        let mut body = body;
        let answer = self.link.exchange(request, body.as_deref_mut()).await;
        let result = answer.and_then(|status| {
            success(status)?;
            match body {
                Some(body) => match serde_json::from_slice::<BatchAnswer>(body) {
                    Ok(answer) => Ok((answer.success_count, answer.failure_count)),
                    Err(_) => Err(Failure::Item),
                },
                None => Ok((events, 0)),
            }
        });
        let items_failed = result.map_or(0, |(_, items_failed)| items_failed);
        self.record(begin_ns, result.map(|(events, _)| events), items_failed);
        self.shared.milestones.add(events, self.shared.load.clock.elapsed_ns());
    }

    fn record(&self, begin_ns: u64, result: Result<u64, Failure>, items_failed: u64) {
        let load = &self.shared.load;
        let end_ns = load.clock.elapsed_ns();
        load.tallies.record(
            self.index,
            load.window,
            Sample { begin_ns, end_ns, result, items_failed },
        );
    }
}

fn success(status: u16) -> Result<(), Failure> {
    if (200..300).contains(&status) { Ok(()) } else { Err(Failure::Status(status)) }
}
