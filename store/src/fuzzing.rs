//! Bodies of fuzz targets, also run as property tests, and what benches need of private formats.

pub use crate::kv::embedded::fuzzing::{decode_record, encode_record, fuzz_record};
