//! Decodes rows.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_protocol::fuzzing::fuzz_codec(data));
