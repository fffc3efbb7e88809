//! The files beside the crate: the golden default file and the profiles.
//!
//! `default.toml` is generated; UPDATE_GOLDEN=1 writes it anew. The profiles are written by hand and have to load.
//! `dev.toml` and the preset of the same name say the same, so that whoever starts from either gets one node.
//!
//! Whether a node really starts with a profile is a test of the node.

use std::path::{Path, PathBuf};

use triggers_cluster_config::{LogFormat, NodeOptions, Sources, default_toml};

fn beside_the_crate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn load(name: &str) -> NodeOptions {
    let path = beside_the_crate(name);
    let loaded = NodeOptions::load(Sources { file: Some(&path), ..Sources::<Vec<_>>::default() });
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn default_file_is_the_one_the_code_writes() {
    let path = beside_the_crate("default.toml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, default_toml()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(golden == default_toml(), "default.toml is out of date: run this test with UPDATE_GOLDEN=1");
}

#[test]
fn default_file_holds_the_defaults() {
    assert_eq!(load("default.toml"), NodeOptions::default());
}

#[test]
fn dev_profile_is_the_preset() {
    assert_eq!(load("dev.toml"), NodeOptions::dev("data/dev"));
}

#[test]
fn single_profile_is_valid_and_logs_for_machines() {
    let options = load("single.toml");
    assert_eq!(options.validate(), Vec::new());
    assert_eq!(options.log.format, LogFormat::Json);
    assert!(options.admin.address.ip().is_loopback());
}
