//! Sends webhooks over HTTP, one attempt at a time.
//!
//! - `SENDER-1`: an attempt ends within `attempt_timeout_ms` and releases everything it waited for.
//! - `SENDER-2`: the status is the answer. The body is read, up to `response_bytes_max`, only so
//!   that the connection can be reused; an answer that does not end in time is a timeout. No
//!   redirect is followed.
//! - `SENDER-3`: the target is checked at each attempt, because the policy may have changed.
//! - `SENDER-4`: only a connection whose answer was read completely is reused.
//!
//! The sender retries nothing, except a request that was never sent because its idle connection had
//! closed.

use super::connector::{self, Pool, SystemTcp, TcpConnector};
use super::fault::SendFault;
use super::resolver::CheckedResolver;
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

/// The webhook sender of a node. Cheap to clone; clones share the connection pool.
#[derive(Debug, Clone)]
pub struct HttpSender<C = SystemTcp> {
    pool: Pool<C>,
    policy: Arc<TargetPolicy>,
    read_timeout: Duration,
    attempt_timeout: Duration,
    response_bytes_max: usize,
    environment: Environment,
}

impl HttpSender {
    /// A sender that connects over the operating system.
    ///
    /// # Errors
    /// [`SenderError`] naming the option at fault.
    pub fn new(options: &DeliveryOptions, environment: Environment) -> Result<Self, SenderError> {
        let policy = Arc::new(TargetPolicy::from_options(options)?);
        let resolver = CheckedResolver::new(options, policy.clone());
        Self::over(options, environment, connector::system(options, resolver), policy)
    }
}

impl<C: TcpConnector> HttpSender<C> {
    /// A sender that opens connections with `tcp`.
    ///
    /// # Errors
    /// [`SenderError`] naming the option at fault.
    pub fn over(
        options: &DeliveryOptions,
        environment: Environment,
        tcp: C,
        policy: Arc<TargetPolicy>,
    ) -> Result<Self, SenderError> {
        Ok(Self {
            pool: connector::pool(options, tcp)?,
            policy,
            read_timeout: Duration::from_millis(options.read_timeout_ms),
            attempt_timeout: Duration::from_millis(options.attempt_timeout_ms),
            response_bytes_max: options.response_bytes_max,
            environment,
        })
    }

    /// The policy that targets must satisfy.
    pub fn policy(&self) -> &TargetPolicy {
        &self.policy
    }

    async fn attempt(&self, webhook: &Webhook) -> SendOutcome {
        let deadline = Instant::now() + self.attempt_timeout;
        let late = |missing: &str| timed_out(missing, self.attempt_timeout);
        let response = timeout_at(deadline, self.exchange(webhook)).await;
        let response = match response.unwrap_or_else(|_| Err(late("no answer"))) {
            Ok(response) => response,
            Err(fault) => return fault.outcome(None),
        };
        let status = response.status().as_u16();
        let retry_after =
            retry_after::read(response.status(), response.headers(), self.environment.now());
        let read = timeout_at(deadline, self.read_body(response.into_body())).await;
        match read.unwrap_or_else(|_| Err(late("no complete answer"))) {
            Ok(()) => SendOutcome::Answered { status, retry_after },
            Err(fault) => fault.outcome(Some(status)),
        }
    }

    /// Sends the request and waits for the response head.
    async fn exchange(&self, webhook: &Webhook) -> Result<Response<Incoming>, SendFault> {
        let target = Target::parse(&webhook.target_url, &self.policy).map_err(|malformed| {
            SendFault::new(SendFailure::Forbidden, format!("target_url {malformed}"))
        })?;
        let mut request: Request<Full<Bytes>> = request::build(webhook, target.uri())?;
        let mut connection = capture_connection(&mut request);
        // The read timeout starts once connected; connecting has its own timeout.
        let read_timeout = async {
            drop(connection.wait_for_connection_metadata().await);
            sleep(self.read_timeout).await;
        };
        tokio::select! {
            biased;
            answer = self.pool.request(request) => {
                answer.map_err(|error| SendFault::of_request(&error))
            }
            () = read_timeout => Err(timed_out("no answer", self.read_timeout)),
        }
    }

    /// Reads and discards the response body so that the connection can be reused. A body that is
    /// too large or breaks off is not an error, because the status has already arrived.
    async fn read_body(&self, mut body: Incoming) -> Result<(), SendFault> {
        if body.size_hint().lower() > self.response_bytes_max as u64 {
            return Ok(());
        }
        let mut remaining = self.response_bytes_max;
        loop {
            let frame = timeout(self.read_timeout, body.frame()).await;
            let frame = frame.map_err(|_| timed_out("no more of the answer", self.read_timeout))?;
            let Some(Ok(frame)) = frame else { return Ok(()) };
            match remaining.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => remaining = left,
                None => return Ok(()),
            }
        }
    }
}

impl<C: TcpConnector> WebhookSender for HttpSender<C> {
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome> {
        Box::pin(async move {
            let started = self.environment.monotonic();
            let outcome = self.attempt(&webhook).await;
            let duration = self.environment.monotonic().saturating_sub(started);
            metrics::counter!("triggers_webhook_requests_total", "outcome" => label(&outcome))
                .increment(1);
            metrics::histogram!("triggers_webhook_duration_seconds").record(duration.as_secs_f64());
            outcome
        })
    }
}

fn timed_out(missing: &str, limit: Duration) -> SendFault {
    SendFault::new(SendFailure::Timeout, format!("{missing} within {} ms", limit.as_millis()))
}

/// Metric label of an outcome.
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
