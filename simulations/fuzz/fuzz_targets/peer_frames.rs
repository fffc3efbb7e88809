//! Decodes messages of other nodes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_protocol::fuzzing::fuzz_peer(data));
