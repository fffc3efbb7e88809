//! The data directory: a second process, an unknown format, and damaged files.
//!
//! A rejected directory stays byte for byte as it was, except for its empty `LOCK`.

use super::{open, pairs, subject};
use crate::subject::embedded_options;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions, OpenError};
use triggers_store::kv::{Engine, Fault, KeyRange, StoreError, Transaction, decode_counter};

/// Writes about two megabytes and closes the directory.
async fn filled() -> TempDir {
    let directory = TempDir::new().unwrap();
    let subject = subject(directory.path());
    let write = async |open: &mut dyn Transaction| {
        for number in 0..40 {
            open.set(format!("filled/{number:02}").as_bytes(), &vec![number; 50_000]);
        }
    };
    subject.commit(write).await.unwrap();
    directory
}

fn open_error(directory: &Path) -> OpenError {
    let outcome = EmbeddedEngine::open(&embedded_options(directory));
    outcome.err().expect("the directory is rejected")
}

fn set_length(directory: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(directory.join("data.mdb"));
    file.unwrap().set_len(bytes).unwrap();
}

/// Names of all files with their contents, or with the length of a long file.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = |directory: &Path| {
        std::fs::read_dir(directory).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let log = directory.join("wal");
    let files = entries(directory)
        .into_iter()
        .filter(|entry| entry.path() != log)
        .chain(entries(&log))
        .map(|entry| {
            let length = entry.metadata().unwrap().len();
            let content = match length {
                0..100_000 => std::fs::read(entry.path()).unwrap(),
                _ => length.to_string().into_bytes(),
            };
            (entry.file_name().into_string().unwrap(), content)
        });
    files.collect()
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let directory = filled().await;
    for round in 0..3 {
        let subject = subject(directory.path());
        let found = pairs(&subject, "filled/").await;
        assert_eq!(found.len(), 40);
        assert!(found.iter().enumerate().all(|(at, (_, value))| *value == vec![at as u8; 50_000]));
        assert_eq!(pairs(&subject, "round/").await.len(), round);
        let write =
            async |open: &mut dyn Transaction| open.set(format!("round/{round}").as_bytes(), b"1");
        subject.commit(write).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_open_is_rejected() {
    let directory = TempDir::new().unwrap();
    let first = open(directory.path());
    assert!(
        matches!(open_error(directory.path()), OpenError::Locked(path) if path == directory.path())
    );
    first.health().unwrap();
    drop(first);
    open(directory.path());
}

#[tokio::test]
async fn another_format_is_rejected() {
    let directory = filled().await;
    for format in [&b"triggers-data 1\n"[..], b"triggers-data 2\n", b"", b"\xff\xfe\x00"] {
        std::fs::write(directory.path().join("FORMAT"), format).unwrap();
        let before = contents(directory.path());
        let error = open_error(directory.path());
        assert!(matches!(error, OpenError::Format { .. }), "{error}");
        assert_eq!(contents(directory.path()), before);
    }
}

#[tokio::test]
async fn data_without_a_format_is_rejected() {
    let directory = filled().await;
    std::fs::remove_file(directory.path().join("FORMAT")).unwrap();
    let before = contents(directory.path());
    assert!(matches!(open_error(directory.path()), OpenError::Format { .. }));
    assert_eq!(contents(directory.path()), before);
}

#[tokio::test]
async fn a_half_made_directory_is_made_again() {
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()));
    std::fs::remove_file(directory.path().join("FORMAT")).unwrap();
    set_length(directory.path(), 0);
    subject(directory.path()).put("a", "1").await;
    assert!(directory.path().join("FORMAT").exists());
}

#[tokio::test]
async fn a_truncated_data_file_is_rejected() {
    let directory = filled().await;
    for bytes in [1_000_000, 500_001, 12_288, 8_193, 8_192, 8_191, 4_096, 4_095, 100, 1, 0] {
        set_length(directory.path(), bytes);
        let error = open_error(directory.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{bytes} bytes: {error}");
        let found = std::fs::metadata(directory.path().join("data.mdb")).unwrap();
        assert_eq!(found.len(), bytes);
    }
    std::fs::remove_file(directory.path().join("data.mdb")).unwrap();
    assert!(matches!(open_error(directory.path()), OpenError::Damaged { .. }));
}

#[tokio::test]
async fn a_foreign_data_file_is_rejected() {
    let directory = filled().await;
    let file = OpenOptions::new().write(true).open(directory.path().join("data.mdb"));
    file.unwrap().write_all(&[0xaa; 65_536]).unwrap();
    let error = open_error(directory.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_range_from_the_empty_key_can_be_cleared() {
    let directory = filled().await;
    let subject = subject(directory.path());
    let clear = async |open: &mut dyn Transaction| open.clear_range(KeyRange::new("", "filled/39"));
    subject.commit(clear).await.unwrap();
    assert_eq!(pairs(&subject, "filled/").await.len(), 1);
}

#[tokio::test]
async fn writers_do_not_wait_for_readers() {
    let directory = TempDir::new().unwrap();
    // A log smaller than the data, so that it must be flushed meanwhile.
    let options = EmbeddedOptions {
        readers_max: 4,
        log_bytes_max: 1 << 20,
        ..embedded_options(directory.path())
    };
    let engine = EmbeddedEngine::open(&options).unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = engine.begin().await.unwrap();
        reader.get(b"a").await.unwrap();
        readers.push(reader);
    }
    let rejected = engine.begin().await.unwrap().get(b"a").await.unwrap_err();
    assert!(matches!(rejected, StoreError::Retryable(_)), "{rejected}");
    for number in 0..60 {
        let mut open = engine.begin().await.unwrap();
        open.set(format!("{number}").as_bytes(), &[1; 50_000]);
        open.add(b"count", 1);
        open.commit().await.unwrap();
    }
    engine.health().unwrap();
    drop(readers);
    let count = engine.begin().await.unwrap().get(b"count").await.unwrap();
    assert_eq!(decode_counter(count.as_deref()).unwrap(), 60);
}

#[tokio::test]
async fn closing_does_not_wait_for_open_transactions() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut left_open = engine.begin().await.unwrap();
    left_open.get(b"a").await.unwrap();
    left_open.set(b"a", b"1");
    drop(engine);
    let error = left_open.commit().await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Stopped));
    assert_eq!(subject(directory.path()).value("a").await, None);
}
