//! Parses ids, keys, timestamps and event types.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_protocol::fuzzing::fuzz_texts(data));
