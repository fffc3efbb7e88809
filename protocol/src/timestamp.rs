//! Timestamps of the wall clock, in microseconds since the Unix epoch.
//!
//! Invariants:
//! - `TIME-1`: a timestamp is within the years 0001 to 9999, so it always has an RFC 3339 form.
//! - `TIME-2`: the text form parses to an equal value.
//!
//! To measure durations use [`crate::Environment::monotonic`]: the wall clock may jump.

use crate::Malformed;
use bincode::{Decode, Encode};
use std::time::Duration;

const MICROS_MIN: i64 = -62_135_596_800_000_000;
const MICROS_MAX: i64 = 253_402_300_799_999_999;
const PRINTER: jiff::fmt::temporal::DateTimePrinter =
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
const PRINTER_MICROS: jiff::fmt::temporal::DateTimePrinter =
    jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));

/// Microseconds since 1970-01-01T00:00:00Z, printed as RFC 3339 in UTC with 3 or 6 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The Unix epoch, 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);

    /// Converts milliseconds since the Unix epoch, clamped to the years 0001 to 9999.
    pub fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// Converts microseconds since the Unix epoch, clamped to the years 0001 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(MICROS_MIN, MICROS_MAX))
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Microseconds since the Unix epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// The timestamp `duration` later, clamped to the year 9999.
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// The timestamp `duration` earlier, clamped to the year 0001.
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }

    /// The duration from `earlier` to this timestamp; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Parses an RFC 3339 date-time with any offset; decimals beyond microseconds are dropped.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not an RFC 3339 date-time in the years 0001 to 9999.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed =
            || Malformed("must be an RFC 3339 date-time, like 2026-01-31T12:00:00.000Z".into());
        if !has_rfc3339_shape(text.as_bytes()) {
            return Err(malformed());
        }
        let parsed: jiff::Timestamp = text.parse().map_err(|_| malformed())?;
        let micros = parsed.as_microsecond();
        if !(MICROS_MIN..=MICROS_MAX).contains(&micros) {
            return Err(malformed());
        }
        Ok(Self(micros))
    }
}

/// Tests the shape of RFC 3339. `jiff` also accepts annotations, other separators and no seconds.
fn has_rfc3339_shape(text: &[u8]) -> bool {
    let shape = b"0000-00-00T00:00:00";
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte.to_ascii_uppercase() == *shape,
    };
    if !(20..=40).contains(&text.len()) || !text.iter().zip(shape).all(fits) {
        return false;
    }
    let fraction = match text[19] {
        b'.' => 1 + text[20..].iter().take_while(|b| b.is_ascii_digit()).count(),
        _ => 0,
    };
    let offset = &text[19 + fraction..];
    fraction != 1
        && match offset {
            [b'Z' | b'z'] => true,
            [b'+' | b'-', h1, h2, b':', m1, m2] => {
                [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit())
            }
            _ => false,
        }
}

crate::text_form::text_form!(Timestamp, |time| Text::of(*time).as_str());

/// The text form of a timestamp, without heap allocation.
struct Text {
    bytes: [u8; Text::BYTES_MAX],
    length: usize,
}

impl Text {
    const BYTES_MAX: usize = "9999-12-31T23:59:59.999999Z".len();

    fn of(time: Timestamp) -> Self {
        let moment = jiff::Timestamp::from_microsecond(time.0)
            .expect("TIME-1: the constructors clamp to the range that jiff prints");
        let printer = if time.0 % 1_000 == 0 { &PRINTER } else { &PRINTER_MICROS };
        let mut text = Self { bytes: [0; Self::BYTES_MAX], length: 0 };
        printer
            .print_timestamp(&moment, &mut text)
            .expect("TIME-1: years have four digits, so the text fits");
        text
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length])
            .expect("the printer writes complete strings")
    }
}

impl jiff::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> Result<(), jiff::Error> {
        let end = self.length + text.len();
        let target = self.bytes.get_mut(self.length..end);
        target
            .ok_or_else(|| jiff::Error::from_args(format_args!("buffer too small")))?
            .copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_milliseconds_and_keeps_microseconds() {
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        let sent = Timestamp::parse("2026-01-01T02:00:00.123456789+02:00").unwrap();
        assert_eq!(sent.to_string(), "2026-01-01T00:00:00.123456Z");
    }

    #[test]
    fn rejects_other_formats_than_rfc_3339() {
        for text in [
            "",
            "now",
            "2026-01-01",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Z[UTC]",
            "2026-01-01T00:00:00+0200",
            "2026-02-30T00:00:00Z",
            "1767225600",
            "+002026-01-01T00:00:00Z",
            "2026-01-01 00:00:00Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text} was accepted");
        }
    }

    proptest! {
        #[test]
        fn printed_timestamps_parse_to_themselves(micros in MICROS_MIN..=MICROS_MAX) {
            let time = Timestamp::from_micros(micros);
            prop_assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
        }
    }
}
