//! Tests of loading: precedence of the sources, and the wording of faults.
//!
//! Faults are compared as printed, one per line, with the directory of the file removed.

use std::path::PathBuf;
use triggers_cluster_config::{ConfigError, LogFormat, NodeOptions, Override, Sources};

fn load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[&str],
) -> Result<NodeOptions, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let flags: Vec<Override> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
    NodeOptions::load(Sources { file: Some(&path), environment, flags })
}

/// The printed faults, with the path of the file shortened to its name.
fn faults(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Vec<String> {
    let printed = load(file, environment, flags).unwrap_err().to_string();
    let shorten = |line: &str| match line.split_once("node.toml: ") {
        Some((_, rest)) => format!("node.toml: {rest}"),
        None => line.to_owned(),
    };
    printed.lines().map(shorten).collect()
}

#[test]
fn empty_sources_give_the_defaults() {
    assert_eq!(NodeOptions::load(Sources::<Vec<_>>::default()), Ok(NodeOptions::default()));
    assert_eq!(load("", &[], &[]), Ok(NodeOptions::default()));
    assert_eq!(
        load("[listen]\n", &[("PATH", "/bin"), ("TRIGGERS_ADMIN_KEY", "k")], &[]),
        Ok(NodeOptions::default())
    );
}

#[test]
fn stronger_sources_win() {
    let file = "[node]\nname = 'file'\npartitions = 8\n[log]\nfilter = 'warn'\n";
    let environment = [("TRIGGERS__NODE__NAME", "environment"), ("TRIGGERS__LOG__FORMAT", "json")];
    let options = load(file, &environment, &["node.name=flag", "node.name=last"]).unwrap();
    assert_eq!(options.node.name, "last");
    assert_eq!(options.node.partitions, 8);
    assert_eq!(options.log.filter, "warn");
    assert_eq!(options.log.format, LogFormat::Json);
    assert_eq!(load(file, &environment, &[]).unwrap().node.name, "environment");
    assert_eq!(load(file, &[], &[]).unwrap().node.name, "file");
    assert_eq!(options.limits, NodeOptions::default().limits);
}

#[test]
fn texts_are_converted_to_the_type_of_the_field() {
    let environment = [
        ("TRIGGERS__LISTEN__IS_BEHIND_TLS_PROXY", "true"),
        ("TRIGGERS__LISTEN__CONNECTIONS_MAX", "1_000"),
        ("TRIGGERS__LISTEN__CORS_ORIGINS", "https://a.example, http://localhost:3000"),
        ("TRIGGERS__LISTEN__ADDRESS", "[::1]:0"),
        ("TRIGGERS__ADMIN__KEY_FILE", "/run/secrets/admin"),
    ];
    let options = load("", &environment, &["store.data_directory=12"]).unwrap();
    assert!(options.listen.is_behind_tls_proxy);
    assert_eq!(options.listen.connections_max, 1_000);
    assert_eq!(options.listen.cors_origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!(options.listen.address.to_string(), "[::1]:0");
    assert_eq!(options.admin.key_file, Some(PathBuf::from("/run/secrets/admin")));
    assert_eq!(options.store.data_directory, PathBuf::from("12"));
}

#[test]
fn an_empty_text_unsets_the_value_of_an_earlier_source() {
    let file = "[admin]\nkey_file = 'admin.key'\n[listen]\ncors_origins = ['https://a.example']\n";
    assert_eq!(
        load(file, &[], &["admin.key_file=", "listen.cors_origins="]),
        Ok(NodeOptions::default())
    );
}

#[test]
fn every_fault_of_every_source_is_listed_at_once() {
    let file =
        "[node]\nname = 'UPPER'\npartitions = 3\n[listen]\nadress = 'x'\nbody_timeout_ms = '5s'\n";
    let environment =
        [("TRIGGERS__STORE__ENGINE", "rocks"), ("TRIGGERS__LIMITS__PAGE_EVENTS_MAX", "20")];
    let expected = [
        "node.toml: listen.adress: unknown field; did you mean listen.address?",
        "node.toml: listen.body_timeout_ms: must be a whole number, but is a string",
        "environment TRIGGERS__STORE__ENGINE: store.engine: \
         must be one of embedded, postgres, foundationdb, but is \"rocks\"",
        "flag broker.restarts_max: broker.restarts_max: must be 0 to 1_000, but is -1",
        "node.toml: node.name: must be 1 to 63 characters of a-z, 0-9 and -",
        "node.toml: node.partitions: must be a power of two, but is 3",
        "environment TRIGGERS__LIMITS__PAGE_EVENTS_MAX: limits.page_events_default: \
         must be at most limits.page_events_max",
    ];
    assert_eq!(faults(file, &environment, &["broker.restarts_max=-1"]), expected);
}

#[test]
fn unknown_names_are_rejected_with_a_suggestion() {
    let file = "address = '127.0.0.1:1'\nconnections_max = 5\n[brokr]\nrestarts_max = 1\n[xyz]\n\
                [store]\ncommits_in_flight_max = 1\nsomething_else = 1\n";
    let environment = [
        ("TRIGGERS__LISTEN__ADRESS", "s3cret"),
        ("TRIGGERS__ADMIN__KEY", "s3cret"),
        ("TRIGGERS__", ""),
    ];
    let expected = [
        "node.toml: address: unknown field; did you mean listen.address?",
        "node.toml: brokr: unknown section; did you mean [broker]?",
        "node.toml: connections_max: unknown field; did you mean listen.connections_max?",
        "node.toml: store.commits_in_flight_max: unknown field; \
         did you mean broker.commits_in_flight_max?",
        "node.toml: store.something_else: unknown field",
        "node.toml: xyz: unknown section; known are [node], [listen], [admin], [store], [cluster], \
         [broker], [delivery], [limits], [log]",
        "environment TRIGGERS__: unknown field",
        "environment TRIGGERS__ADMIN__KEY: admin.key: unknown field",
        "environment TRIGGERS__LISTEN__ADRESS: listen.adress: unknown field; \
         did you mean TRIGGERS__LISTEN__ADDRESS?",
        "flag log.fliter: log.fliter: unknown field; did you mean log.filter?",
    ];
    assert_eq!(faults(file, &environment, &["log.fliter=debug"]), expected);
}

#[test]
fn values_of_a_wrong_type_are_rejected() {
    let file = "log = 'debug'\n[listen]\naddress = 'localhost'\nconnections_max = 1.5\n\
                cors_origins = 'https://a.example'\nis_behind_tls_proxy = 'yes'\n\
                [node]\nname = 1\npartitions = 70000\n";
    let environment = [("TRIGGERS__LISTEN__HEADERS_MAX", ""), ("TRIGGERS__ADMIN__ADDRESS", "")];
    let expected = [
        "node.toml: listen.address: \
         must be an IP address and port, such as 127.0.0.1:8080, but is \"localhost\"",
        "node.toml: listen.connections_max: must be a whole number, but is a decimal number",
        "node.toml: listen.cors_origins: must be a list of strings, but is a string",
        "node.toml: listen.is_behind_tls_proxy: must be true or false, but is a string",
        "node.toml: log: must be a section, written as [log]",
        "node.toml: node.name: must be a string, but is a whole number",
        "node.toml: node.partitions: must be 1 to 4_096, but is 70_000",
        "environment TRIGGERS__ADMIN__ADDRESS: admin.address: \
         must be an IP address and port, such as 127.0.0.1:9090, but is \"\"",
        "environment TRIGGERS__LISTEN__HEADERS_MAX: listen.headers_max: \
         must be a whole number, but is a string",
    ];
    assert_eq!(faults(file, &environment, &[]), expected);
}

#[test]
fn a_rejected_value_does_not_cause_a_second_fault() {
    let file = "[listen]\ntls_certificate_file = 1\ntls_key_file = 'key.pem'\n";
    let expected =
        ["node.toml: listen.tls_certificate_file: must be a string, but is a whole number"];
    assert_eq!(faults(file, &[], &[]), expected);
}

#[test]
fn an_unreadable_file_is_one_fault_beside_those_of_other_sources() {
    let printed = faults("[node]\nname = = 1\n", &[], &["log.format=xml"]);
    assert_eq!(printed.len(), 2, "{printed:?}");
    assert!(printed[0].starts_with("node.toml: line 2: "), "{printed:?}");
    assert_eq!(
        printed[1],
        "flag log.format: log.format: must be one of human, json, but is \"xml\""
    );

    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let error = NodeOptions::load(Sources { file: Some(&missing), ..Sources::<Vec<_>>::default() })
        .unwrap_err();
    assert!(error.to_string().contains("missing.toml: cannot be read: "), "{error}");

    let large = format!("# {}\n", "x".repeat(1 << 20));
    assert_eq!(faults(&large, &[], &[]), ["node.toml: cannot be read: larger than 1 MiB"]);
}

#[test]
fn a_fault_is_printed_on_one_line() {
    let environment = [("TRIGGERS__LOG__FORMAT", "a\nb"), ("TRIGGERS__A\nB", "")];
    let expected = [
        "node.toml: node.a\\nb: unknown field",
        "environment TRIGGERS__A\\nB: a\\nb: unknown field",
        "environment TRIGGERS__LOG__FORMAT: log.format: \
         must be one of human, json, but is \"a\\nb\"",
    ];
    assert_eq!(faults("[node]\n\"a\\nb\" = 1\n", &environment, &[]), expected);
}

#[test]
fn overrides_parse_from_field_and_value() {
    assert_eq!("log.filter=info,a=debug".parse(), Ok(Override::new("log.filter", "info,a=debug")));
    assert_eq!("admin.key_file=".parse(), Ok(Override::new("admin.key_file", "")));
    for text in ["log.filter", "=1", ""] {
        let error = text.parse::<Override>().unwrap_err();
        assert_eq!(error.to_string(), format!("{text:?} must be written as section.name=value"));
    }
}
