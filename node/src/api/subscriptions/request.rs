//! What requests about subscriptions may contain.
//!
//! Invariants: `SUBSCRIPTION-REQUEST-1` every fault of a body is named at once, under the name that the client used;
//! `SUBSCRIPTION-REQUEST-2` in a change absent means unchanged, `null` means the default, for everything that has one;
//! `SUBSCRIPTION-REQUEST-3` no part of a secret is in an error. Where the name in a target leads is not looked up here.

#[cfg(test)]
mod tests;

use crate::http::body;
use crate::http::body::faults::Faults;
use crate::http::body::members::{Member, members};
use crate::http::error::ApiError;
use crate::webhook::{Target, TargetPolicy};
use std::time::Duration;
use triggers_protocol::webhook::{SignatureScheme, SigningKey};
use triggers_protocol::{Environment, EventTypePattern, Malformed, RetryPolicy, SubscriptionId};
use triggers_store::tables::operations::SubscriptionChange;
use triggers_store::tables::rows::{SubscriptionKey, SubscriptionRow, SubscriptionStatus};

/// Patterns of one subscription.
const EVENT_TYPES_MAX: usize = 100;
const DESCRIPTION_CHARACTERS_MAX: usize = 200;
const MAX_IN_FLIGHT_MAX: u64 = 1_000;
const MAX_IN_FLIGHT_DEFAULT: u32 = 32;
/// An older key signs for a week at most, and for a day if nothing else was asked for.
const GRACE_SECONDS_MAX: u64 = 604_800;
const GRACE_SECONDS_DEFAULT: u64 = 86_400;

/// By what a request is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Where webhooks may go.
    pub(super) targets: &'a TargetPolicy,
    /// Whether the caller may have events tried for longer than a day.
    pub(super) is_admin: bool,
}

/// A subscription to make.
#[derive(Debug)]
pub(super) struct AskedSubscription {
    settings: SubscriptionChange,
    key: Option<SigningKey>,
    scheme: SignatureScheme,
}

impl AskedSubscription {
    /// The subscription to store, with a new key if none was given.
    pub(super) fn into_row(self, environment: &Environment) -> SubscriptionRow {
        let Self { settings, key, scheme } = self;
        let key = key.unwrap_or_else(|| SigningKey::generate(scheme, environment));
        let now = environment.now();
        SubscriptionRow {
            id: SubscriptionId::mint(now, environment.bytes()),
            target_url: settings.target_url.unwrap_or_default(),
            event_types: settings.event_types.unwrap_or_default(),
            description: settings.description.flatten(),
            keys: vec![SubscriptionKey { key, ends_at: None }],
            retry_policy: settings.retry_policy.flatten(),
            max_in_flight: settings.max_in_flight.unwrap_or(MAX_IN_FLIGHT_DEFAULT),
            status: SubscriptionStatus::Active,
            failing_since: None,
            held_until: None,
            created_at: now,
            updated_at: now,
            changed_by: 0,
        }
    }
}

/// How a key is rotated.
#[derive(Debug)]
pub(super) struct AskedRotation {
    /// The new key; one is made if there is none.
    pub(super) key: Option<SigningKey>,
    /// How long the older ones sign as well.
    pub(super) grace: Duration,
}

/// Reads the body that asks for a subscription.
///
/// # Errors
/// 400 that names every fault.
pub(super) fn new_subscription(
    body: &[u8],
    rules: Rules<'_>,
) -> Result<AskedSubscription, ApiError> {
    let mut faults = Faults::default();
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
    let [secret, scheme, settings @ ..] = members(body::text(body)?, names, &mut faults)?;
    let [snake, camel, ..] = settings;
    if camel.given().is_none() {
        snake.required(&mut faults);
    }
    let settings = settings_of(settings, rules, &mut faults);
    let key = secret.parsed(&mut faults, SigningKey::parse);
    let scheme = parsed_scheme(scheme, key.as_ref(), &mut faults);
    faults.check().map(|()| AskedSubscription { settings, key, scheme })
}

/// Reads the body that asks for a change.
///
/// # Errors
/// 400 that names every fault.
pub(super) fn change(body: &[u8], rules: Rules<'_>) -> Result<SubscriptionChange, ApiError> {
    let mut faults = Faults::default();
    let names = [
        "status",
        "target_url",
        "targetUrl",
        "event_types",
        "description",
        "retry_policy",
        "max_in_flight",
    ];
    let [status, settings @ ..] = members(body::text(body)?, names, &mut faults)?;
    let [snake, camel, ..] = settings;
    for member in [snake, camel, status].into_iter().filter(|member| member.is_null()) {
        faults.add(member.name, "must not be null");
    }
    let settings = settings_of(settings, rules, &mut faults);
    let active = status.parsed(&mut faults, |text| match text {
        "active" => Ok(true),
        "disabled" => Ok(false),
        _ => Err(Malformed("must be active or disabled".to_owned())),
    });
    faults.check().map(|()| SubscriptionChange { active, ..settings })
}

/// Reads the body that asks for a rotation; without one everything has its default.
///
/// # Errors
/// 400 that names every fault.
pub(super) fn rotation(body: Option<&[u8]>) -> Result<AskedRotation, ApiError> {
    let mut faults = Faults::default();
    let text = body.map_or(Ok("{}"), body::text)?;
    let [secret, grace] = members(text, ["secret", "grace_seconds"], &mut faults)?;
    let key = secret.parsed(&mut faults, SigningKey::parse);
    let grace_s =
        grace.whole_number(&mut faults, 0..=GRACE_SECONDS_MAX).unwrap_or(GRACE_SECONDS_DEFAULT);
    faults.check().map(|()| AskedRotation { key, grace: Duration::from_secs(grace_s) })
}

/// The settings that a body names, for a new subscription and for a change alike.
fn settings_of(
    [snake, camel, types, description, policy, in_flight]: [Member<'_>; 6],
    rules: Rules<'_>,
    faults: &mut Faults,
) -> SubscriptionChange {
    let target_url = parsed_target([snake, camel], rules.targets, faults);
    let event_types = asked(types, parsed_types(types, faults)).map(Option::unwrap_or_default);
    let description = asked(description, parsed_description(description, faults));
    let retry_policy = asked(policy, parsed_policy(policy, rules.is_admin, faults));
    let count = in_flight
        .whole_number(faults, 1..=MAX_IN_FLIGHT_MAX)
        .and_then(|count| u32::try_from(count).ok());
    let max_in_flight = asked(in_flight, count).map(|count| count.unwrap_or(MAX_IN_FLIGHT_DEFAULT));
    SubscriptionChange {
        target_url,
        event_types,
        description,
        retry_policy,
        max_in_flight,
        active: None,
        key: None,
    }
}

/// Nothing if the member is absent, the default if it is `null`, else the value.
fn asked<T>(member: Member<'_>, value: Option<T>) -> Option<Option<T>> {
    if member.is_null() { Some(None) } else { value.map(Some) }
}

/// The target under either of its names. Under both it must be the same.
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

fn parsed_policy(member: Member<'_>, is_admin: bool, faults: &mut Faults) -> Option<RetryPolicy> {
    let message = "must have delays_seconds, or initial, factor, max and max_attempts";
    let policy: RetryPolicy = member.decoded(faults, message)?;
    policy
        .validate(is_admin)
        .map_err(|reason| faults.add(member.name, reason.0))
        .ok()
        .map(|()| policy)
}

/// The scheme: the one that is named, which must fit the key, else the key's, else the symmetric one.
fn parsed_scheme(
    member: Member<'_>,
    key: Option<&SigningKey>,
    faults: &mut Faults,
) -> SignatureScheme {
    let named = member.parsed(faults, |text| match text {
        "hmac-sha256" => Ok(SignatureScheme::HmacSha256),
        "ed25519" => Ok(SignatureScheme::Ed25519),
        _ => Err(Malformed("must be hmac-sha256 or ed25519".to_owned())),
    });
    let of_key = key.map(SigningKey::scheme);
    if named.is_some() && of_key.is_some() && named != of_key {
        faults
            .add(member.name, "must fit the secret: hmac-sha256 with whsec_…, ed25519 with whsk_…");
    }
    named.or(of_key).unwrap_or(SignatureScheme::HmacSha256)
}
