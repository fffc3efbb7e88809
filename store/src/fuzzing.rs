//! Bodies of fuzz targets, also run as property tests, and access to private formats for benches.

pub use crate::kv::embedded::fuzzing::{decode_record, encode_record, fuzz_record};
