//! Reads request bodies of the API.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_node::api::fuzzing::fuzz_bodies(data));
