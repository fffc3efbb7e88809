//! Operations on a whole data directory: backup while running, inspection while stopped.

use super::full::SmallDisk;
use super::{open, pairs, subject};
use crate::subject::{Subject, embedded_options};
use futures_util::future::join_all;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use tempfile::TempDir;
use triggers_store::kv::embedded::{EmbeddedEngine, OpenError, RecoveryReport, inspect};
use triggers_store::kv::{Engine, Fault, Transaction};

#[tokio::test]
async fn a_missing_log_directory_is_damage() {
    let directory = TempDir::new().unwrap();
    open(directory.path()).close().await;
    fs::remove_dir_all(directory.path().join("wal")).unwrap();
    let error = EmbeddedEngine::open(&embedded_options(directory.path())).err();
    assert!(matches!(error, Some(OpenError::Damaged { .. })), "{error:?}");
}

#[tokio::test]
async fn a_closed_directory_has_nothing_to_read_back() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let subject = Subject::new(engine.clone(), None);
    for number in 0..50 {
        subject.put(format!("{number}"), vec![1; 1_000]).await;
    }
    assert!(matches!(inspect(directory.path(), true), Err(OpenError::Locked(_))));
    engine.close().await;
    let error = subject
        .commit(async |open: &mut dyn Transaction| open.set(b"late", b"1"))
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Stopped));
    drop((subject, engine));
    let inspection = inspect(directory.path(), true).unwrap();
    assert_eq!((inspection.pairs, inspection.unflushed), (50, RecoveryReport::default()));
    assert!(
        inspection.segments > 0
            && inspection.used_bytes > 50_000
            && inspection.file_bytes >= inspection.used_bytes
    );
    let engine = open(directory.path());
    assert_eq!(*engine.recovered(), RecoveryReport::default());
    drop(engine);
    assert!(inspect(&directory.path().join("nothing"), false).is_err());
    assert!(!directory.path().join("nothing").exists(), "looking makes nothing");
}

/// Names, lengths and times of change of all files, to see that nothing was touched.
fn files(directory: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let mut files = Vec::new();
    for directory in [directory.to_owned(), directory.join("wal")] {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            files.push((entry.path(), metadata.len(), metadata.modified().unwrap()));
        }
        files.push((directory.clone(), 0, fs::metadata(&directory).unwrap().modified().unwrap()));
    }
    files.sort();
    files
}

/// Fills a directory and removes LMDB's lock, which a copy does not have.
async fn filled(directory: &Path) {
    let engine = open(directory);
    let subject = Subject::new(engine.clone(), None);
    for number in 0..50 {
        subject.put(format!("{number}"), vec![1; 1_000]).await;
    }
    engine.close().await;
    drop((subject, engine));
    fs::remove_file(directory.join("lock.mdb")).unwrap();
}

#[tokio::test]
async fn an_inspection_changes_nothing() {
    let directory = TempDir::new().unwrap();
    filled(directory.path()).await;
    for lock in ["kept", "removed"] {
        let before = files(directory.path());
        let inspection = inspect(directory.path(), true).unwrap();
        assert_eq!((inspection.pairs, inspection.segments > 0), (50, true), "{lock}");
        assert_eq!(files(directory.path()), before, "INSPECT-1: {lock}");
        // As in a copy that no process has opened yet.
        let _ = fs::remove_file(directory.path().join("LOCK"));
    }
}

#[tokio::test]
async fn a_directory_that_is_mounted_read_only_can_be_inspected() {
    let Some(disk) = SmallDisk::mount(128 << 20) else {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    };
    let directory = disk.0.path().join("data");
    filled(&directory).await;
    disk.make_read_only();
    assert_eq!(inspect(&directory, false).unwrap().pairs, 50);
    assert_eq!(inspect(&directory, true).unwrap().pairs, 50);
    let error = EmbeddedEngine::open(&embedded_options(&directory)).err().unwrap();
    assert!(error.to_string().contains("Read-only file system"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_engine_is_one_state() {
    let (directory, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let engine = open(directory.path());
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (engine, is_over) = (engine.clone(), is_over.clone());
            tokio::spawn(async move {
                let mut number = 0;
                // Bounded, in case a backup never ends.
                while !is_over.load(Ordering::Relaxed) && number < 200_000 {
                    let mut open = engine.begin().await.unwrap();
                    for side in ["a", "z"] {
                        open.set(format!("{side}/{writer}/{number:06}").as_bytes(), &[7; 400]);
                    }
                    open.commit().await.unwrap();
                    number += 1;
                }
            })
        })
        .collect();
    let mut before = 0;
    for number in 0..3 {
        let target = copies.path().join(number.to_string());
        let copied = engine.backup(target.clone()).await.unwrap();
        let found = subject(&target);
        let (first, last) = (pairs(&found, "a/").await, pairs(&found, "z/").await);
        let names = |side: &[(String, Vec<u8>)]| {
            side.iter().map(|(key, _)| key[1..].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&first), names(&last), "what was written together is there together");
        assert_eq!(copied.pairs as usize, first.len() + last.len());
        assert!(first.len() >= before);
        before = first.len();
        let error = engine.backup(target).await.unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in join_all(writers).await {
        writer.unwrap();
    }
}
