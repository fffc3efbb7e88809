//! Sends webhooks over HTTP, one attempt at a time.
//!
//! Invariants: `SENDER-1` an attempt ends within `attempt_timeout_ms`, and with it what it was waiting for; `SENDER-2` the status is the
//! answer: the body says nothing, and is read up to `response_bytes_max` only so that the connection can be used again, but
//! an answer that does not end in time is none; no answer is followed anywhere; `SENDER-3` the
//! target is checked at each attempt, for the policy may be another than when it was set; `SENDER-4` a connection whose
//! answer came whole is used again, any other is closed.
//! It tries nothing twice; a request that never went out because its idle connection had ended is no attempt yet.

use super::connector::{self, Pool, SystemTcp, TcpConnector};
use super::fault::SendFault;
use super::{SenderError, Target, TargetPolicy, request, retry_after};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};
use hyper_util::client::legacy::connect::capture_connection;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use triggers_actors::{SendFailure, SendOutcome, Webhook, WebhookSender};
use triggers_cluster_config::DeliveryOptions;
use triggers_protocol::Environment;
use triggers_store::kv::BoxFuture;

/// Attempts, by what became of them.
const REQUESTS_TOTAL: &str = "triggers_webhook_requests_total";
/// How long attempts took.
const DURATION_SECONDS: &str = "triggers_webhook_duration_seconds";

/// The sender of a node; cheap to clone, clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpSender<C = SystemTcp> {
    pool: Pool<C>,
    policy: Arc<TargetPolicy>,
    read_wait: Duration,
    whole_wait: Duration,
    response_bytes_max: usize,
    environment: Environment,
}

impl HttpSender {
    /// A sender over the operating system's connections.
    ///
    /// # Errors
    /// [`SenderError`] naming the option at fault.
    pub fn new(options: &DeliveryOptions, environment: Environment) -> Result<Self, SenderError> {
        let policy = Arc::new(TargetPolicy::from_options(options)?);
        Self::over(options, environment, connector::system(options, policy.clone()), policy)
    }
}

impl<C: TcpConnector> HttpSender<C> {
    /// A sender without connections yet, which opens them with `tcp`.
    ///
    /// # Errors
    /// [`SenderError`] naming the option at fault.
    pub fn over(
        options: &DeliveryOptions,
        environment: Environment,
        tcp: C,
        policy: Arc<TargetPolicy>,
    ) -> Result<Self, SenderError> {
        metrics::describe_counter!(
            REQUESTS_TOTAL,
            "Webhooks sent, by class of status or kind of failure"
        );
        metrics::describe_histogram!(
            DURATION_SECONDS,
            metrics::Unit::Seconds,
            "Time of an attempt to send a webhook"
        );
        Ok(Self {
            pool: connector::pool(options, tcp)?,
            policy,
            read_wait: Duration::from_millis(options.read_timeout_ms),
            whole_wait: Duration::from_millis(options.attempt_timeout_ms),
            response_bytes_max: options.response_bytes_max,
            environment,
        })
    }

    /// Which targets it calls.
    pub fn policy(&self) -> &TargetPolicy {
        &self.policy
    }

    async fn attempt(&self, webhook: &Webhook) -> SendOutcome {
        let deadline = Instant::now() + self.whole_wait;
        let response = match self.in_time(deadline, "no answer", self.ask(webhook)).await {
            Ok(response) => response,
            Err(fault) => return fault.outcome(None),
        };
        let status = response.status().as_u16();
        let retry_after =
            retry_after::read(response.status(), response.headers(), self.environment.now());
        match self.in_time(deadline, "no whole answer", self.take(response.into_body())).await {
            Ok(()) => SendOutcome::Answered { status, retry_after },
            Err(fault) => fault.outcome(Some(status)),
        }
    }

    async fn in_time<T>(
        &self,
        deadline: Instant,
        missing: &str,
        step: impl Future<Output = Result<T, SendFault>>,
    ) -> Result<T, SendFault> {
        timeout_at(deadline, step).await.unwrap_or_else(|_| Err(late(missing, self.whole_wait)))
    }

    /// Sends the request and waits for the head of the answer.
    async fn ask(&self, webhook: &Webhook) -> Result<Response<Incoming>, SendFault> {
        let target = Target::parse(&webhook.target_url, &self.policy).map_err(|malformed| {
            SendFault::new(SendFailure::Forbidden, format!("target_url {malformed}"))
        })?;
        let mut request: Request<Full<Bytes>> = request::of(webhook, target.uri())?;
        let mut connection = capture_connection(&mut request);
        // The wait for the head begins with the connection, which has its own wait.
        let silence = async {
            drop(connection.wait_for_connection_metadata().await);
            sleep(self.read_wait).await;
        };
        tokio::select! {
            biased;
            answer = self.pool.request(request) => answer.map_err(|error| SendFault::of_request(&error)),
            () = silence => Err(late("no answer", self.read_wait)),
        }
    }

    /// Reads the body of the answer and keeps nothing of it. One that is too large, or breaks off, is left alone with its
    /// connection: its status has come.
    async fn take(&self, mut body: Incoming) -> Result<(), SendFault> {
        if body.size_hint().lower() > self.response_bytes_max as u64 {
            return Ok(());
        }
        let mut left = self.response_bytes_max;
        loop {
            let frame = timeout(self.read_wait, body.frame()).await;
            let frame = frame.map_err(|_| late("nothing more of the answer", self.read_wait))?;
            let Some(Ok(frame)) = frame else { return Ok(()) };
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return Ok(()),
            }
        }
    }
}

impl<C: TcpConnector> WebhookSender for HttpSender<C> {
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome> {
        Box::pin(async move {
            let begun = self.environment.monotonic();
            let outcome = self.attempt(&webhook).await;
            let took = self.environment.monotonic().saturating_sub(begun);
            metrics::counter!(REQUESTS_TOTAL, "outcome" => label(&outcome)).increment(1);
            metrics::histogram!(DURATION_SECONDS).record(took.as_secs_f64());
            outcome
        })
    }
}

fn late(missing: &str, wait: Duration) -> SendFault {
    SendFault::new(SendFailure::Timeout, format!("{missing} within {} ms", wait.as_millis()))
}

/// The outcome as it stands in metrics.
fn label(outcome: &SendOutcome) -> &'static str {
    match outcome {
        SendOutcome::Answered { status, .. } => match status / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        },
        SendOutcome::Failed { failure, .. } => failure.as_str(),
    }
}
