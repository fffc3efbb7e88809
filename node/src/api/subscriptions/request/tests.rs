//! Tests of what requests about subscriptions may contain.
//!
//! The tests beside the handlers cover what the node does with them.

use super::*;

static TARGETS: TargetPolicy = TargetPolicy { is_https_required: true, allowed: Vec::new() };
const SYMMETRIC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn rules(is_admin: bool) -> Rules<'static> {
    Rules { targets: &TARGETS, is_admin }
}

fn made(body: &str) -> Result<SubscriptionRow, Vec<String>> {
    let asked = new_subscription(body.as_bytes(), rules(false)).map_err(fields);
    asked.map(|asked| row(asked, &Environment::system()))
}

fn changed(body: &str) -> Result<SubscriptionChange, Vec<String>> {
    patch(body.as_bytes(), rules(false)).map(change).map_err(fields)
}

fn fields(error: ApiError) -> Vec<String> {
    error.details.into_iter().map(|detail| detail.field).collect()
}

#[test]
fn a_subscription_needs_only_a_target() {
    for body in [
        r#"{"target_url":"https://example.com/"}"#,
        r#"{"targetUrl":"https://example.com/","target_url":null}"#,
        r#"{"targetUrl":"https://example.com/","target_url":"https://example.com/",
            "event_types":[],"secret":null}"#,
    ] {
        let row = made(body).unwrap();
        assert_eq!((row.target_url.as_str(), row.max_in_flight), ("https://example.com/", 32));
        assert!(
            row.event_types.is_empty() && row.description.is_none() && row.retry_policy.is_none()
        );
        assert_eq!(row.keys[0].key.scheme(), SignatureScheme::HmacSha256);
    }
    assert_eq!(made("{}").unwrap_err(), ["target_url"]);
    let differing = r#"{"target_url":"https://example.com/","targetUrl":"https://example.com/a"}"#;
    assert_eq!(made(differing).unwrap_err(), ["targetUrl"]);
    assert_eq!(made(r#"{"targetUrl":"http://example.com/"}"#).unwrap_err(), ["targetUrl"]);
}

#[test]
fn the_scheme_is_that_of_the_secret() {
    let scheme = |rest: &str| {
        let row = made(&format!(r#"{{"target_url":"https://example.com/",{rest}}}"#));
        row.map(|row| row.keys[0].key.scheme())
    };
    let asymmetric = SigningKey::Ed25519([7; 32]).reveal();
    assert_eq!(scheme(r#""signature_scheme":"ed25519""#), Ok(SignatureScheme::Ed25519));
    assert_eq!(scheme(&format!(r#""secret":"{asymmetric}""#)), Ok(SignatureScheme::Ed25519));
    assert_eq!(
        scheme(&format!(r#""secret":"{SYMMETRIC}","signature_scheme":"hmac-sha256""#)),
        Ok(SignatureScheme::HmacSha256)
    );
    for (secret, named) in [(asymmetric.as_str(), "hmac-sha256"), (SYMMETRIC, "ed25519")] {
        let rejected = scheme(&format!(r#""secret":"{secret}","signature_scheme":"{named}""#));
        assert_eq!(rejected.unwrap_err(), ["signature_scheme"]);
    }
}

#[test]
fn every_fault_is_named() {
    let body = format!(
        r#"{{"target_url":"x","event_types":["a","b..c","*.d"],"description":"{}",
        "secret":"whsec_AAAA",
        "signature_scheme":"rsa","retry_policy":{{"delays_seconds":[86401]}},
        "max_in_flight":1001}}"#,
        "ä".repeat(201)
    );
    let of_settings = [
        "target_url",
        "event_types[1]",
        "event_types[2]",
        "description",
        "retry_policy",
        "max_in_flight",
    ];
    let mut all = of_settings.to_vec();
    all.extend(["secret", "signature_scheme"]);
    assert_eq!(made(&body).unwrap_err(), all, "SUBSCRIPTION-REQUEST-1");
    assert_eq!(changed(&body).unwrap_err(), of_settings, "SUBSCRIPTION-REQUEST-1");
    let secret = r#"{"target_url":"https://example.com/","secret":"whsec_c2hvcnQ="}"#;
    let error = new_subscription(secret.as_bytes(), rules(false)).unwrap_err();
    assert!(!format!("{error:?}").contains("c2hvcnQ"), "SUBSCRIPTION-REQUEST-3");
    let many = format!(r#"{{"event_types":{:?}}}"#, vec!["a"; 101]);
    assert_eq!(changed(&many).unwrap_err(), ["event_types"]);
}

#[test]
fn longer_retries_are_for_admins() {
    let body = br#"{"retry_policy":{"delays_seconds":[86401]}}"#;
    assert!(patch(body, rules(false)).is_err());
    assert!(patch(body, rules(true)).unwrap().retry_policy.flatten().is_some());
}

#[test]
fn a_change_touches_what_it_names() {
    assert_eq!(changed(r#"{"secret":"ignored"}"#).unwrap(), SubscriptionChange::default());
    let nulls =
        r#"{"event_types":null,"description":null,"retry_policy":null,"max_in_flight":null}"#;
    let defaults = SubscriptionChange {
        event_types: Some(Vec::new()),
        description: Some(None),
        retry_policy: Some(None),
        max_in_flight: Some(32),
        ..SubscriptionChange::default()
    };
    assert_eq!(changed(nulls).unwrap(), defaults, "SUBSCRIPTION-REQUEST-2");
    let active = |body: &str| changed(body).map(|change| change.active);
    assert_eq!(active(r#"{"status":"active"}"#), Ok(Some(true)));
    assert_eq!(active(r#"{"status":"disabled"}"#), Ok(Some(false)));
    assert_eq!(
        active(r#"{"status":null,"target_url":null}"#).unwrap_err(),
        ["target_url", "status"]
    );
    assert_eq!(active(r#"{"status":"gone"}"#).unwrap_err(), ["status"]);
}

#[test]
fn a_rotation_has_a_grace() {
    let grace = |body: &str| {
        rotation(body.as_bytes()).map(|asked| super::grace(asked.grace_seconds).as_secs())
    };
    assert_eq!(grace("{}"), Ok(86_400));
    assert_eq!(grace(r#"{"grace_seconds":0}"#), Ok(0));
    assert_eq!(grace(r#"{"grace_seconds":604800}"#), Ok(604_800));
    let bad = r#"{"grace_seconds":604801,"secret":"x"}"#;
    assert_eq!(fields(grace(bad).unwrap_err()), ["secret", "grace_seconds"]);
    let given = rotation(format!(r#"{{"secret":"{SYMMETRIC}"}}"#).as_bytes()).unwrap();
    assert_eq!(given.secret.map(|key| key.reveal()).as_deref(), Some(SYMMETRIC));
}
