//! Tests of the default file and the profiles in this crate's folder.
//!
//! `default.toml` is generated; `UPDATE_GOLDEN=1` rewrites it. The profiles are written by hand.
//! All nodes of a cluster share one profile file, which is valid only together with the environment
//! variables that differ per node.

use std::path::{Path, PathBuf};
use triggers_cluster_config::{
    ConfigError, LogFormat, NodeOptions, Sources, StoreEngine, default_toml,
};

fn profile_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn load_with(name: &str, environment: Vec<(String, String)>) -> Result<NodeOptions, ConfigError> {
    let path = profile_path(name);
    NodeOptions::load(Sources { file: Some(&path), environment, flags: Vec::new() })
}

fn load(name: &str) -> NodeOptions {
    load_with(name, Vec::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// The environment variables in the head of a cluster profile: its lines `#   TRIGGERS__…=…`.
fn environment_of(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(profile_path(name)).unwrap();
    let lines =
        text.lines().filter_map(|line| line.strip_prefix("#   TRIGGERS__")?.split_once('='));
    lines.map(|(name, value)| (format!("TRIGGERS__{name}"), value.to_owned())).collect()
}

#[test]
fn default_file_equals_the_generated_one() {
    let path = profile_path("default.toml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, default_toml()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(
        golden == default_toml(),
        "default.toml is out of date: run this test with UPDATE_GOLDEN=1"
    );
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
fn single_profile_is_valid_and_logs_json() {
    let options = load("single.toml");
    assert_eq!(options.validate(), Vec::new());
    assert_eq!(options.log.format, LogFormat::Json);
    assert!(options.admin.address.ip().is_loopback());
}

#[test]
fn cluster_profiles_are_valid_with_the_variables_of_a_node() {
    for (name, engine) in
        [("postgres.toml", StoreEngine::Postgres), ("foundationdb.toml", StoreEngine::Foundationdb)]
    {
        let environment = environment_of(name);
        assert_eq!(environment.len(), 4, "{name}");
        let options = load_with(name, environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(options.store.engine, engine);
        assert_eq!(
            options.cluster.advertised_address.as_deref(),
            Some("node-1.internal:7400"),
            "{name}"
        );
        assert_eq!(options.log.format, LogFormat::Json, "{name}");
        assert!(options.admin.address.ip().is_loopback(), "{name}");
    }
}

#[test]
fn cluster_profiles_alone_are_rejected() {
    for name in ["postgres.toml", "foundationdb.toml"] {
        let error = load_with(name, Vec::new()).unwrap_err();
        let rejected: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            rejected,
            ["cluster.advertised_address", "cluster.tls_certificate_file"],
            "{name}"
        );
    }
}
