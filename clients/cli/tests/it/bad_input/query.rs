//! Tests of invalid query parameters of the inbox: limits, cursors, filters.
//!
//! - QUERY-T-1: a known parameter with an invalid value is rejected and named; an unknown parameter
//!   is ignored.
//! - QUERY-T-2: a cursor is rejected if any of its characters is changed.

use super::probe::Probe;
use crate::harness::{Call, listing};

fn inbox(query: &str) -> Call {
    Call::get(format!("/v1/inbox?{query}"))
}

#[tokio::test]
async fn known_parameters_with_invalid_values_are_named() {
    let mut probe = Probe::start(&[]).await;
    for value in ["0", "-1", "201", "abc", "1.5", "", "%20", "99999999999999999999", "1e2", "0x10"]
    {
        probe.rejects_field(inbox(&format!("limit={value}")), "limit").await;
    }
    for value in ["bogus", "", "RECEIVED", "received,queued", "%00"] {
        probe.rejects_field(inbox(&format!("status={value}")), "status").await;
    }
    for field in ["from_timestamp", "to_timestamp"] {
        for value in [
            "yesterday",
            "",
            "2026-01-01",
            "2026-02-30T00:00:00Z",
            "1700000000",
            "2026-01-01T00:00:00",
        ] {
            probe.rejects_field(inbox(&format!("{field}={value}")), field).await;
        }
    }
    for value in [
        "",
        "a..b",
        ".a",
        "a.*.b",
        "**",
        "a*",
        "a%20b",
        "%00",
        "a.b.",
        "%F0%9F%98%80",
        &"a".repeat(200),
    ] {
        probe.rejects_field(inbox(&format!("event_type={value}")), "event_type").await;
    }
    probe.rejects_field(inbox("event_type=good.one&event_type=b..d"), "event_type").await;
    for query in
        ["limit=1", "limit=200", "unknown=", "unknown=%00&limit=5", "status=failed", "%F0=1", "&&"]
    {
        probe.client.send(inbox(query)).await.expect(200);
    }
}

#[tokio::test]
async fn a_changed_cursor_is_rejected() {
    let mut probe = Probe::start(&[]).await;
    for _ in 0..5 {
        probe.accepts(Call::event("cursor.event", "{}"), 1).await;
    }
    let cursor = listing::page(&probe.client, "limit=2", None).await.cursor.expect("there is more");
    assert!(cursor.is_ascii() && cursor.len() > 8, "a cursor is text for a query: {cursor}");
    let garbage = [
        "abc",
        "!!!!",
        "%00",
        "AAAA",
        "null",
        "0",
        "019a0000-0000-7000-8000-000000000000",
        "%FF%FE",
        "%20",
    ];
    for bad in garbage {
        probe.rejects(inbox(&format!("cursor={bad}")), 400, &["INVALID_CURSOR"]).await;
    }
    let long = "A".repeat(4_000);
    probe.rejects(inbox(&format!("cursor={long}")), 400, &["INVALID_CURSOR"]).await;
    let (half, shorter) = (&cursor[..cursor.len() / 2], &cursor[..cursor.len() - 4]);
    let altered =
        [half.to_owned(), shorter.to_owned(), cursor[1..].to_owned(), format!("{cursor}{cursor}")];
    for bad in altered {
        probe.rejects(inbox(&format!("cursor={bad}")), 400, &["INVALID_CURSOR"]).await;
    }
    // The last character may have unused bits, so changing it may not change the cursor.
    for at in 0..cursor.len() - 1 {
        let other = if &cursor[at..=at] == "A" { "B" } else { "A" };
        let bad = format!("{}{other}{}", &cursor[..at], &cursor[at + 1..]);
        let answer = probe.client.send(inbox(&format!("cursor={bad}"))).await;
        super::probe::check_rejection(
            &answer,
            400,
            &["INVALID_CURSOR"],
            &format!("character {at} of the cursor"),
        );
    }
    probe.client.send(inbox(&format!("cursor={cursor}"))).await.expect(200);
}
