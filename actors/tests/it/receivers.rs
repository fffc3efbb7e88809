//! Simulated endpoints: the URL decides how an endpoint behaves; every webhook is recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use triggers_actors::{NodeFault, SendFailure, SendOutcome, Webhook, WebhookSender};
use triggers_protocol::EventId;
use triggers_store::kv::BoxFuture;

/// The reaction of an endpoint to a webhook.
#[derive(Debug, Clone, Copy)]
pub enum Behaviour {
    Answer(u16),
    AnswerAfter(Duration, u16),
    /// Answers with `Retry-After`.
    Busy(u16, Duration),
    /// Accepts the webhook and never answers.
    Hang,
    Refuse,
    /// The node lacks something, so the webhook does not arrive.
    Unsent(NodeFault),
    /// The sender panics.
    Panic,
}

/// A webhook that has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub at: Instant,
    pub id: EventId,
    /// The event's attempts, this one included.
    pub attempts: u32,
}

#[derive(Debug, Default)]
struct Endpoint {
    behaviour: Option<Behaviour>,
    seen: Vec<Seen>,
    in_flight: usize,
    in_flight_max: usize,
}

/// All endpoints. An endpoint without a set behaviour answers 200.
#[derive(Debug, Clone, Default)]
pub struct Receivers(Arc<Mutex<BTreeMap<String, Endpoint>>>);

impl Receivers {
    pub fn set(&self, url: &str, behaviour: Behaviour) {
        self.0.lock().unwrap().entry(url.to_owned()).or_default().behaviour = Some(behaviour);
    }

    /// The webhooks that have arrived at a URL, in order.
    pub fn seen(&self, url: &str) -> Vec<Seen> {
        self.0.lock().unwrap().get(url).map(|endpoint| endpoint.seen.clone()).unwrap_or_default()
    }

    /// Number of webhooks at a URL.
    pub fn in_flight(&self, url: &str) -> usize {
        self.0.lock().unwrap().get(url).map_or(0, |endpoint| endpoint.in_flight)
    }

    /// Maximum number of webhooks at a URL at the same time.
    pub fn in_flight_max(&self, url: &str) -> usize {
        self.0.lock().unwrap().get(url).map_or(0, |endpoint| endpoint.in_flight_max)
    }

    fn arrive(&self, webhook: &Webhook) -> Behaviour {
        let mut endpoints = self.0.lock().unwrap();
        let endpoint = endpoints.entry(webhook.target_url.clone()).or_default();
        let event = &webhook.event;
        endpoint.seen.push(Seen {
            at: Instant::now(),
            id: event.id,
            attempts: event.state.attempts,
        });
        endpoint.in_flight += 1;
        endpoint.in_flight_max = endpoint.in_flight_max.max(endpoint.in_flight);
        endpoint.behaviour.unwrap_or(Behaviour::Answer(200))
    }

    fn leave(&self, url: &str) {
        if let Some(endpoint) = self.0.lock().unwrap().get_mut(url) {
            endpoint.in_flight -= 1;
        }
    }
}

/// Notes the end of a webhook, however it ends.
struct Visit(Receivers, String);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.leave(&self.1);
    }
}

impl WebhookSender for Receivers {
    fn send(&self, webhook: Webhook) -> BoxFuture<'_, SendOutcome> {
        Box::pin(async move {
            let behaviour = self.arrive(&webhook);
            let _visit = Visit(self.clone(), webhook.target_url);
            let answered = |status, retry_after| SendOutcome::Answered { status, retry_after };
            match behaviour {
                Behaviour::Answer(status) => answered(status, None),
                Behaviour::AnswerAfter(wait, status) => {
                    tokio::time::sleep(wait).await;
                    answered(status, None)
                }
                Behaviour::Busy(status, wait) => answered(status, Some(wait)),
                Behaviour::Hang => std::future::pending().await,
                Behaviour::Refuse => SendOutcome::Failed {
                    status: None,
                    failure: SendFailure::Connect,
                    reason: "connection refused".into(),
                },
                Behaviour::Unsent(fault) => SendOutcome::Failed {
                    status: None,
                    failure: SendFailure::Node(fault),
                    reason: "not sent".into(),
                },
                Behaviour::Panic => panic!("a planned failure of the sender"),
            }
        })
    }
}
