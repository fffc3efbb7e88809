//! Tests of the declarations: they match the structs, and the defaults and presets satisfy them.
//!
//! The structs as serde serializes them are compared with the table of fields. The bounds of every
//! field are tested at both edges. The wording of faults is tested through the public interface.

use super::{NodeOptions, StoreEngine, fields};
use crate::fault::{Fault, FaultSource};
use crate::field::{Bounds, FieldType, Kind};
use crate::rule;
use std::collections::BTreeSet;
use std::path::PathBuf;
use toml::Value;

/// Valid options in which every optional field has a value, so that serde writes all fields.
fn full() -> NodeOptions {
    let mut options = NodeOptions::default();
    options.listen.tls_certificate_file = Some(PathBuf::from("certificate.pem"));
    options.listen.tls_key_file = Some(PathBuf::from("key.pem"));
    options.admin.key_file = Some(PathBuf::from("admin.key"));
    options.store.postgres_url = Some("postgresql://triggers@db.example/triggers".to_owned());
    options.store.postgres_password_file = Some(PathBuf::from("postgres.password"));
    options.store.postgres_ca_file = Some(PathBuf::from("postgres-ca.pem"));
    options.store.foundationdb_cluster_file = Some(PathBuf::from("fdb.cluster"));
    options.cluster.advertised_address = Some("node-1.internal:7400".to_owned());
    options.cluster.tls_certificate_file = Some(PathBuf::from("node-1.pem"));
    options.cluster.tls_key_file = Some(PathBuf::from("node-1-key.pem"));
    options.cluster.tls_ca_file = Some(PathBuf::from("ca.pem"));
    options.delivery.tls_ca_file = Some(PathBuf::from("ca.pem"));
    options
}

fn serialized_paths(options: &NodeOptions) -> BTreeSet<String> {
    let table = toml::Table::try_from(options).unwrap();
    let sections = table.iter().flat_map(|(section, values)| {
        values.as_table().unwrap().keys().map(move |name| format!("{section}.{name}"))
    });
    sections.collect()
}

#[test]
fn every_serialized_field_is_described_and_every_described_field_is_serialized() {
    let described: BTreeSet<String> = fields().map(|field| field.path.to_owned()).collect();
    assert_eq!(serialized_paths(&full()), described);
    assert_eq!(fields().count(), described.len());
    assert_eq!(full().values().len(), described.len());
}

#[test]
fn descriptions_agree_with_the_serialized_values() {
    let table = toml::Table::try_from(full()).unwrap();
    for (field, value) in fields().zip(full().values()) {
        let (section, name) = field.path.split_once('.').unwrap();
        assert_eq!(value.as_ref(), table[section].get(name), "{}", field.path);
        assert!(field.doc.iter().all(|line| !line.trim().is_empty()), "{}", field.path);
        assert_eq!(
            field.kind == Kind::Integer,
            matches!(field.bounds, Bounds::Range(..)),
            "{}",
            field.path
        );
    }
}

#[test]
fn quantities_end_with_their_unit() {
    for field in fields().filter(|field| field.kind == Kind::Integer && field.unit().is_none()) {
        let counts = ["max", "default", "partitions"];
        assert!(counts.iter().any(|end| field.name.ends_with(end)), "{}", field.path);
    }
}

#[test]
fn rules_name_known_fields() {
    for path in rule::all().flat_map(|rule| rule.fields) {
        assert!(fields().any(|field| field.path == *path), "{path}");
    }
}

#[test]
fn defaults_and_presets_are_valid() {
    assert_eq!(NodeOptions::default().validate(), Vec::new());
    assert_eq!(NodeOptions::dev("somewhere").validate(), Vec::new());
    assert_eq!(NodeOptions::simulation().validate(), Vec::new());
    assert_eq!(full().validate(), Vec::new());
}

#[test]
fn no_limit_of_the_simulation_exceeds_its_default() {
    let pairs = NodeOptions::simulation().values().into_iter().zip(NodeOptions::default().values());
    for (field, pair) in fields().zip(pairs) {
        if let (Some(Value::Integer(simulated)), Some(Value::Integer(default))) = pair {
            assert!(simulated <= default, "{}", field.path);
        }
    }
}

#[test]
fn validation_lists_every_fault_at_once() {
    let mut options = NodeOptions::default();
    options.node.name = "Node 1".to_owned();
    options.node.partitions = 100;
    options.listen.tls_key_file = Some(PathBuf::from("key.pem"));
    options.admin.address = options.listen.address;
    options.store.map_bytes_max = u64::MAX;
    options.limits.page_events_default = 199;
    options.limits.page_events_max = 100;
    let faults = options.validate();
    let blamed: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    let expected = [
        "store.map_bytes_max",
        "node.name",
        "node.partitions",
        "listen.tls_certificate_file",
        "admin.address",
        "limits.page_events_default",
    ];
    assert_eq!(blamed, expected);
    assert!(faults.iter().all(|fault| fault.source == FaultSource::Default));
}

#[test]
fn the_selected_engine_requires_its_options() {
    let mut options = NodeOptions::default();
    options.store.engine = StoreEngine::Postgres;
    let blamed: Vec<String> = options.validate().into_iter().map(|fault| fault.field).collect();
    assert_eq!(blamed, ["store.postgres_url"]);
    options.store.postgres_url = Some("postgresql://triggers@db.example/triggers".to_owned());
    assert_eq!(options.validate(), Vec::new());
    options.store.engine = StoreEngine::Foundationdb;
    assert_eq!(options.validate(), Vec::new());
}

#[test]
fn every_engine_has_a_name() {
    let field = fields().find(|field| field.path == "store.engine").unwrap();
    for engine in [StoreEngine::Embedded, StoreEngine::Postgres, StoreEngine::Foundationdb] {
        assert_eq!(field.fault(&engine.to_value().unwrap()), None, "{engine:?}");
        assert_eq!(engine.is_shared(), engine != StoreEngine::Embedded);
    }
}

#[test]
fn bounds_are_accepted_and_values_beyond_are_rejected() {
    for field in fields() {
        if let Bounds::Range(min, max) = field.bounds {
            assert_eq!(field.fault(&Value::Integer(min)), None, "{}", field.path);
            assert_eq!(field.fault(&Value::Integer(max)), None, "{}", field.path);
            assert!(field.fault(&Value::Integer(min - 1)).is_some(), "{}", field.path);
            assert!(field.fault(&Value::Integer(max + 1)).is_some(), "{}", field.path);
        }
    }
}

#[test]
fn a_fault_names_the_accepted_range_with_its_unit() {
    let mut options = NodeOptions::default();
    options.broker.tenant_bytes_max = 4 << 20;
    let expected = Fault {
        source: FaultSource::Default,
        field: "broker.tenant_bytes_max".to_owned(),
        message: "must be 9_437_184 to 1_073_741_824 bytes, but is 4_194_304".to_owned(),
    };
    assert_eq!(options.validate(), vec![expected]);
}
