//! Which node answers: the one that owns the key's tenant, whichever the client has come to.
//!
//! ```text
//! to_owner ─ served here ──────────▶ the handlers ── NotOwner? ─┐
//!      │                                                        ├─▶ look again, at most ATTEMPTS_MAX times
//!      └ served elsewhere ─ relay ═▶ the owner's serve ═▶ its own to_owner ─▶ its handlers, rates and streams
//! ```
//! The whole request travels, so that what it means, its rates and its waits are the owner's.
//! Invariants: `OWNER-1` a request is sent on once: what came from a member is answered here or not at all; `OWNER-2` it is
//! sent again only if the owner said that it did nothing, or if repeating it changes nothing; `OWNER-3` a body is kept until
//! the answer is there, so that a move of the partition meanwhile is not the client's trouble.
//! A node that stands alone has none of this.

mod kept_body;
mod send;
mod serve;

pub use serve::PeerRequests;

use crate::api::ingest::idempotency;
use crate::http::authenticate::{Identified, identify};
use crate::http::body::Places;
use crate::http::edge::{EdgeCluster, EdgeState};
use crate::http::error::ApiError;
use crate::http::forwarded::{Elsewhere, Forwarded};
use crate::http::request_context::RequestContext;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kept_body::KeptBody;
use send::Relayed;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use triggers_actors::cluster::peer_of;
use triggers_protocol::{PartitionId, TenantId};
use triggers_store::tables::rows::Fence;

/// Tries of one request.
const ATTEMPTS_MAX: usize = 5;
/// Waits of one request for news of an owner, all together: a planned move takes less, and the end of a node that died is
/// better left to the client.
const NEWS_WAIT_MAX: Duration = Duration::from_secs(5);
const NEWS_POLL: Duration = Duration::from_millis(200);

/// The middleware.
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
    let errand = Errand {
        edge: &edge,
        cluster,
        tenant,
        partition,
        parts,
        body: KeptBody::new(body),
        places: OnceLock::new(),
    };
    if is_forwarded { errand.here(next).await } else { errand.run(next).await }
}

/// One request on its way to the owner.
struct Errand<'a> {
    edge: &'a EdgeState,
    cluster: &'a EdgeCluster,
    tenant: TenantId,
    partition: PartitionId,
    parts: Parts,
    body: KeptBody,
    /// Memory for the body while it is here on its way.
    places: OnceLock<Places>,
}

/// What came of an attempt at the owner.
enum Attempt {
    Answered(Response),
    /// There is no way to it now, though there may be one soon.
    Unreached,
    /// Another one owns the tenant, or is about to.
    Moved,
}

impl Errand<'_> {
    /// Lets the handlers answer, if the partition is served here.
    async fn here(&self, next: Next) -> Response {
        if !self.edge.router.serves(self.partition) {
            return elsewhere();
        }
        next.run(Request::from_parts(self.parts.clone(), self.body.again())).await
    }

    async fn run(&self, next: Next) -> Response {
        let until = self.edge.deadline();
        let news_until = until.min(Instant::now() + NEWS_WAIT_MAX);
        let mut attempts = 0;
        while attempts < ATTEMPTS_MAX {
            let before = self.cluster.directory.owner(self.partition);
            let mut is_unreached = false;
            if self.edge.router.serves(self.partition) {
                attempts += 1;
                let response = self.here(next.clone()).await;
                if response.extensions().get::<Elsewhere>().is_none() {
                    return response;
                }
                if !self.edge.router.serves(self.partition) {
                    continue;
                }
            } else {
                match self.elsewhere(until).await {
                    Attempt::Answered(response) => return response,
                    Attempt::Moved => attempts += 1,
                    Attempt::Unreached => is_unreached = true,
                }
            }
            if timeout_at(news_until, self.news_since(before.as_ref(), is_unreached)).await.is_err()
            {
                break;
            }
        }
        metrics::counter!("triggers_requests_without_owner_total").increment(1);
        ApiError::unavailable(format_args!(
            "partition {} is served by nobody that answers",
            self.partition
        ))
        .into_response()
    }

    /// Waits until the partition has another owner than before, or is served here; or, where the owner was not reached, a
    /// little.
    async fn news_since(&self, before: Option<&Fence>, is_unreached: bool) {
        let directory = &self.cluster.directory;
        loop {
            // Registered before it is looked, so that no news is missed.
            let changed = directory.changed();
            if directory.owner(self.partition).as_ref() != before
                || self.edge.router.serves(self.partition)
            {
                return;
            }
            // What is served here is not always told of.
            let is_over = timeout(NEWS_POLL, changed).await.is_err();
            if is_over && is_unreached {
                return;
            }
        }
    }

    /// Asks the owner, and the one that it names.
    async fn elsewhere(&self, until: Instant) -> Attempt {
        for _ in 0..2 {
            let Some(owner) = self.cluster.directory.owner(self.partition) else { break };
            if peer_of(&owner.incarnation) == self.cluster.peer {
                break;
            }
            match send::relay(self, peer_of(&owner.incarnation), until).await {
                Relayed::Answer(response) => return Attempt::Answered(response),
                Relayed::NotOwner(Some(fence)) if fence.epoch > owner.epoch => {
                    self.cluster.directory.note([(self.partition, &fence)]);
                }
                // No way to it, or it does not serve yet what it was just given: it is asked again a little later.
                Relayed::Nothing | Relayed::NotOwner(_) => return Attempt::Unreached,
                Relayed::Unknown if !self.is_repeatable() => {
                    return Attempt::Answered(
                        ApiError::unknown_outcome("the owner did not answer").into_response(),
                    );
                }
                Relayed::Unknown => break,
            }
        }
        Attempt::Moved
    }

    /// `OWNER-2`.
    fn is_repeatable(&self) -> bool {
        let is_event = ["/v1/events", "/v1/events/batch"].contains(&self.parts.uri.path());
        self.parts.method.is_safe()
            || (is_event
                && idempotency::HEADERS.iter().any(|it| self.parts.headers.contains_key(it)))
    }
}

/// Nothing was done.
fn elsewhere() -> Response {
    ApiError::elsewhere().into_response()
}
