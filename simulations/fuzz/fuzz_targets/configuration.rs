//! Loads configuration files and variables.

#![no_main]

use triggers_cluster_config::fuzzing::fuzz_configuration;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_configuration(data));
