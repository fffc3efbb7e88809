//! The architecture, read back from the manifests and the sources.
//!
//! LAYERS-1: a crate depends only on crates of lower layers, and only on those that [`LAYERS`]
//! allows. LAYERS-2: the modules of a crate do not use each other in a circle; [`modules`] states
//! the rule. LAYERS-3: `node` uses of `triggers_store::tables` only what `triggers_actors::model`
//! re-exports.
//!
//! Dependencies for tests and build scripts count as well: a circle through them is a circle.

use modules::Modules;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

mod modules;
mod source;

const PREFIX: &str = "triggers-";

/// Each crate with the crates that it may depend on.
const LAYERS: [(&str, &[&str]); 9] = [
    ("protocol", &[]),
    ("cluster-config", &[]),
    ("store", &["protocol", "cluster-config"]),
    ("actors", &["protocol", "cluster-config", "store"]),
    ("node", &["protocol", "cluster-config", "store", "actors"]),
    ("client", &["protocol"]),
    ("bench", &["protocol", "client"]),
    ("cli", &["protocol", "cluster-config", "store", "node", "client", "bench"]),
    ("simulations", &["protocol", "cluster-config", "store", "actors", "node"]),
];

/// The folders of the crates whose modules must not form a circle.
const WITHOUT_CIRCLES: &[&str] = &["protocol", "actors", "clients/rust", "node"];

/// Every dependency between two crates of the workspace: the dependent and the dependency.
fn dependencies() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("the workspace has packages");
    let name = |value: &Value| {
        let name = value["name"].as_str().expect("a package has a name");
        name.strip_prefix(PREFIX).map(str::to_owned)
    };
    let mut found = Vec::new();
    for package in packages {
        let dependent = name(package).expect("a package of the workspace has the prefix");
        let dependencies = package["dependencies"].as_array().expect("a package has dependencies");
        found.extend(dependencies.iter().filter_map(name).map(|it| (dependent.clone(), it)));
    }
    found
}

fn modules_of(folder: &str) -> Modules {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Modules::of_crate(&root.join(folder).join("src"))
}

#[test]
fn dependencies_point_one_way() {
    let dependencies = dependencies();
    assert!(dependencies.iter().any(|(dependent, _)| dependent == "node"), "{dependencies:?}");
    for (dependent, dependency) in &dependencies {
        let allowed = LAYERS.iter().find(|(name, _)| name == dependent);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("LAYERS has no line for {dependent}"));
        // A crate's own test support is a dependency of its tests.
        let is_allowed = allowed.contains(&dependency.as_str()) || dependent == dependency;
        assert!(is_allowed, "LAYERS-1: {dependent} must not depend on {dependency}");
    }
}

#[test]
fn modules_use_each_other_without_circles() {
    let found: Vec<String> = WITHOUT_CIRCLES
        .iter()
        .flat_map(|folder| {
            let circles = modules_of(folder).circles();
            circles.into_iter().map(move |circle| format!("{folder}: {circle}"))
        })
        .collect();
    assert!(found.is_empty(), "LAYERS-2:\n{}", found.join("\n"));
}

#[test]
fn the_node_sees_the_tables_only_as_the_actors_show_them() {
    let found = modules_of("node").paths_to(&["triggers_store", "tables"]);
    assert!(found.is_empty(), "LAYERS-3:\n{}", found.join("\n"));
}
