//! Reads the request bodies about subscriptions.
//!
//! - `SUBSCRIPTION-REQUEST-1`: every fault of a body is named at once, under the name that the
//!   client used.
//! - `SUBSCRIPTION-REQUEST-2`: in a change, an absent member leaves the setting as it is, and
//!   `null` sets the default, for each setting that has one.
//! - `SUBSCRIPTION-REQUEST-3`: no part of a secret is in an error.

#[cfg(test)]
mod tests;

use crate::api::read;
use crate::http::body::members::Member;
use crate::http::error::{ApiError, Faults};
use crate::webhook::{Target, TargetPolicy};
use std::time::Duration;
use triggers_actors::model::operations::SubscriptionChange;
use triggers_actors::model::rows::{SubscriptionKey, SubscriptionRow, SubscriptionStatus};
use triggers_protocol::api::{
    NewSubscription, SecretRotation, SubscriptionPatch, SubscriptionState,
};
use triggers_protocol::webhook::{SignatureScheme, SigningKey};
use triggers_protocol::{Environment, EventTypePattern, Malformed, SubscriptionId};

/// Maximum patterns of one subscription.
const EVENT_TYPES_MAX: usize = 100;
const DESCRIPTION_CHARACTERS_MAX: usize = 200;
const MAX_IN_FLIGHT_MAX: u64 = 1_000;
const MAX_IN_FLIGHT_DEFAULT: u32 = 32;
/// An older key signs for at most a week, by default for a day.
const GRACE_SECONDS_MAX: u64 = 604_800;
const GRACE_SECONDS_DEFAULT: u32 = 86_400;

/// The rules that depend on the node and the caller.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Rules<'a> {
    /// The targets that may be called.
    pub(in crate::api) targets: &'a TargetPolicy,
    /// Whether the caller may retry for longer than a day.
    pub(in crate::api) is_admin: bool,
}

/// The row of a new subscription, with a new key if none was given.
pub(super) fn row(new: NewSubscription, environment: &Environment) -> SubscriptionRow {
    let scheme = new.signature_scheme.unwrap_or(SignatureScheme::HmacSha256);
    let key = new.secret.unwrap_or_else(|| SigningKey::generate(scheme, environment));
    let now = environment.now();
    SubscriptionRow {
        id: SubscriptionId::mint(now, environment.bytes()),
        target_url: new.target_url.unwrap_or_default(),
        event_types: new.event_types.unwrap_or_default(),
        description: new.description,
        keys: vec![SubscriptionKey { key, ends_at: None }],
        retry_policy: new.retry_policy,
        max_in_flight: new.max_in_flight.unwrap_or(MAX_IN_FLIGHT_DEFAULT),
        status: SubscriptionStatus::Active,
        failing_since: None,
        held_until: None,
        created_at: now,
        updated_at: now,
        changed_by: 0,
    }
}

/// The change to the stored subscription that a request asks for.
pub(super) fn change(patch: SubscriptionPatch) -> SubscriptionChange {
    SubscriptionChange {
        target_url: patch.target_url,
        event_types: patch.event_types.map(Option::unwrap_or_default),
        description: patch.description,
        retry_policy: patch.retry_policy,
        max_in_flight: patch.max_in_flight.map(|count| count.unwrap_or(MAX_IN_FLIGHT_DEFAULT)),
        active: patch.status.map(|status| status == SubscriptionState::Active),
        key: None,
    }
}

/// How long older keys sign beside a new one.
pub(super) fn grace(seconds: Option<u32>) -> Duration {
    Duration::from_secs(seconds.unwrap_or(GRACE_SECONDS_DEFAULT).into())
}

/// Reads the body that asks for a subscription; its target is normalised in `target_url`.
pub(in crate::api) fn new_subscription(
    body: &[u8],
    rules: Rules<'_>,
) -> Result<NewSubscription, ApiError> {
    let names = [
        "secret",
        "signature_scheme",
        "target_url",
        "targetUrl",
        "event_types",
        "description",
        "retry_policy",
        "max_in_flight",
    ];
    read::object(body, names, |[secret, scheme, settings @ ..], faults| {
        let [snake, camel, ..] = settings;
        if camel.given().is_none() {
            snake.required(faults);
        }
        let settings = settings_of(settings, rules, faults);
        let secret = secret.parsed(faults, SigningKey::parse);
        let signature_scheme = parsed_scheme(scheme, secret.as_ref(), faults);
        NewSubscription {
            target_url: settings.target_url,
            target_url_of_rest_hooks: None,
            event_types: settings.event_types.flatten(),
            description: settings.description.flatten(),
            secret,
            signature_scheme,
            retry_policy: settings.retry_policy.flatten(),
            max_in_flight: settings.max_in_flight.flatten(),
        }
    })
}

/// Reads the body that asks for a change; its target is normalised in `target_url`.
pub(in crate::api) fn patch(body: &[u8], rules: Rules<'_>) -> Result<SubscriptionPatch, ApiError> {
    let names = [
        "status",
        "target_url",
        "targetUrl",
        "event_types",
        "description",
        "retry_policy",
        "max_in_flight",
    ];
    read::object(body, names, |[status, settings @ ..], faults| {
        let [snake, camel, ..] = settings;
        for member in [snake, camel, status].into_iter().filter(|member| member.is_null()) {
            faults.add(member.name, "must not be null");
        }
        let settings = settings_of(settings, rules, faults);
        let status = status.decoded(faults, "must be active or disabled");
        SubscriptionPatch { status, ..settings }
    })
}

/// Reads the body that asks for a rotation.
pub(in crate::api) fn rotation(body: &[u8]) -> Result<SecretRotation, ApiError> {
    read::object(body, ["secret", "grace_seconds"], |[secret, grace], faults| SecretRotation {
        secret: secret.parsed(faults, SigningKey::parse),
        grace_seconds: grace.whole_number(faults, 0..=GRACE_SECONDS_MAX),
    })
}

/// The settings that a body names, for a new subscription and for a change alike.
fn settings_of(
    [snake, camel, types, description, policy, in_flight]: [Member<'_>; 6],
    rules: Rules<'_>,
    faults: &mut Faults,
) -> SubscriptionPatch {
    SubscriptionPatch {
        target_url: parsed_target([snake, camel], rules.targets, faults),
        target_url_of_rest_hooks: None,
        event_types: types.patch(parsed_types(types, faults)),
        description: description.patch(parsed_description(description, faults)),
        retry_policy: policy.patch(policy.retry_policy(faults, rules.is_admin)),
        max_in_flight: in_flight.patch(in_flight.whole_number(faults, 1..=MAX_IN_FLIGHT_MAX)),
        status: None,
    }
}

/// The normalised target, under either of its names. Under both it must be the same.
fn parsed_target(
    names: [Member<'_>; 2],
    policy: &TargetPolicy,
    faults: &mut Faults,
) -> Option<String> {
    let [snake, camel] = names;
    let [first, second] = names.map(|member| member.text(faults));
    if first.is_some() && second.is_some() && first != second {
        faults.add(camel.name, "must be the same as target_url");
    }
    let name = if first.is_some() { snake.name } else { camel.name };
    let text = first.or(second)?;
    Target::parse(&text, policy)
        .map_err(|reason| faults.add(name, reason.0))
        .ok()
        .map(|target| target.uri().to_string())
}

fn parsed_types(member: Member<'_>, faults: &mut Faults) -> Option<Vec<EventTypePattern>> {
    let texts: Vec<String> = member.decoded(faults, "must be an array of strings")?;
    if texts.len() > EVENT_TYPES_MAX {
        faults.add(member.name, format!("must name at most {EVENT_TYPES_MAX} types"));
        return None;
    }
    let parsed = texts.iter().enumerate().filter_map(|(index, text)| {
        let fault = |reason: Malformed| faults.add(format!("{}[{index}]", member.name), reason.0);
        EventTypePattern::parse(text).map_err(fault).ok()
    });
    Some(parsed.collect())
}

fn parsed_description(member: Member<'_>, faults: &mut Faults) -> Option<String> {
    let text = member.text(faults)?;
    if text.chars().count() > DESCRIPTION_CHARACTERS_MAX {
        faults
            .add(member.name, format!("must have at most {DESCRIPTION_CHARACTERS_MAX} characters"));
    }
    Some(text.into_owned())
}

/// The scheme: the one that is named, which must fit the key, or that of the key.
fn parsed_scheme(
    member: Member<'_>,
    key: Option<&SigningKey>,
    faults: &mut Faults,
) -> Option<SignatureScheme> {
    let named = member.decoded(faults, "must be hmac-sha256 or ed25519");
    let of_key = key.map(SigningKey::scheme);
    if named.is_some() && of_key.is_some() && named != of_key {
        faults
            .add(member.name, "must fit the secret: hmac-sha256 with whsec_…, ed25519 with whsk_…");
    }
    named.or(of_key)
}
