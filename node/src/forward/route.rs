//! Decides for each request whether this node answers it or forwards it, and tries again when the
//! owner changes.

use super::kept_body::KeptBody;
use super::pending_request::PendingRequest;
use super::send::{self, ForwardOutcome};
use crate::http::IDEMPOTENCY_HEADERS;
use crate::http::authenticate::{Identified, identify};
use crate::http::edge::EdgeState;
use crate::http::error::ApiError;
use crate::http::forwarded::{Forwarded, NotOwner};
use crate::http::request_context::RequestContext;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use triggers_actors::cluster::peer_of;
use triggers_actors::model::rows::Fence;

/// Attempts at one request.
const ATTEMPTS_MAX: usize = 5;
/// Longest time that one request waits for a change of owner, over all attempts. A planned transfer
/// takes less; after a node's death the client should try again itself.
const OWNER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Interval at which a waiting request checks whether this node serves the partition.
const OWNER_POLL: Duration = Duration::from_millis(200);

/// Middleware: answers the request here, or forwards it to the owner of its tenant.
pub(crate) async fn to_owner(
    State(edge): State<EdgeState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(cluster) = &edge.cluster else { return next.run(request).await };
    let (mut parts, body) = request.into_parts();
    let identified = async {
        let context = RequestContext::of(&parts.extensions)?;
        identify(&parts.headers, &context, &edge).await
    };
    let key = match identified.await {
        Ok(key) => key,
        Err(error) => return error.into_response(),
    };
    let tenant = key.key.tenant.clone();
    let partition = edge.router.partition_of(&tenant);
    parts.extensions.insert(Identified(key));
    let is_forwarded = parts.extensions.get::<Forwarded>().is_some();
    let pending = PendingRequest {
        edge: &edge,
        cluster,
        tenant,
        partition,
        parts,
        body: KeptBody::new(body),
        permits: OnceLock::new(),
    };
    if is_forwarded { pending.here(next).await } else { pending.run(next).await }
}

/// The outcome of one attempt at the owner.
enum Attempt {
    Answered(Response),
    /// The owner cannot be reached now, or does not serve the partition yet.
    Unreached,
    /// Another node owns the tenant, or soon will.
    Moved,
    /// The owner did not answer: it may have done what the request asks for.
    Unknown,
}

impl PendingRequest<'_> {
    /// Lets the handlers answer, if the partition is served here.
    async fn here(&self, next: Next) -> Response {
        if !self.edge.router.serves(self.partition) {
            return ApiError::not_owner().into_response();
        }
        next.run(Request::from_parts(self.parts.clone(), self.body.reader())).await
    }

    async fn run(&self, next: Next) -> Response {
        let until = self.edge.deadline();
        let wait_until = until.min(Instant::now() + OWNER_WAIT_MAX);
        let mut attempts = 0;
        let mut may_have_happened = false;
        while attempts < ATTEMPTS_MAX {
            let before = self.cluster.directory.owner(self.partition);
            let mut is_unreached = false;
            if self.edge.router.serves(self.partition) {
                attempts += 1;
                let response = self.here(next.clone()).await;
                if response.extensions().get::<NotOwner>().is_none() {
                    return answer_to_repeated(response, may_have_happened);
                }
                if !self.edge.router.serves(self.partition) {
                    continue;
                }
            } else {
                match self.forward(until).await {
                    Attempt::Answered(response) => {
                        return answer_to_repeated(response, may_have_happened);
                    }
                    Attempt::Moved => attempts += 1,
                    Attempt::Unknown => {
                        attempts += 1;
                        may_have_happened = !self.parts.method.is_safe();
                    }
                    Attempt::Unreached => is_unreached = true,
                }
            }
            let changed = self.owner_changed(before.as_ref(), is_unreached);
            if timeout_at(wait_until, changed).await.is_err() {
                break;
            }
        }
        metrics::counter!("triggers_requests_without_owner_total").increment(1);
        let partition = self.partition;
        ApiError::unavailable(format_args!("no node that answers serves partition {partition}"))
            .into_response()
    }

    /// Waits until the partition's owner differs from `before` or this node serves it. If the owner
    /// was not reached, waits no longer than [`OWNER_POLL`].
    async fn owner_changed(&self, before: Option<&Fence>, is_unreached: bool) {
        let directory = &self.cluster.directory;
        loop {
            // Register before reading the directory, so that no change is missed.
            let changed = directory.changed();
            if directory.owner(self.partition).as_ref() != before
                || self.edge.router.serves(self.partition)
            {
                return;
            }
            // The directory may not notify us when this node starts serving, so poll as well.
            if timeout(OWNER_POLL, changed).await.is_err() && is_unreached {
                return;
            }
        }
    }

    /// Forwards to the owner and, if that node names another owner, to that one.
    async fn forward(&self, until: Instant) -> Attempt {
        for _ in 0..2 {
            let Some(owner) = self.cluster.directory.owner(self.partition) else { break };
            if peer_of(&owner.incarnation) == self.cluster.peer {
                break;
            }
            match send::forward(self, peer_of(&owner.incarnation), until).await {
                ForwardOutcome::Answered(response) => return Attempt::Answered(response),
                ForwardOutcome::NotOwner(Some(fence)) if fence.epoch > owner.epoch => {
                    self.cluster.directory.note([(self.partition, &fence)]);
                }
                // A node that was just given the partition may not serve it yet.
                ForwardOutcome::NotReached | ForwardOutcome::NotOwner(_) => {
                    return Attempt::Unreached;
                }
                ForwardOutcome::Unknown if !self.is_repeatable() => {
                    let error = ApiError::unknown_outcome("the owner did not answer");
                    return Attempt::Answered(error.into_response());
                }
                ForwardOutcome::Unknown => return Attempt::Unknown,
            }
        }
        Attempt::Moved
    }

    /// Whether repeating the request changes nothing (`OWNER-2`).
    fn is_repeatable(&self) -> bool {
        let is_event = ["/v1/events", "/v1/events/batch"].contains(&self.parts.uri.path());
        let has_key = || IDEMPOTENCY_HEADERS.iter().any(|it| self.parts.headers.contains_key(it));
        self.parts.method.is_safe() || (is_event && has_key())
    }
}

/// What the client is told after the last attempt. If an earlier one may have been successful, a
/// refusal of the last one (too many requests, a key that was revoked meanwhile) would be a lie:
/// the outcome is unknown. A conflict is none: it says that the event is being accepted.
fn answer_to_repeated(response: Response, may_have_happened: bool) -> Response {
    let status = response.status();
    if may_have_happened && status.is_client_error() && status != StatusCode::CONFLICT {
        return ApiError::unknown_outcome(format_args!("repeated, and refused with {status}"))
            .into_response();
    }
    response
}
