//! Loads configuration files and variables.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| triggers_cluster_config::fuzzing::fuzz_configuration(data));
