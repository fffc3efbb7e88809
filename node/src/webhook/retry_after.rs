//! Reads the wait that an endpoint requests with `Retry-After` (RFC 9110, section 10.2.3).
//!
//! - `RETRY-AFTER-1`: the result is at most [`WAIT_MAX`], so an endpoint cannot postpone its
//!   webhooks for ever.
//!
//! The header counts only with statuses 429 and 503.

use std::time::{Duration, UNIX_EPOCH};
use triggers_protocol::Timestamp;

/// Longest wait that an endpoint can request.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// The wait that `value` requests as of `now`. `None` for no, zero or unreadable values: the retry
/// policy decides then.
pub(super) fn read(status: u16, value: &str, now: Timestamp) -> Option<Duration> {
    let is_temporary = matches!(status, 429 | 503);
    let text = Some(value.trim()).filter(|_| is_temporary)?;
    let wait = seconds(text).or_else(|| Some(date(text)?.since(now)))?;
    (!wait.is_zero()).then_some(wait.min(WAIT_MAX))
}

fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that overflows exceeds the maximum anyway.
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

fn date(text: &str) -> Option<Timestamp> {
    let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(0).plus(since_epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requested(status: u16, value: &str) -> Option<Duration> {
        let at = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        read(status, value, at)
    }

    #[test]
    fn seconds_and_dates_are_parsed() {
        for (value, seconds) in [
            ("0", None),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Thu, 01 Jan 2026 00:01:40 GMT", Some(100)),
            ("Thursday, 01-Jan-26 00:01:40 GMT", Some(100)),
            ("Thu Jan  1 00:01:40 2026", Some(100)),
            ("Wed, 31 Dec 2025 23:59:59 GMT", None),
            ("Fri, 01 Jan 2027 00:00:00 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(
                requested(429, value),
                seconds.map(Duration::from_secs),
                "RETRY-AFTER-1: {value:?}"
            );
        }
    }

    #[test]
    fn only_temporary_statuses_are_considered() {
        for status in [200, 301, 400, 413, 500, 502] {
            assert_eq!(requested(status, "5"), None, "{status}");
        }
        assert_eq!(requested(503, "5"), Some(Duration::from_secs(5)));
    }

    proptest! {
        #[test]
        fn no_text_panics_or_exceeds_the_maximum(text in "[ -~]{0,40}") {
            let wait = requested(429, &text);
            prop_assert!(wait.is_none_or(|wait| wait <= WAIT_MAX), "RETRY-AFTER-1");
        }
    }
}
