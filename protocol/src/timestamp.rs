//! Timestamps, in nanoseconds since the Unix epoch.
//!
//! Invariants:
//! - `TIME-1`: a timestamp is within the years 0001 to 9999, so it always has an RFC 3339 form.
//! - `TIME-2`: the text form parses to an equal value.
//! - `TIME-3`: all times of clients are read by [`Timestamp::parse`]: bodies, headers, queries.
//!
//! The node's own clock has milliseconds; what a client sends is kept to the nanosecond. To measure
//! durations use [`crate::Environment::monotonic`]: the wall clock may jump.

use crate::Malformed;
use bincode::{Decode, Encode};
use std::time::Duration;

const MICROS_MIN: i64 = -62_135_596_800_000_000;
const MICROS_MAX: i64 = 253_402_300_799_999_999;
const DAY_SECONDS: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from the first of March of the year 0 to the Unix epoch.
const EPOCH_DAYS: i64 = 719_468;

/// Time since 1970-01-01T00:00:00Z, printed as RFC 3339 in UTC with 3, 6 or 9 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Timestamp {
    micros: i64,
    /// Nanoseconds after `micros`, below 1,000.
    nanos: u16,
}

impl Timestamp {
    /// The Unix epoch, 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp { micros: 0, nanos: 0 };

    /// Converts milliseconds since the Unix epoch, clamped to the years 0001 to 9999.
    pub fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// Converts microseconds since the Unix epoch, clamped to the years 0001 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self { micros: micros.clamp(MICROS_MIN, MICROS_MAX), nanos: 0 }
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub fn as_millis(self) -> i64 {
        self.micros.div_euclid(1_000)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub fn as_seconds(self) -> i64 {
        self.micros.div_euclid(1_000_000)
    }

    /// Whole microseconds since the Unix epoch, rounded down.
    pub fn as_micros(self) -> i64 {
        self.micros
    }

    /// The timestamp `duration` later, in whole microseconds, clamped to the year 9999.
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.micros.saturating_add(micros))
    }

    /// The timestamp `duration` earlier, in whole microseconds, clamped to the year 0001.
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.micros.saturating_sub(micros))
    }

    /// Microseconds from `earlier` to this timestamp; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(
            u64::try_from(self.micros.saturating_sub(earlier.micros)).unwrap_or(0),
        )
    }

    /// The first whole millisecond that is not earlier, clamped to the year 9999.
    pub fn up_to_millis(self) -> Self {
        let millis = self.as_millis();
        Self::from_millis(millis + i64::from(self > Self::from_millis(millis)))
    }

    /// Parses an RFC 3339 date-time; decimals beyond nanoseconds are dropped.
    ///
    /// A leap second, which may end any month of UTC, is read as the second after it.
    ///
    /// # Errors
    /// [`Malformed`] if the text is not an RFC 3339 date-time in the years 0001 to 9999.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        const EXPECTED: &str = "must be an RFC 3339 date-time of the years 0001 to 9999, \
            like 2026-01-31T12:00:00.000Z";
        read(text.as_bytes()).ok_or_else(|| Malformed(EXPECTED.into()))
    }
}

/// Reads `date-time` of RFC 3339, section 5.6, with the restrictions of section 5.7.
fn read(text: &[u8]) -> Option<Timestamp> {
    let (local, rest) = text.split_at_checked("0000-00-00T00:00:00".len())?;
    let [year, month, day] = numbers(&local[..10], b'-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(&local[11..], b':', [2, 2, 2])?;
    let (fraction, offset) = match rest.strip_prefix(b".") {
        None => (&[][..], rest),
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            rest.split_at(digits)
        }
    };
    let offset_minutes = match offset {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), time @ ..] => {
            let [hours, minutes] = numbers(time, b':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let is_valid = local[10].eq_ignore_ascii_case(&b'T')
        && (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    let minutes = (days_of(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    let seconds = minutes * 60 + second;
    let ends_month = || seconds % DAY_SECONDS == 0 && date_of(seconds / DAY_SECONDS).2 == 1;
    if !is_valid || (second == 60 && !ends_month()) {
        return None;
    }
    let digit = |at| fraction.get(at).map_or(0, |digit| digit - b'0');
    let nanos = (0..9).fold(0u32, |nanos, at| nanos * 10 + u32::from(digit(at)));
    let micros = seconds * 1_000_000 + i64::from(nanos / 1_000);
    let nanos = (nanos % 1_000) as u16;
    (MICROS_MIN..=MICROS_MAX).contains(&micros).then_some(Timestamp { micros, nanos })
}

/// Numbers with fixed counts of digits, with a separator between them and nothing else.
fn numbers<const N: usize>(text: &[u8], separator: u8, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(|byte| *byte == separator);
    let mut values = [0; N];
    for (value, digits) in values.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        for byte in part {
            *value = *value * 10 + i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        }
    }
    parts.next().is_none().then_some(values)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the Unix epoch to a date. Years are counted from March, so that a leap day is the last
/// day of its year, and `153 / 5` is the mean length of the months from March to January.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let months = (month + 9) % 12;
    let year = year - i64::from(month <= 2);
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * months + 2) / 5 + day - 1 - EPOCH_DAYS
}

/// The date so many days after the Unix epoch: the inverse of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let months = (5 * day + 2) / 153;
    let month = (months + 2) % 12 + 1;
    (era * 400 + year + i64::from(month <= 2), month, day - (153 * months + 2) / 5 + 1)
}

crate::text_form::text_form!(Timestamp, |time| Text::of(*time).as_str());

/// The text form of a timestamp, without heap allocation.
struct Text {
    bytes: [u8; Text::BYTES_MAX],
    length: usize,
}

impl Text {
    const BYTES_MAX: usize = "9999-12-31T23:59:59.999999999Z".len();

    fn of(time: Timestamp) -> Self {
        let seconds = time.micros.div_euclid(1_000_000);
        let (days, second) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        let (year, month, day) = date_of(days);
        let micros = time.micros.rem_euclid(1_000_000);
        let (fraction, decimals) = match (time.nanos, micros % 1_000) {
            (0, 0) => (micros / 1_000, 3),
            (0, _) => (micros, 6),
            (nanos, _) => (micros * 1_000 + i64::from(nanos), 9),
        };
        let mut text = Self { bytes: [b'Z'; Self::BYTES_MAX], length: 0 };
        text.push(year, 4, b'-');
        text.push(month, 2, b'-');
        text.push(day, 2, b'T');
        text.push(second / 3_600, 2, b':');
        text.push(second / 60 % 60, 2, b':');
        text.push(second % 60, 2, b'.');
        text.push(fraction, decimals, b'Z');
        text
    }

    /// Writes the last `digits` digits of a number and a byte after it.
    fn push(&mut self, mut number: i64, digits: usize, after: u8) {
        for byte in self.bytes[self.length..][..digits].iter_mut().rev() {
            *byte = b'0' + number.rem_euclid(10) as u8;
            number /= 10;
        }
        self.bytes[self.length + digits] = after;
        self.length += digits + 1;
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("every byte is ASCII")
    }
}

#[cfg(test)]
mod tests;
