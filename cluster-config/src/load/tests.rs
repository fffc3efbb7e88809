//! Property tests: valid options survive a round trip through a file and the environment.
//!
//! Values are generated from the bounds of the declarations, so a new field is covered at once.
//! Then a few values are adjusted to satisfy the rules over several fields.

use super::Sources;
use crate::field::{Bounds, Field, Kind};
use crate::options::{NodeOptions, SECTIONS, StoreEngine, fields};
use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use std::io::Write;
use toml::{Table, Value};

fn text_of(field: &Field) -> BoxedStrategy<Value> {
    let pattern = match field.path {
        "listen.address" => "127\\.0\\.0\\.1:[1-9][0-9]{3}",
        "admin.address" => "\\[::1\\]:[1-9][0-9]{3}",
        "cluster.address" => "127\\.0\\.0\\.2:[1-9][0-9]{3}",
        "cluster.advertised_address" => "[a-z0-9]{1,10}(\\.[a-z]{1,10})?:[1-9][0-9]{3}",
        "store.postgres_url" => "postgres(ql)?://[a-z]{1,10}@[a-z0-9.]{1,10}(:5432)?/[a-z]{1,10}",
        "node.name" => "[a-z][a-z0-9-]{0,61}[a-z0-9]",
        "log.filter" => "[a-z_=,:\"\\\\]{1,40}",
        _ => "/[a-zA-Z0-9 ä'\"\\\\/.=#-]{0,40}",
    };
    pattern.prop_map(Value::String).boxed()
}

fn value_of(field: &'static Field) -> BoxedStrategy<Option<Value>> {
    let value = match (field.bounds, field.kind) {
        (Bounds::Range(min, max), _) => (min..=max).prop_map(Value::Integer).boxed(),
        (Bounds::Choice(words), _) => {
            proptest::sample::select(words).prop_map(|word| Value::String(word.into())).boxed()
        }
        (_, Kind::Boolean) => any::<bool>().prop_map(Value::Boolean).boxed(),
        (_, Kind::List) => {
            let pattern = match field.path {
                "delivery.allowed_targets" => {
                    "10\\.[1-9][0-9]\\.0\\.0/(16|24)|fd[0-9]{2}::/[1-5][0-9]"
                }
                _ => "https?://[a-z0-9]{1,20}\\.example(:[1-9][0-9]{3})?",
            };
            let items = proptest::collection::vec(pattern, 0..4);
            items
                .prop_map(|items| Value::Array(items.into_iter().map(Value::String).collect()))
                .boxed()
        }
        _ => text_of(field),
    };
    if field.is_optional {
        proptest::option::of(value).boxed()
    } else {
        value.prop_map(Some).boxed()
    }
}

fn valid_options() -> impl Strategy<Value = NodeOptions> {
    let values: Vec<_> = fields().map(value_of).collect();
    values.prop_map(|values| {
        let mut values = values.into_iter();
        let section_table = |section: &crate::field::Section| {
            let names = section.fields.iter().zip(values.by_ref());
            names
                .filter_map(|(field, value)| Some((field.name.to_owned(), value?)))
                .collect::<Table>()
        };
        let tables: Vec<Table> = SECTIONS.iter().map(section_table).collect();
        let named = SECTIONS
            .iter()
            .zip(tables)
            .map(|(section, table)| (section.name.to_owned(), Value::Table(table)));
        let mut options: NodeOptions = named.collect::<Table>().try_into().unwrap();
        satisfy_rules(&mut options);
        options
    })
}

fn satisfy_rules(options: &mut NodeOptions) {
    let NodeOptions { node, listen, store, cluster, broker, delivery, limits, .. } = options;
    node.partitions = node.partitions.next_power_of_two();
    if listen.tls_certificate_file.is_none() {
        listen.tls_key_file = None;
    } else if listen.tls_key_file.is_none() {
        listen.tls_certificate_file = None;
    }
    store.map_bytes_max -= store.map_bytes_max % 4_096;
    store.group_bytes_max = store.group_bytes_max.min(store.map_bytes_max as usize);
    if store.engine == StoreEngine::Postgres && store.postgres_url.is_none() {
        store.engine = StoreEngine::Foundationdb;
    }
    let tls_files =
        [&mut cluster.tls_certificate_file, &mut cluster.tls_key_file, &mut cluster.tls_ca_file];
    if tls_files.iter().any(|file| file.is_none()) {
        tls_files.into_iter().for_each(|file| *file = None);
    }
    cluster.heartbeat_interval_ms = cluster.heartbeat_interval_ms.min(cluster.stop_after_ms / 3);
    cluster.take_over_after_ms = cluster.take_over_after_ms.max(cluster.stop_after_ms + 1);
    broker.node_bytes_max = broker.node_bytes_max.max(broker.tenant_bytes_max);
    broker.reads_in_flight_max = broker.reads_in_flight_max.min(store.readers_max as usize);
    broker.commit_timeout_ms = broker.commit_timeout_ms.min(listen.request_timeout_ms);
    broker.scan_rows_max = broker.scan_rows_max.max(limits.page_events_max);
    delivery.tenant_in_flight_max = delivery.tenant_in_flight_max.min(delivery.in_flight_max);
    delivery.subscriptions_max =
        delivery.subscriptions_max.min((50_000 / broker.batch_events_max).max(1));
    delivery.connect_timeout_ms = delivery.connect_timeout_ms.min(delivery.attempt_timeout_ms);
    delivery.read_timeout_ms = delivery.read_timeout_ms.min(delivery.attempt_timeout_ms);
    delivery.breaker_pause_ms = delivery.breaker_pause_ms.min(delivery.breaker_pause_ms_max);
    limits.batch_bytes_max = limits.batch_bytes_max.max(limits.payload_bytes_max);
    limits.page_events_default = limits.page_events_default.min(limits.page_events_max);
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(items) => items.into_iter().map(as_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn valid_options_survive_a_file(options in valid_options()) {
        prop_assert_eq!(options.validate(), Vec::new());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml::to_string(&options).unwrap().as_bytes()).unwrap();
        let sources = Sources { file: Some(file.path()), ..Sources::<Vec<_>>::default() };
        let loaded = NodeOptions::load(sources);
        prop_assert_eq!(loaded, Ok(options));
    }

    #[test]
    fn valid_options_survive_the_environment(options in valid_options()) {
        let values = fields().zip(options.values());
        let environment =
            values.filter_map(|(field, value)| Some((field.variable(), as_text(value?))));
        let loaded = NodeOptions::load(Sources { file: None, environment, flags: Vec::new() });
        prop_assert_eq!(loaded, Ok(options));
    }
}
