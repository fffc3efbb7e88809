//! Decodes records of the log.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_store::fuzzing::fuzz_record(data));
