//! Checks payloads for I-JSON.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_protocol::fuzzing::fuzz_json(data));
