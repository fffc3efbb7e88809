//! Tests of the text form against RFC 3339, with `jiff` as the model of the calendar.

use super::*;
use proptest::prelude::*;

fn printed(text: &str) -> Option<String> {
    Timestamp::parse(text).ok().map(|time| time.to_string())
}

#[test]
fn a_time_has_the_decimals_that_it_needs() {
    assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
    for (sent, kept) in [
        ("2026-01-01T02:00:00.1+02:00", "2026-01-01T00:00:00.100Z"),
        ("2026-01-01T02:00:00.123456+02:00", "2026-01-01T00:00:00.123456Z"),
        ("2026-01-01T02:00:00.123456789+02:00", "2026-01-01T00:00:00.123456789Z"),
        ("2026-01-01T00:00:00.0000000019Z", "2026-01-01T00:00:00.000000001Z"),
        ("1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999999Z"),
    ] {
        assert_eq!(printed(sent).as_deref(), Some(kept), "{sent}");
    }
    let digits = "1234567890".repeat(10);
    let long = format!("2026-01-01T00:00:00.{digits}Z");
    assert_eq!(printed(&long).as_deref(), Some("2026-01-01T00:00:00.123456789Z"));
}

#[test]
fn the_years_1_to_9999_are_whole() {
    for (sent, kept) in [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("0000-12-31T23:30:00-00:30", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("9999-12-31T23:59:59+23:59", "9999-12-31T00:00:59.000Z"),
    ] {
        assert_eq!(printed(sent).as_deref(), Some(kept), "{sent}");
    }
    for text in [
        "0000-12-31T23:59:59.999999999Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
    ] {
        assert_eq!(printed(text), None, "{text}");
    }
}

#[test]
fn a_leap_second_is_the_second_after_it() {
    for (sent, kept) in [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("2016-12-31T23:59:60.25Z", "2017-01-01T00:00:00.250Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000Z"),
        ("2028-03-01T05:44:60+05:45", "2028-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(printed(sent).as_deref(), Some(kept), "{sent}");
    }
    for text in [
        "2016-12-31T23:58:60Z",
        "2016-12-31T12:59:60Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T23:59:61Z",
    ] {
        assert_eq!(printed(text), None, "{text}");
    }
}

#[test]
fn offsets_and_letters_are_those_of_rfc_3339() {
    let utc = "2026-01-01T00:00:00.000Z";
    for text in [
        "2026-01-01t00:00:00z",
        "2026-01-01T00:00:00-00:00",
        "2026-01-01T23:59:00+23:59",
        "2025-12-31T00:01:00-23:59",
    ] {
        assert_eq!(printed(text).as_deref(), Some(utc), "{text}");
    }
    for text in [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00Z[UTC]",
        "2026-01-01T00:00:00ZZ",
        "2026-01-01T00:00:00 Z",
        "2026-01-01T00:00:00+0200",
        "2026-01-01T00:00:00+02",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00-24:00",
        "2026-01-01T00:00:00+02:60",
        "2026-01-01T00:00:00+02:00:00",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "1767225600",
        "+002026-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:0\u{665}Z",
    ] {
        assert_eq!(printed(text), None, "{text} was accepted");
    }
}

#[test]
fn a_time_within_a_millisecond_is_rounded_up() {
    let millis = |text: &str| Timestamp::parse(text).unwrap().up_to_millis().as_millis();
    assert_eq!(millis("1970-01-01T00:00:00.001Z"), 1);
    assert_eq!(millis("1970-01-01T00:00:00.001000001Z"), 2);
    assert_eq!(millis("1969-12-31T23:59:59.9985Z"), -1);
}

/// The moment of a local time and an offset in minutes, by the calendar of `jiff`.
fn modelled(local: jiff::civil::DateTime, offset_minutes: i64) -> jiff::civil::DateTime {
    local.saturating_sub(jiff::SignedDuration::from_mins(offset_minutes))
}

proptest! {
    #[test]
    fn printed_timestamps_parse_to_themselves(
        micros in MICROS_MIN..=MICROS_MAX, nanos in 0u16..1_000,
    ) {
        let time = Timestamp { micros, nanos };
        prop_assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time, "TIME-2");
    }

    #[test]
    fn dates_are_those_of_jiff(
        year in 2i16..=9998, month in 1i8..=12, day in 1i8..=31, hour in 0i8..24,
        minute in 0i8..60, second in 0i8..60, nanos in 0i32..1_000_000_000,
        offset in -1_439i64..1_440,
    ) {
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
        let text = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}\
             {sign}{hours:02}:{minutes:02}"
        );
        let local = jiff::civil::DateTime::new(year, month, day, hour, minute, second, nanos).ok();
        let expected = local.map(|local| format!("{:.9}Z", modelled(local, offset)));
        let read = Timestamp::parse(&text).ok().map(|time| {
            let text = time.to_string();
            let (seconds, decimals) = text.trim_end_matches('Z').split_once('.').unwrap();
            format!("{seconds}.{decimals:0<9}Z")
        });
        prop_assert_eq!(read, expected, "{}", text);
    }

    #[test]
    fn times_are_ordered_as_their_texts(
        one in MICROS_MIN..=MICROS_MAX, other in MICROS_MIN..=MICROS_MAX,
    ) {
        let [one, other] = [one, other].map(Timestamp::from_micros);
        let digits = |time: Timestamp| format!("{:0<30}", time.to_string().replace('Z', ""));
        prop_assert_eq!(one.cmp(&other), digits(one).cmp(&digits(other)));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[0-9TZtz:+.-]{18,34}") {
        let _ = Timestamp::parse(&text);
    }
}
