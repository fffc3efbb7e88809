//! The bodies and heads of requests, made before the load begins.
//!
//! A few dozen different bodies are made once and shared. Their content is a fixed sequence that
//! compresses badly, so two runs send the same bytes. A payload has exactly the requested size, and
//! `POOL_BYTES_MAX` bounds the memory of all bodies.

use bytes::Bytes;

/// Memory for all bodies of one kind, in bytes.
const POOL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most different bodies of one kind.
const POOL_BODIES_MAX: usize = 64;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Content that looks random and is the same in every run.
struct Filling(u64);

impl Filling {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn append(&mut self, text: &mut Vec<u8>, bytes: usize) {
        for _ in 0..bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            text.push(ALPHABET[(self.0 >> 58) as usize]);
        }
    }
}

/// Makes the bodies of `POST /v1/events`, each with a payload of that size.
pub fn single_bodies(payload_bytes: usize) -> Vec<Bytes> {
    pool(payload_bytes + 64, |seed| {
        let mut text = Vec::with_capacity(payload_bytes + 64);
        append_event(&mut text, &mut Filling::new(seed), payload_bytes);
        text
    })
}

/// Makes the bodies of `POST /v1/events/batch`, each with that many events.
pub fn batch_bodies(payload_bytes: usize, events: u32) -> Vec<Bytes> {
    let bytes = (payload_bytes + 64) * events as usize;
    pool(bytes, |seed| {
        let mut filling = Filling::new(seed + 1_000);
        let mut text = Vec::with_capacity(bytes);
        text.extend_from_slice(b"{\"events\":[");
        for index in 0..events {
            if index > 0 {
                text.push(b',');
            }
            append_event(&mut text, &mut filling, payload_bytes);
        }
        text.extend_from_slice(b"]}");
        text
    })
}

/// The text before the payload in a single event's body.
pub const EVENT_HEAD: &[u8] = b"{\"event_type\":\"bench.event\",\"payload\":";

fn append_event(text: &mut Vec<u8>, filling: &mut Filling, payload_bytes: usize) {
    text.extend_from_slice(EVENT_HEAD);
    append_payload(text, filling, payload_bytes);
    text.push(b'}');
}

fn append_payload(text: &mut Vec<u8>, filling: &mut Filling, payload_bytes: usize) {
    text.extend_from_slice(b"{\"d\":\"");
    filling.append(text, payload_bytes.saturating_sub(8));
    text.extend_from_slice(b"\"}");
}

/// Makes one payload of that size.
pub fn payload(payload_bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(payload_bytes);
    append_payload(&mut text, &mut Filling::new(1), payload_bytes);
    text
}

/// The text before the time in the payload of a timed event.
pub const TIME_HEAD: &[u8] = b"{\"t\":\"";
/// Digits of a time.
pub const TIME_DIGITS: usize = 20;

/// The body of one event whose payload has a time in it.
#[derive(Debug, Clone)]
pub struct TimedBody(Vec<u8>);

impl TimedBody {
    /// Makes a body with a payload of this size, at least 64 bytes.
    pub fn new(payload_bytes: usize) -> Self {
        let mut text = Vec::with_capacity(payload_bytes + 64);
        text.extend_from_slice(EVENT_HEAD);
        text.extend_from_slice(TIME_HEAD);
        text.extend_from_slice(&[b'0'; TIME_DIGITS]);
        text.extend_from_slice(b"\",\"d\":\"");
        let other_bytes = TIME_HEAD.len() + TIME_DIGITS + 9;
        Filling::new(1).append(&mut text, payload_bytes.saturating_sub(other_bytes));
        text.extend_from_slice(b"\"}}");
        Self(text)
    }

    /// The body with this time, in nanoseconds since the start.
    pub fn at(&self, time_ns: u64) -> Bytes {
        let mut text = self.0.clone();
        let begin = EVENT_HEAD.len() + TIME_HEAD.len();
        text[begin..begin + TIME_DIGITS].copy_from_slice(format!("{time_ns:020}").as_bytes());
        Bytes::from(text)
    }
}

/// Reads the time from an event whose body a [`TimedBody`] made.
pub fn time_of(event: &[u8]) -> Option<u64> {
    const MARK: &[u8] = b"\"payload\":{\"t\":\"";
    let begin = event.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    std::str::from_utf8(event.get(begin..begin + TIME_DIGITS)?).ok()?.parse().ok()
}

fn pool(body_bytes: usize, body: impl Fn(u64) -> Vec<u8>) -> Vec<Bytes> {
    let count = (POOL_BYTES_MAX / body_bytes.max(1)).clamp(1, POOL_BODIES_MAX);
    (0..count as u64).map(|seed| Bytes::from(body(seed))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Sent<'a> {
        event_type: &'a str,
        #[serde(borrow)]
        payload: &'a RawValue,
    }

    #[test]
    fn payloads_have_the_size_that_was_asked_for() {
        for bytes in [16, 1_024, 100_000] {
            for body in single_bodies(bytes) {
                let sent: Sent<'_> = serde_json::from_slice(&body).unwrap();
                assert_eq!(sent.event_type, "bench.event");
                assert_eq!(sent.payload.get().len(), bytes);
            }
            assert_eq!(payload(bytes).len(), bytes);
        }
    }

    #[test]
    fn timed_bodies_have_their_size_and_their_time() {
        for bytes in [64, 1_024] {
            let body = TimedBody::new(bytes).at(123_456_789);
            let sent: Sent<'_> = serde_json::from_slice(&body).unwrap();
            assert_eq!(sent.payload.get().len(), bytes);
            assert_eq!(time_of(&body), Some(123_456_789));
        }
        assert_eq!(time_of(b"{\"payload\":{\"t\":\"1\"}}"), None);
        assert_eq!(time_of(b"{\"payload\":{}}"), None);
    }

    #[test]
    fn bodies_differ_and_batches_have_their_events() {
        let bodies = single_bodies(64);
        assert_eq!(bodies.len(), POOL_BODIES_MAX);
        assert_ne!(bodies[0], bodies[1]);
        let batch: Value = serde_json::from_slice(&batch_bodies(64, 10)[0]).unwrap();
        assert_eq!(batch["events"].as_array().unwrap().len(), 10);
    }
}
