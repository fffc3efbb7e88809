//! The folders state the architecture; this test reads it back from the manifests.
//!
//! LAYERS-1: a crate depends only on crates of lower layers: `protocol` and `cluster-config` at the bottom, then
//! `store`, `actors`, `node` and `clients/rust`, then `clients/bench`, with `clients/cli` and the simulations on top.
//! LAYERS-2: only `clients/cli` and the simulations depend on `node`; nothing depends on the simulations.
//! LAYERS-3: `cluster-config` depends on no crate of the workspace.
//!
//! Dependencies for tests and build scripts count as well: a cycle through them is a cycle. Not here: what modules
//! inside a crate may import.

use serde_json::Value;
use std::process::Command;

const PREFIX: &str = "triggers-";

/// The layer of a crate; what the architecture does not name belongs beside the simulations, on top.
fn layer(name: &str) -> u8 {
    match name {
        "triggers-protocol" | "triggers-cluster-config" => 0,
        "triggers-store" => 1,
        "triggers-actors" => 2,
        "triggers-node" | "triggers-client" => 3,
        "triggers-bench" => 4,
        _ => 5,
    }
}

/// Every dependency between two crates of the workspace, as (who, on whom).
fn dependencies() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("the workspace has packages");
    let name = |value: &Value| value["name"].as_str().expect("a package has a name").to_owned();
    let mut found = Vec::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().expect("a package has dependencies");
        let inner =
            dependencies.iter().map(&name).filter(|dependency| dependency.starts_with(PREFIX));
        found.extend(inner.map(|dependency| (name(package), dependency)));
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let dependencies = dependencies();
    assert!(
        dependencies.iter().any(|(who, _)| who == "triggers-node"),
        "the manifests were read: {dependencies:?}"
    );
    for (who, on_whom) in &dependencies {
        assert!(layer(on_whom) < layer(who), "LAYERS-1: {who} must not depend on {on_whom}");
        let is_host = ["triggers-simulations", "triggers-cli"].contains(&who.as_str());
        assert!(
            on_whom != "triggers-node" || is_host,
            "LAYERS-2: {who} must not depend on {on_whom}"
        );
    }
}
