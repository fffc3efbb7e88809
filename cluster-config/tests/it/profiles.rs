//! The files beside the crate: the golden default file and the profiles.
//!
//! `default.toml` is generated; UPDATE_GOLDEN=1 writes it anew. The profiles are written by hand and have to load.
//! The profiles of a cluster are one file for all nodes: alone they are refused, with what differs from node to node in the
//! environment they load. `dev.toml` and the preset of the same name say the same, so that whoever starts from either gets one node.
//!
//! Whether a node really starts with a profile is a test of the node.

use std::path::{Path, PathBuf};

use triggers_cluster_config::{
    ConfigError, LogFormat, NodeOptions, Sources, StoreEngine, default_toml,
};

fn beside_the_crate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn load_with(name: &str, environment: Vec<(String, String)>) -> Result<NodeOptions, ConfigError> {
    let path = beside_the_crate(name);
    NodeOptions::load(Sources { file: Some(&path), environment, flags: Vec::new() })
}

fn load(name: &str) -> NodeOptions {
    load_with(name, Vec::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// What the head of a cluster's profile says a node needs: its lines `#   TRIGGERS__…=…`.
fn environment_of(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(beside_the_crate(name)).unwrap();
    let lines =
        text.lines().filter_map(|line| line.strip_prefix("#   TRIGGERS__")?.split_once('='));
    lines.map(|(name, value)| (format!("TRIGGERS__{name}"), value.to_owned())).collect()
}

#[test]
fn default_file_is_the_one_the_code_writes() {
    let path = beside_the_crate("default.toml");
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
fn single_profile_is_valid_and_logs_for_machines() {
    let options = load("single.toml");
    assert_eq!(options.validate(), Vec::new());
    assert_eq!(options.log.format, LogFormat::Json);
    assert!(options.admin.address.ip().is_loopback());
}

#[test]
fn cluster_profiles_are_valid_with_what_differs_from_node_to_node() {
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
fn cluster_profiles_alone_are_refused() {
    for name in ["postgres.toml", "foundationdb.toml"] {
        let error = load_with(name, Vec::new()).unwrap_err();
        let refused: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            refused,
            ["cluster.advertised_address", "cluster.tls_certificate_file"],
            "{name}"
        );
    }
}
