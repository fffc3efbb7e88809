//! Who sends a request: key, tenant, rate and scope, found out before the body is read.
//!
//! A handler asks for `Authorized<EventsWrite>` (or another permission) and gets a [`Caller`]. In this order: the key's
//! text is found and its checksum checked; an address that sent too many bad keys is cut off; the key is looked up; one
//! request token is taken; the scope is checked.
//! Invariants: `AUTH-1` nothing is looked up for an address that is over its limit, unless the key was good a moment ago;
//! `AUTH-2` a missing, malformed, unknown, revoked and an expired key get the same answer; `AUTH-3` a request over its
//! rate costs nothing but this; `AUTH-4` no key and no part of one is logged or answered.

mod permission;

pub use permission::{
    Admin, EventsWrite, InboxAck, InboxRead, KeysManage, Permission, SubscriptionsManage,
};

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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use triggers_protocol::{ErrorCode, KeyHash, Scope, TenantId};

const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// An authenticated sender.
#[derive(Clone)]
pub struct Caller {
    /// The key's tenant.
    pub tenant: TenantId,
    /// The key and its tenant as stored, at most a second ago.
    pub key: Arc<AccessRow>,
    /// What is known about the request.
    pub context: Arc<RequestContext>,
    budget: Arc<Mutex<Budget>>,
}

impl Caller {
    /// Takes the tokens of `count` events, at this time of the monotonic clock.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED` with the time to wait; nothing was taken then.
    pub fn charge_events(&self, count: usize, now: Duration) -> Result<(), ApiError> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = budget.take_events(count, now);
        // The response tells of the bucket that refuses, so that it agrees with the time to wait.
        self.context.note_rate(if taken.is_ok() {
            budget.lower_state()
        } else {
            budget.events_state()
        });
        taken.map_err(|wait_s| over_rate("events", wait_s))
    }

    /// Looks the key up again, for requests that last longer than a look-up is good for.
    ///
    /// # Errors
    /// 401 or 403 if it has been revoked, has expired or has lost the scope meanwhile.
    pub async fn check_still(&self, scope: Scope, edge: &Edge) -> Result<(), ApiError> {
        let found = edge.access.lookup(self.key.key.hash, edge.deadline()).await?;
        let row = found
            .filter(|row| !row.key.is_expired(edge.environment.now()))
            .ok_or_else(unauthorized)?;
        check_scope(&row, scope)
    }

    /// Whether the key may act for all tenants.
    pub fn is_admin(&self) -> bool {
        self.key.key.scopes.allows(Scope::Admin)
    }
}

/// Extracts the [`Caller`] of a request whose key has the permission `S`.
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

/// Among the extensions of a request: its key, found already.
#[derive(Clone)]
pub(crate) struct Identified(pub(crate) Arc<AccessRow>);

/// Finds the key of a request.
pub(crate) async fn identify(
    headers: &HeaderMap,
    context: &RequestContext,
    state: &EdgeState,
) -> Result<Arc<AccessRow>, ApiError> {
    let now = context.came.monotonic;
    let flood = &context.counters.flood;
    let Some(hash) = key_hash(headers) else {
        return Err(flood.record(context.address, now).map_or_else(flooded, |()| unauthorized()));
    };
    if !state.access.is_remembered(hash) {
        flood.check(context.address, now).map_err(flooded)?;
    }
    let found = state.access.lookup(hash, state.deadline()).await?;
    match found.filter(|row| !row.key.is_expired(context.came.at)) {
        Some(row) => Ok(row),
        None => Err(flood.record(context.address, now).map_or_else(flooded, |()| unauthorized())),
    }
}

/// Takes one request token and notes for the response whose it was.
fn charge_request(key: Arc<AccessRow>, context: Arc<RequestContext>) -> Result<Caller, ApiError> {
    let now = context.came.monotonic;
    let budget = context.counters.rates.budget(&key.key, key.tenant.tier, now);
    let charge = budget.lock().unwrap_or_else(PoisonError::into_inner).take_request(now);
    context.identify(key.key.tenant.clone(), charge.state);
    if let Some(wait_s) = charge.refused_for_s {
        return Err(over_rate("requests", wait_s));
    }
    Ok(Caller { tenant: key.key.tenant.clone(), key, context, budget })
}

/// The hash of the key in the headers, if there is a well-formed one.
fn key_hash(headers: &HeaderMap) -> Option<KeyHash> {
    KeyHash::of(key_text(headers)?).ok()
}

/// The text of `X-API-Key`, or else of `Authorization: Bearer`.
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

fn flooded(wait_s: u64) -> ApiError {
    let message = "too many requests without a valid API key from this address";
    ApiError::new(ErrorCode::RateLimitExceeded, message).with_retry_after_s(wait_s)
}

fn over_rate(what: &str, wait_s: u64) -> ApiError {
    let message = format!("the key's rate of {what} is used up; try again in {wait_s} s");
    ApiError::new(ErrorCode::RateLimitExceeded, message).with_retry_after_s(wait_s)
}

#[cfg(test)]
mod tests;
