//! Sends webhooks over HTTP, one attempt at a time.
//!
//! - `SENDER-1`: an attempt ends within `attempt_timeout_ms` and releases everything it waited for.
//! - `SENDER-2`: the status is the answer, whatever follows it. The rest is read only so that the
//!   connection can be used again. No redirect is followed.
//! - `SENDER-3`: a target is checked before it is called, because the policy may have changed since
//!   it was set. The sender's own policy does not change, so it remembers checked targets.
//! - `SENDER-4`: a request on a kept connection that gets nothing of an answer is sent once more,
//!   the same bytes, on a new connection and within the same attempt: endpoints close idle
//!   connections while a request is on its way.
//!
//! The sender retries nothing else.

use super::connector::{self, Connector, SystemTcp, TcpConnector};
use super::fault::SendFault;
use super::pool::{EndpointConnection, ExchangeFault, Pool};
use super::request::WebhookRequest;
use super::resolver::CheckedResolver;
use super::{SenderError, Target, TargetPolicy, request, retry_after};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use triggers_actors::{SendFailure, SendOutcome, Webhook, WebhookSender};
use triggers_cluster_config::DeliveryOptions;
use triggers_protocol::Environment;
use triggers_protocol::lock::lock;
use triggers_protocol::planted::{Bug, is_planted};
use triggers_store::kv::BoxFuture;

/// What some servers say when they close an idle connection (RFC 9110, section 15.5.9).
const REQUEST_TIMEOUT: u16 = 408;
/// Checked targets that a sender remembers; when there are more it forgets all of them.
const TARGETS_MAX: usize = 1_024;

/// Targets that the policy allows, by their URLs.
type CheckedTargets = HashMap<String, Arc<CheckedTarget>>;

#[derive(Debug)]
struct CheckedTarget {
    target: Target,
    endpoint: String,
}

/// The webhook sender of a node. Cheap to clone; clones share the connection pool.
#[derive(Debug, Clone)]
pub struct HttpSender<C = SystemTcp> {
    connector: Connector<C>,
    pool: Pool,
    policy: Arc<TargetPolicy>,
    targets: Arc<Mutex<CheckedTargets>>,
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
            connector: connector::over(options, tcp)?,
            pool: Pool::new(Duration::from_millis(options.idle_timeout_ms), options.in_flight_max),
            policy,
            targets: Arc::default(),
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

    async fn attempt(&self, webhook: &Webhook) -> Result<SendOutcome, SendFault> {
        let deadline = Instant::now() + self.attempt_timeout;
        let checked = self.checked(&webhook.target_url)?;
        let CheckedTarget { target, endpoint } = &*checked;
        let request = request::write(webhook, target.uri())?;
        if let Some(mut kept) = self.pool.take(endpoint) {
            let result = self.exchange(&mut kept, &request, deadline).await;
            let has_ended = match &result {
                Ok(status) => *status == REQUEST_TIMEOUT,
                Err(fault) => fault.is_unanswered(),
            };
            if !has_ended || is_planted(Bug::KeptConnectionFails) {
                return self.outcome(result, endpoint, kept);
            }
            metrics::counter!("triggers_webhook_requests_resent_total").increment(1);
        }
        let opened = timeout_at(deadline, self.connector.open(target.uri())).await;
        let opened = opened.map_err(|_| timed_out(self.attempt_timeout))?;
        let mut fresh = opened.map_err(|error| SendFault::of_connection(&error))?;
        let result = self.exchange(&mut fresh, &request, deadline).await;
        self.outcome(result, endpoint, fresh)
    }

    /// The target of a URL, if the policy allows it (`SENDER-3`).
    fn checked(&self, url: &str) -> Result<Arc<CheckedTarget>, SendFault> {
        if let Some(known) = lock(&self.targets).get(url) {
            return Ok(known.clone());
        }
        let target = Target::parse(url, &self.policy).map_err(|malformed| {
            SendFault::new(SendFailure::Forbidden, format!("target_url {malformed}"))
        })?;
        let checked = Arc::new(CheckedTarget { endpoint: target.endpoint(), target });
        let mut targets = lock(&self.targets);
        if targets.len() >= TARGETS_MAX {
            targets.clear();
        }
        targets.insert(url.to_owned(), checked.clone());
        Ok(checked)
    }

    /// Sends the request over a connection. The read timeout starts once it is connected;
    /// connecting has its own timeout.
    async fn exchange(
        &self,
        connection: &mut EndpointConnection,
        request: &WebhookRequest,
        deadline: Instant,
    ) -> Result<u16, ExchangeFault> {
        let deadline = deadline.min(Instant::now() + self.read_timeout);
        connection.exchange(request.bytes(), deadline, self.response_bytes_max).await
    }

    /// The outcome of an exchange; its connection is kept, if it can be used again.
    fn outcome(
        &self,
        result: Result<u16, ExchangeFault>,
        endpoint: &str,
        connection: EndpointConnection,
    ) -> Result<SendOutcome, SendFault> {
        let status = result.map_err(|fault| match fault {
            ExchangeFault::NoAnswer(fault) => {
                SendFault::new(SendFailure::Protocol, fault.to_string())
            }
            ExchangeFault::Late => timed_out(self.read_timeout.min(self.attempt_timeout)),
        })?;
        let text = connection.retry_after();
        let retry_after = retry_after::read(status, text, self.environment.now());
        self.pool.put(endpoint, connection);
        Ok(SendOutcome::Answered { status, retry_after })
    }
}

impl<C: TcpConnector> WebhookSender for HttpSender<C> {
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome> {
        Box::pin(async move {
            let started = self.environment.monotonic();
            let outcome = self.attempt(&webhook).await;
            let outcome = outcome.unwrap_or_else(|fault| fault.outcome(None));
            let duration = self.environment.monotonic().saturating_sub(started);
            metrics::counter!("triggers_webhook_requests_total", "outcome" => label(&outcome))
                .increment(1);
            metrics::histogram!("triggers_webhook_duration_seconds").record(duration.as_secs_f64());
            outcome
        })
    }
}

fn timed_out(limit: Duration) -> SendFault {
    SendFault::new(SendFailure::Timeout, format!("no answer within {} ms", limit.as_millis()))
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
