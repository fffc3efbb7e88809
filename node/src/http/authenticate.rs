//! Authenticates a request before its body is read: key, tenant, rate and scope.
//!
//! A handler takes an `Authorized<EventsWrite>`, or another [`Permission`], and gets a [`Caller`].
//!
//! - `AUTH-1`: an address over its limit of bad requests causes no look-up, unless the key was good
//!   at its last one.
//! - `AUTH-2`: a missing, a malformed, an unknown, a revoked and an expired key get one answer.
//! - `AUTH-3`: a request over its rate is rejected before its scope is checked or its body is read.
//! - `AUTH-4`: no key and no part of one appears in logs or responses.
//! - `PERMISSION-1`: each permission type stands for one scope. Only
//!   [`triggers_protocol::Scopes::allows`] decides whether a scope includes another.

use super::error::ApiError;
use super::rate_limit::Budget;
use crate::access::AccessRow;
use crate::http::edge::{Edge, EdgeState};
use crate::http::request_context::RequestContext;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use triggers_protocol::lock::lock;
use triggers_protocol::{ErrorCode, KeyHash, Scope, TenantId};

const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// A scope as a type, so that the signature of a handler says what its callers need.
pub trait Permission: Send + Sync + 'static {
    /// Scope that the key must have.
    const SCOPE: Scope;
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name;

        impl Permission for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}

permissions! {
    /// Requires the scope `events:write`.
    EventsWrite;
    /// Requires the scope `inbox:read`.
    InboxRead;
    /// Requires the scope `inbox:ack`.
    InboxAck;
    /// Requires the scope `subscriptions:manage`.
    SubscriptionsManage;
    /// Requires the scope `keys:manage`.
    KeysManage;
    /// Requires the scope `admin`.
    Admin;
}

/// The authenticated sender of a request.
#[derive(Clone)]
pub struct Caller {
    /// Tenant of the key.
    pub tenant: TenantId,
    /// The key and its tenant, as stored at most `key_cache_ttl_ms` ago.
    pub key: Arc<AccessRow>,
    /// Context of the request.
    pub context: Arc<RequestContext>,
    budget: Arc<Mutex<Budget>>,
}

impl Caller {
    /// Takes the tokens of `count` events. `now` is monotonic time.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED` with the waiting time; no token was taken then.
    pub fn charge_events(&self, count: usize, now: Duration) -> Result<(), ApiError> {
        let mut budget = lock(&self.budget);
        let taken = budget.take_events(count, now);
        // The headers describe the bucket that rejects, so that they agree with `Retry-After`.
        self.context.set_rate(if taken.is_ok() {
            budget.lower_state()
        } else {
            budget.events_state()
        });
        taken.map_err(|wait_seconds| over_rate("events", wait_seconds))
    }

    /// Looks up the key again, for requests that outlast its cache entry.
    ///
    /// # Errors
    /// 401 or 403 if the key was revoked, expired or lost the scope since the request began.
    pub async fn check_again(&self, scope: Scope, edge: &Edge) -> Result<(), ApiError> {
        let found = edge.access.lookup(self.key.key.hash, edge.deadline()).await?;
        let row = found
            .filter(|row| !row.key.is_expired(edge.environment.now()))
            .ok_or_else(unauthorized)?;
        check_scope(&row, scope)
    }

    /// Whether the key has the scope `admin`.
    pub fn is_admin(&self) -> bool {
        self.key.key.scopes.allows(Scope::Admin)
    }
}

/// Extracts the [`Caller`] of a request if its key has the permission `S`.
pub struct Authorized<S>(pub Caller, pub PhantomData<S>);

impl<S: Permission> FromRequestParts<EdgeState> for Authorized<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &EdgeState) -> Result<Self, ApiError> {
        let context = RequestContext::of(&parts.extensions)?;
        let key = match parts.extensions.get::<Identified>() {
            Some(Identified(key)) => key.clone(),
            None => identify(&parts.headers, &context, state).await?,
        };
        let caller = charge_request(key, context)?;
        check_scope(&caller.key, S::SCOPE)?;
        Ok(Self(caller, PhantomData))
    }
}

fn check_scope(row: &AccessRow, scope: Scope) -> Result<(), ApiError> {
    if row.key.scopes.allows(scope) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::Forbidden,
        format!("the key does not have the scope {}", scope.as_str()),
    ))
}

/// Extension of a request whose key [`identify`] has found.
#[derive(Clone)]
pub(crate) struct Identified(pub(crate) Arc<AccessRow>);

/// Finds and looks up the key of a request.
pub(crate) async fn identify(
    headers: &HeaderMap,
    context: &RequestContext,
    state: &EdgeState,
) -> Result<Arc<AccessRow>, ApiError> {
    let now = context.received_at.monotonic;
    let flood = &context.counters.flood;
    let Some(hash) = key_hash(headers) else {
        return Err(flood.record(context.address, now).map_or_else(flooded, |()| unauthorized()));
    };
    if !state.access.is_remembered(hash) {
        flood.check(context.address, now).map_err(flooded)?;
    }
    let found = state.access.lookup(hash, state.deadline()).await?;
    match found.filter(|row| !row.key.is_expired(context.received_at.wall)) {
        Some(row) => Ok(row),
        None => Err(flood.record(context.address, now).map_or_else(flooded, |()| unauthorized())),
    }
}

/// Takes one request token and adds the tenant and its rate to the context.
fn charge_request(key: Arc<AccessRow>, context: Arc<RequestContext>) -> Result<Caller, ApiError> {
    let now = context.received_at.monotonic;
    let budget = context.counters.rates.budget(&key.key, key.tenant.tier, now);
    let charge = lock(&budget).take_request(now);
    context.identify(key.key.tenant.clone(), charge.state);
    if let Some(wait_seconds) = charge.rejected_for_seconds {
        return Err(over_rate("requests", wait_seconds));
    }
    Ok(Caller { tenant: key.key.tenant.clone(), key, context, budget })
}

/// Hash of the key in the headers, if the key is well-formed.
fn key_hash(headers: &HeaderMap) -> Option<KeyHash> {
    KeyHash::of(key_text(headers)?).ok()
}

/// Value of `X-API-Key`, or else of `Authorization: Bearer`.
fn key_text(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(API_KEY_HEADER) {
        return value.to_str().ok().map(str::trim);
    }
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn unauthorized() -> ApiError {
    ApiError::new(
        ErrorCode::Unauthorized,
        "a valid API key is required, in X-API-Key or Authorization: Bearer",
    )
}

fn flooded(wait_seconds: u64) -> ApiError {
    let message = "too many requests without a valid API key from this address";
    ApiError::new(ErrorCode::RateLimitExceeded, message).with_retry_after_seconds(wait_seconds)
}

fn over_rate(what: &str, wait_seconds: u64) -> ApiError {
    let message = format!("the key's rate of {what} is used up; try again in {wait_seconds} s");
    ApiError::new(ErrorCode::RateLimitExceeded, message).with_retry_after_seconds(wait_seconds)
}

#[cfg(test)]
mod tests;
