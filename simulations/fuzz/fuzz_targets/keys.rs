//! Reads keys of the store.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_store::fuzzing::fuzz_keys(data));
