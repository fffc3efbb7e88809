//! Entry points for fuzz targets and benches into the log's private record format.
//!
//! Compiled for tests and with the feature `fuzzing` only.

use super::record::{self, BLOCK_BYTES, RecordEncoder, VERSION};
use bytes::Bytes;

/// Secret of the records made here.
const SECRET: u32 = 0x005e_c2e7;

/// Encodes pairs as one log record. A value of `None` means that the key was cleared.
pub fn encode_record<'a>(pairs: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Vec<u8> {
    let mut encoder = RecordEncoder::new(SECRET);
    encoder.begin();
    for (key, value) in pairs {
        encoder.pair(key, value);
    }
    encoder.finish(1, 1).to_vec()
}

/// Decodes a record of [`encode_record`]; returns its number of pairs, or `None` if it is damaged.
pub fn decode_record(record: &Bytes) -> Option<usize> {
    let header = record::decode(record, SECRET)?;
    record::pairs(record, &header).map(|pairs| pairs.len())
}

/// Reads arbitrary bytes as a record. An accepted body must encode and decode to the same pairs.
///
/// # Panics
/// If it does not.
pub fn fuzz_record(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    // A fuzzer cannot guess the checksum, so the body is read whether or not it matches.
    let Some(header) = record::peek(data) else { return };
    let Some(pairs) = record::pairs(&bytes, &header) else { return };
    assert_eq!(pairs.len(), header.pairs);
    let again = encode_record(pairs.iter().map(|(key, value)| (&key[..], value.as_deref())));
    let header = record::decode(&again, SECRET).expect("an encoded record is whole");
    assert_eq!((header.version, again.len() % BLOCK_BYTES), (VERSION, 0));
    assert_eq!(record::pairs(&Bytes::from(again), &header), Some(pairs));
}
