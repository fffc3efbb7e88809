//! What is done with a whole data directory: one of the format before is taken over, a running one is copied, a stopped one is
//! looked at.

use super::{open, pairs, subject};
use crate::subject::Subject;
use futures_util::future::join_all;
use heed::types::Bytes as Raw;
use heed::{Database, EnvOpenOptions};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use triggers_store::kv::embedded::{
    EmbeddedEngine, EmbeddedOptions, OpenError, Recovered, inspect,
};
use triggers_store::kv::{Engine, Fault, Transaction};

/// A directory as it was before there was a log.
fn plain(directory: &Path) {
    #[expect(unsafe_code, reason = "nobody else has the new file open")]
    let env = unsafe { EnvOpenOptions::new().map_size(16 << 20).open(directory) }.unwrap();
    let mut transaction = env.write_txn().unwrap();
    let all: Database<Raw, Raw> = env.create_database(&mut transaction, None).unwrap();
    for number in 0..200 {
        let key = format!("plain/{number:03}");
        all.put(&mut transaction, key.as_bytes(), &vec![number as u8; 100 * number]).unwrap();
    }
    transaction.commit().unwrap();
    fs::write(directory.join("FORMAT"), "triggers-data 1 lmdb\n").unwrap();
}

#[tokio::test]
async fn a_directory_without_a_log_opens_unchanged_and_has_one_then() {
    let directory = TempDir::new().unwrap();
    plain(directory.path());
    for round in 0..3 {
        let subject = subject(directory.path());
        let found = pairs(&subject, "plain/").await;
        assert_eq!(found.len(), 200 + round);
        let old = found.iter().take(200).enumerate();
        assert!(
            old.into_iter().all(|(number, (_, value))| *value == vec![number as u8; 100 * number])
        );
        let write = async |open: &mut dyn Transaction| {
            open.set(format!("plain/new-{round}").as_bytes(), b"1")
        };
        subject.commit(write).await.unwrap();
        let format = fs::read_to_string(directory.path().join("FORMAT")).unwrap();
        assert!(
            format.starts_with("triggers-data 3 log\n"),
            "earlier versions refuse it: {format}"
        );
    }
    fs::remove_dir_all(directory.path().join("wal")).unwrap();
    let error = EmbeddedEngine::open(&EmbeddedOptions::new(directory.path())).err();
    assert!(
        matches!(error, Some(OpenError::Damaged { .. })),
        "a log that is gone is noticed: {error:?}"
    );
}

/// Makes a directory of format 2 of one of format 3 that is closed: with a record in its log as that version wrote it.
pub fn of_format_2(directory: &Path, key: &[u8], value: &[u8]) {
    let format = fs::read_to_string(directory.join("FORMAT")).unwrap();
    let secret = &format.lines().nth(1).unwrap()[..8];
    let text = format!("triggers-data 2 log\n{secret}");
    fs::write(
        directory.join("FORMAT"),
        format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes())),
    )
    .unwrap();
    let lengths =
        [&(key.len() as u16).to_le_bytes()[..], &(value.len() as u32).to_le_bytes()].concat();
    let body = [&lengths, key, value].concat();
    let (generation, sequence, counts) =
        (1u64, 1u64, [body.len() as u32, 1].map(u32::to_le_bytes).concat());
    let mut covered =
        [&generation.to_le_bytes()[..], &sequence.to_le_bytes(), &counts, &body].concat();
    covered.resize(4_096 - 8, 0);
    let mut crc = crc32fast::Hasher::new_with_initial(u32::from_str_radix(secret, 16).unwrap());
    crc.update(&covered);
    let record = [b"TrL2", &crc.finalize().to_le_bytes()[..], &covered].concat();
    let segment = fs::read_dir(directory.join("wal")).unwrap().next().unwrap().unwrap().path();
    let segment = fs::OpenOptions::new().write(true).open(segment).unwrap();
    segment.write_all_at(&record, 0).unwrap();
}

#[tokio::test]
async fn a_log_of_the_format_before_is_read_and_goes_on_in_this_one() {
    let directory = TempDir::new().unwrap();
    open(directory.path()).close().await;
    of_format_2(directory.path(), b"old/key", b"1");
    assert_eq!(inspect(directory.path(), true).unwrap().waiting.records, 1);
    let format = fs::read_to_string(directory.path().join("FORMAT")).unwrap();
    assert!(format.starts_with("triggers-data 2 log\n"), "who looks changes nothing: {format}");
    let engine = open(directory.path());
    assert_eq!(engine.recovered().records, 1);
    let subject = Subject::new(engine, None);
    let write = async |open: &mut dyn Transaction| open.set(b"old/keys", b"2");
    subject.commit(write).await.unwrap();
    let expected = [("old/key".to_owned(), b"1".to_vec()), ("old/keys".to_owned(), b"2".to_vec())];
    assert_eq!(pairs(&subject, "old/").await, expected);
    let format = fs::read_to_string(directory.path().join("FORMAT")).unwrap();
    assert!(format.starts_with("triggers-data 3 log\n"), "earlier versions refuse it: {format}");
}

#[tokio::test]
async fn a_closed_directory_has_nothing_to_read_back_and_can_be_looked_at() {
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
    assert_eq!((inspection.pairs, inspection.waiting), (50, Recovered::default()));
    assert!(
        inspection.segments > 0
            && inspection.used_bytes > 50_000
            && inspection.file_bytes >= inspection.used_bytes
    );
    let engine = open(directory.path());
    assert_eq!(*engine.recovered(), Recovered::default());
    drop(engine);
    assert!(inspect(&directory.path().join("nothing"), false).is_err());
    assert!(!directory.path().join("nothing").exists(), "looking makes nothing");
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
                // Bounded, should a backup never end.
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
