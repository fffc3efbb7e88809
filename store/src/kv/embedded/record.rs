//! A log record: the new values of all keys that one group of commits wrote.
//!
//! ```text
//! header, 32 bytes, little-endian: "TrL" 3 · version 1 · crc 4 · generation 8 · sequence 8
//!         · body bytes 4 · pairs 4
//! body, per pair: prefix length shared with the previous key 1 · suffix length 2
//!         · value length 4 (all ones: cleared) · suffix · value
//! zeros up to a multiple of 4,096
//! ```
//! Invariants:
//! - `RECORD-1`: the CRC-32 covers all bytes but itself, and is seeded with the log's secret, so
//!   that bytes chosen by a client never pass for a record.
//! - `RECORD-2`: records fill whole blocks, so that no block with durable bytes is written again.

use bytes::Bytes;

/// Alignment and size unit of records.
pub(super) const BLOCK_BYTES: usize = 4_096;
const MAGIC: [u8; 3] = *b"TrL";
/// Version of the record format that this program writes and reads.
pub(super) const VERSION: u8 = 1;
const HEADER_BYTES: usize = 32;
/// Bytes of a pair's three lengths, and so the minimum of a pair.
const PAIR_BYTES_MIN: usize = 7;
const CLEARED: u32 = u32::MAX;

/// A key with its new value, or `None` if it was cleared.
pub(super) type Pair = (Bytes, Option<Bytes>);

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    /// Generation of the segment that holds the record.
    pub(super) generation: u64,
    /// Sequence of the record, one more than that of the previous record.
    pub(super) sequence: u64,
    pub(super) body_bytes: usize,
    pub(super) pairs: usize,
    /// Version of the record format; readers reject every version but [`VERSION`].
    pub(super) version: u8,
}

impl RecordHeader {
    /// Total bytes of the record with its padding.
    pub(super) fn record_bytes(&self) -> usize {
        (HEADER_BYTES + self.body_bytes).next_multiple_of(BLOCK_BYTES)
    }
}

/// Encodes one record at a time into a buffer that it reuses.
pub(super) struct RecordEncoder {
    secret: u32,
    bytes: Vec<u8>,
    pairs: u32,
    last_key: Vec<u8>,
}

impl RecordEncoder {
    pub(super) fn new(secret: u32) -> Self {
        Self { secret, bytes: Vec::new(), pairs: 0, last_key: Vec::new() }
    }

    /// Starts a new record.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES, 0);
        self.pairs = 0;
        self.last_key.clear();
    }

    /// Adds a pair. Pairs sorted by key take the fewest bytes.
    pub(super) fn pair(&mut self, key: &[u8], value: Option<&[u8]>) {
        let alike = key
            .iter()
            .zip(&self.last_key)
            .take(usize::from(u8::MAX))
            .take_while(|(one, other)| one == other);
        let shared = alike.count();
        let rest = &key[shared..];
        // These fit: keys have at most 500 bytes and values 90,000.
        self.bytes.push(shared as u8);
        self.bytes.extend_from_slice(&(rest.len() as u16).to_le_bytes());
        self.bytes
            .extend_from_slice(&value.map_or(CLEARED, |value| value.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(rest);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.pairs += 1;
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
    }

    /// Bytes of the record that [`RecordEncoder::finish`] will return.
    pub(super) fn record_bytes(&self) -> usize {
        self.bytes.len().next_multiple_of(BLOCK_BYTES)
    }

    pub(super) fn finish(&mut self, generation: u64, sequence: u64) -> &[u8] {
        let body = (self.bytes.len() - HEADER_BYTES) as u32;
        self.bytes.resize(self.record_bytes(), 0);
        self.bytes[0..3].copy_from_slice(&MAGIC);
        self.bytes[3] = VERSION;
        self.bytes[8..16].copy_from_slice(&generation.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        self.bytes[24..28].copy_from_slice(&body.to_le_bytes());
        self.bytes[28..32].copy_from_slice(&self.pairs.to_le_bytes());
        let crc = crc(self.secret, &self.bytes);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }
}

/// Checksum over all bytes of a record but the checksum itself.
fn crc(secret: u32, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(secret);
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// Returns the header if `bytes` begins with a complete, undamaged record.
pub(super) fn decode(bytes: &[u8], secret: u32) -> Option<RecordHeader> {
    let header = peek(bytes)?;
    let record = bytes.get(..header.record_bytes())?;
    (u32::from_le_bytes(record[4..8].try_into().ok()?) == crc(secret, record)).then_some(header)
}

/// Returns the header of a block without checking that it is true.
pub(super) fn peek(bytes: &[u8]) -> Option<RecordHeader> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let small = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..3)? != MAGIC {
        return None;
    }
    Some(RecordHeader {
        generation: number(8)?,
        sequence: number(16)?,
        body_bytes: small(24)? as usize,
        pairs: small(28)? as usize,
        version: bytes[3],
    })
}

/// Decodes the pairs of a record that [`decode`] accepted; `None` if they contradict the header.
pub(super) fn pairs(record: &Bytes, header: &RecordHeader) -> Option<Vec<Pair>> {
    let body = record.get(..HEADER_BYTES + header.body_bytes)?;
    let mut pairs = Vec::with_capacity(header.pairs.min(body.len() / PAIR_BYTES_MIN));
    let (mut at, mut key) = (HEADER_BYTES, Vec::new());
    while at < body.len() {
        let shared = usize::from(body[at]);
        let rest_bytes = u16::from_le_bytes(body.get(at + 1..at + 3)?.try_into().ok()?) as usize;
        let value_bytes = u32::from_le_bytes(body.get(at + 3..at + 7)?.try_into().ok()?);
        let value_at = at + PAIR_BYTES_MIN + rest_bytes;
        let end = if value_bytes == CLEARED { value_at } else { value_at + value_bytes as usize };
        body.get(at..end)?;
        if shared > key.len() {
            return None;
        }
        key.truncate(shared);
        key.extend_from_slice(&body[at + PAIR_BYTES_MIN..value_at]);
        let value = (value_bytes != CLEARED).then(|| record.slice(value_at..end));
        pairs.push((Bytes::copy_from_slice(&key), value));
        at = end;
    }
    (pairs.len() == header.pairs).then_some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn record(
        secret: u32,
        generation: u64,
        sequence: u64,
        pairs: &[(Vec<u8>, Option<Vec<u8>>)],
    ) -> Vec<u8> {
        let mut encoder = RecordEncoder::new(secret);
        encoder.begin();
        for (key, value) in pairs {
            encoder.pair(key, value.as_deref());
        }
        let expected = encoder.record_bytes();
        let record = encoder.finish(generation, sequence).to_vec();
        assert_eq!(record.len(), expected);
        record
    }

    /// Keys that often share prefixes.
    fn some_pairs() -> impl Strategy<Value = Vec<(Vec<u8>, Option<Vec<u8>>)>> {
        let key = prop_oneof![vec(any::<u8>(), 1..40), vec(0..2u8, 1..6), vec(0..1u8, 200..400)];
        vec((key, proptest::option::of(vec(any::<u8>(), 0..3_000))), 0..12)
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            some in some_pairs(), secret: u32, generation: u64, sequence: u64,
            behind in vec(any::<u8>(), 0..100),
        ) {
            let bytes = record(secret, generation, sequence, &some);
            prop_assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "RECORD-2");
            let bytes = Bytes::from([bytes, behind].concat());
            let header = decode(&bytes, secret).unwrap();
            prop_assert_eq!((header.generation, header.sequence), (generation, sequence));
            let read = pairs(&bytes, &header).unwrap();
            let owned = |(k, v): Pair| (k.to_vec(), v.map(|v| v.to_vec()));
            let read: Vec<_> = read.into_iter().map(owned).collect();
            prop_assert_eq!(read, some);
        }

        #[test]
        fn a_changed_byte_or_another_secret_is_detected(
            some in some_pairs(), secret: u32, at: prop::sample::Index, by in 1u8..,
        ) {
            let mut bytes = record(secret, 7, 8, &some);
            prop_assert_eq!(decode(&bytes, secret ^ u32::from(by)), None, "RECORD-1");
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert_eq!(decode(&bytes, secret), None);
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(
            mut bytes in vec(any::<u8>(), 0..200), body: u32, count: u32,
        ) {
            if bytes.len() >= 32 {
                bytes[0..3].copy_from_slice(&MAGIC);
                bytes[24..28].copy_from_slice(&(body % 300).to_le_bytes());
                bytes[28..32].copy_from_slice(&count.to_le_bytes());
            }
            prop_assert_eq!(decode(&bytes, 0), None, "no record is shorter than a block");
            crate::fuzzing::fuzz_record(&bytes);
        }
    }
}
