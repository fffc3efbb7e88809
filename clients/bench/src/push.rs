//! The mode push: webhooks to receivers in this process.
//!
//! Each receiver is an HTTP server on loopback and has a subscription, with the keys in turn. With
//! a rate, connections post events on schedule, and each has its intended time in its payload. With
//! a backlog, the receivers first answer one webhook each with 503 and a long `Retry-After`, which
//! holds their subscriptions while the backlog is filled. Then the subscriptions are released, and
//! the delivery is measured from that moment.
//!
//! - `PUSH-LOAD-1`: the subscriptions are deleted at the end, also after an error or Ctrl-C.
//! - `PUSH-LOAD-2`: a webhook counts when its answer is sent. One that arrives again counts as a
//!   duplicate only.

use super::backlog;
use super::bodies::TimedBody;
use super::connection::{Connection, Dialer};
use super::link::Link;
use super::milestones::Milestones;
use super::plan::Plan;
use super::report::{Measured, Report};
use super::requests::RequestParts;
use super::tally::{Failure, Sample};
use super::worker::Load;
use super::{BenchError, DRAIN_SECONDS, dial, drain, watch};
use receiver::{Gate, Receivers};
use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use subscriptions::Subscriptions;
use tokio::task::JoinSet;

mod http;
mod receiver;
mod subscriptions;

/// Time in which the first webhooks must arrive and hold their subscriptions.
const HOLD_SECONDS: u64 = 30;
/// Pause between two looks at a state, in milliseconds.
const PAUSE_MS: u64 = 10;

/// Carries out a plan of the mode push.
///
/// # Errors
/// If a receiver cannot listen, a subscription cannot be made or deleted, or the backlog cannot be
/// filled.
pub async fn run(plan: &Plan, progress: &impl Fn(&str)) -> Result<Report, BenchError> {
    let (dialer, connections) = dial(plan, plan.base_url(), progress).await?;
    let parts = RequestParts::new(plan, dialer.address())?;
    let receivers = Receivers::start(plan.receivers).await?;
    let mut subscriptions = Subscriptions::default();
    let push = Push { plan, parts, receivers: &receivers, progress };
    let report = match subscriptions.create(plan, receivers.urls()).await {
        Ok(()) if plan.backlog_events > 0 => push.backlog(dialer, &subscriptions).await,
        Ok(()) => push.rate(dialer, connections).await,
        Err(error) => Err(error),
    };
    progress("deleting the subscriptions");
    let deleted = subscriptions.delete().await;
    let report = report?;
    deleted?;
    Ok(report)
}

struct Push<'a, Progress> {
    plan: &'a Plan,
    parts: Arc<RequestParts>,
    receivers: &'a Receivers,
    progress: &'a Progress,
}

impl<Progress: Fn(&str)> Push<'_, Progress> {
    async fn backlog(
        &self,
        dialer: Dialer,
        subscriptions: &Subscriptions,
    ) -> Result<Report, BenchError> {
        let expected = interruptible(async {
            (self.progress)("holding the subscriptions");
            self.hold(&dialer, subscriptions).await?;
            let events = backlog::fill(self.plan, &dialer, &self.parts, self.progress).await?;
            Ok(events.iter().enumerate().map(|(key, events)| events * self.receivers_of(key)).sum())
        })
        .await?;
        let load = Load::new(self.plan, dialer);
        let milestones = Arc::new(Milestones::new(expected));
        self.receivers.open(Gate { load: load.clone(), milestones: Some(milestones.clone()) });
        let delivery = async {
            subscriptions.release().await?;
            milestones.completed().await;
            Ok(())
        };
        let is_interrupted = watch(&load, self.progress, delivery).await?;
        let end_ns = milestones.completed_ns().unwrap_or_else(|| load.clock.elapsed_ns());
        let measured = Measured {
            measured_ns: end_ns.min(load.window.end_ns),
            is_interrupted,
            tenths: milestones.tenths(0),
            duplicates: Some(self.receivers.duplicates()),
            left: milestones.left(),
            ..Measured::default()
        };
        Ok(Report::new(self.plan, &load.tallies, measured))
    }

    async fn rate(
        &self,
        dialer: Dialer,
        connections: Vec<Option<Connection>>,
    ) -> Result<Report, BenchError> {
        let load = Load::new(self.plan, dialer);
        self.receivers.open(Gate { load: load.clone(), milestones: None });
        let pacer = load.clone().start_pacer()?;
        let expected = Arc::new(AtomicU64::new(0));
        let mut posters = JoinSet::new();
        for (index, connection) in connections.into_iter().enumerate() {
            let poster = Poster {
                index,
                load: load.clone(),
                parts: self.parts.clone(),
                link: Link::new(load.dialer.clone(), connection),
                body: TimedBody::new(self.plan.payload_bytes),
                webhooks: self.receivers_of(index % self.parts.keys()),
                expected: expected.clone(),
            };
            posters.spawn(poster.run());
        }
        let is_interrupted = watch(&load, self.progress, pending()).await?;
        let end_ns = load.clock.elapsed_ns().min(load.window.end_ns);
        load.pace.stop();
        let unanswered = drain(posters).await;
        if let Some(pacer) = pacer {
            pacer.join().await;
        }
        let expected = expected.load(Ordering::Relaxed);
        let arrived = reached(DRAIN_SECONDS, || self.receivers.received() >= expected).await;
        let missing = expected.saturating_sub(self.receivers.received());
        let measured = Measured {
            measured_ns: end_ns.saturating_sub(load.window.begin_ns),
            adherence: load.pace.adherence(end_ns),
            unanswered,
            is_interrupted,
            duplicates: Some(self.receivers.duplicates()),
            left: if arrived { 0 } else { missing },
            ..Measured::default()
        };
        Ok(Report::new(self.plan, &load.tallies, measured))
    }

    /// Number of receivers whose subscription is of this key's tenant.
    fn receivers_of(&self, key: usize) -> u64 {
        let (receivers, keys) = (self.plan.receivers as usize, self.parts.keys());
        (0..receivers).filter(|receiver| receiver % keys == key).count() as u64
    }

    /// Sends one event of each key, which the receivers answer so that their subscriptions are
    /// held.
    async fn hold(&self, dialer: &Dialer, subscriptions: &Subscriptions) -> Result<(), BenchError> {
        let mut link = Link::new(dialer.clone(), None);
        for key in 0..self.parts.keys() {
            let body = &self.parts.singles[0];
            let request = || self.parts.post(self.parts.single_uri.clone(), key, body.clone());
            match link.exchange(request, None).await {
                Ok(status) if (200..300).contains(&status) => {}
                Ok(status) => return Err(BenchError::Backlog(format!("status {status}"))),
                Err(_) => return Err(BenchError::Backlog("no answer".to_owned())),
            }
        }
        if !reached(HOLD_SECONDS, || self.receivers.have_all_refused()).await {
            return Err(BenchError::NoWebhook(HOLD_SECONDS));
        }
        subscriptions.held(HOLD_SECONDS).await
    }
}

/// Sends events on schedule, with their intended times in their payloads.
struct Poster {
    index: usize,
    load: Arc<Load>,
    parts: Arc<RequestParts>,
    link: Link,
    body: TimedBody,
    /// Webhooks that each event causes.
    webhooks: u64,
    /// Webhooks that all accepted events cause.
    expected: Arc<AtomicU64>,
}

impl Poster {
    async fn run(mut self) {
        while let Some(begin_ns) = self.load.pace.next(&self.load.clock).await {
            let body = self.body.at(begin_ns);
            let uri = &self.parts.single_uri;
            let request = || self.parts.post(uri.clone(), self.index, body.clone());
            let failure = match self.link.exchange(request, None).await {
                Ok(status) if (200..300).contains(&status) => {
                    self.expected.fetch_add(self.webhooks, Ordering::Relaxed);
                    continue;
                }
                Ok(status) => Failure::Status(status),
                Err(failure) => failure,
            };
            let end_ns = self.load.clock.elapsed_ns();
            let sample = Sample { begin_ns, end_ns, result: Err(failure), items_failed: 0 };
            self.load.tallies.record(self.index, self.load.window, sample);
        }
    }
}

/// Carries out a step before the measurement, unless Ctrl-C comes first.
async fn interruptible<Value>(
    step: impl Future<Output = Result<Value, BenchError>>,
) -> Result<Value, BenchError> {
    tokio::select! {
        result = step => result,
        _ = tokio::signal::ctrl_c() => Err(BenchError::Interrupted),
    }
}

/// Waits until a state is reached. Returns false after that many seconds.
async fn reached(seconds: u64, state: impl Fn() -> bool) -> bool {
    let wait = async {
        while !state() {
            tokio::time::sleep(Duration::from_millis(PAUSE_MS)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), wait).await.is_ok()
}
