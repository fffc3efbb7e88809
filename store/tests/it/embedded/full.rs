//! A data file at its maximum: writes fail, and acknowledged data stays readable.
//!
//! A model has all commits that returned `Ok`. Any error other than `Full` fails the test.

use super::pairs;
use crate::subject::{Subject, embedded_options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use triggers_store::kv::embedded::{EmbeddedEngine, EmbeddedOptions};
use triggers_store::kv::{Fault, Transaction};

type Model = BTreeMap<String, Vec<u8>>;

fn small(directory: &Path) -> Subject {
    let options = EmbeddedOptions { map_bytes_max: 4 << 20, ..embedded_options(directory) };
    Subject::new(Arc::new(EmbeddedEngine::open(&options).unwrap()), None)
}

/// Sets or clears a key; returns whether there was room.
async fn write(subject: &Subject, model: &mut Model, key: String, value: Option<Vec<u8>>) -> bool {
    let write = async |open: &mut dyn Transaction| match &value {
        Some(value) => open.set(key.as_bytes(), value),
        None => open.clear(key.as_bytes()),
    };
    match subject.commit(write).await {
        Ok(()) => {
            match value {
                Some(value) => drop(model.insert(key, value)),
                None => drop(model.remove(&key)),
            }
            true
        }
        Err(error) => {
            assert_eq!(error.fault(), Some(Fault::Full), "{error}");
            false
        }
    }
}

/// Sets keys until there is no room; returns their number.
async fn fill(subject: &Subject, model: &mut Model, bytes: usize) -> usize {
    for number in 0..20_000 {
        let key = format!("full/{bytes}/{number:05}");
        let value = vec![number as u8; bytes];
        if !write(subject, model, key, Some(value)).await {
            return number;
        }
    }
    panic!("a file of four megabytes never became full");
}

/// Why a large value has no room.
async fn reason(subject: &Subject) -> String {
    let write = async |open: &mut dyn Transaction| open.set(b"more", &[1; 80_000]);
    subject.commit(write).await.unwrap_err().to_string()
}

async fn assert_equal(subject: &Subject, model: &Model) {
    let found: Model = pairs(subject, "full/").await.into_iter().collect();
    assert!(found == *model, "{} pairs, expected {}", found.len(), model.len());
}

#[tokio::test]
async fn a_full_file_accepts_smaller_writes() {
    let directory = TempDir::new().unwrap();
    let mut model = Model::new();
    let subject = small(directory.path());
    let large = fill(&subject, &mut model, 50_000).await;
    assert!(large > 20, "{large} values of 50 kB in 4 MiB");
    let reason = reason(&subject).await;
    assert!(reason.contains("configured maximum") && !reason.contains("disk"), "{reason}");
    assert_equal(&subject, &model).await;
    fill(&subject, &mut model, 1_000).await;
    assert_equal(&subject, &model).await;
    let keys: Vec<String> = model.keys().cloned().collect();
    let mut cleared = 0;
    for key in keys.into_iter().step_by(2) {
        cleared += usize::from(write(&subject, &mut model, key, None).await);
    }
    assert_equal(&subject, &model).await;
    assert!(cleared > 0, "nothing can be cleared of a full file");
    assert!(fill(&subject, &mut model, 20_000).await > 0);
    assert_equal(&subject, &model).await;
    subject.engine.health().unwrap();
    drop(subject);
    assert_equal(&small(directory.path()), &model).await;
}

#[tokio::test]
async fn a_commit_without_room_does_not_fail_its_group() {
    let directory = TempDir::new().unwrap();
    let subject = small(directory.path());
    let mut model = Model::new();
    let large = fill(&subject, &mut model, 50_000).await;
    for number in 0..large / 2 {
        write(&subject, &mut model, format!("full/50000/{number:05}"), None).await;
    }
    for round in 0..5 {
        let sizes = [100, 100, 90_000 * 40, 100, 100];
        let commits = sizes.iter().enumerate().map(|(at, bytes)| {
            let write = async move |open: &mut dyn Transaction| {
                for (part, start) in (0..*bytes).step_by(90_000).enumerate() {
                    let part_bytes = (bytes - start).min(90_000);
                    let key = format!("full/group/{round}/{at}/{part}");
                    open.set(key.as_bytes(), &vec![1; part_bytes]);
                }
            };
            subject.commit(write)
        });
        let outcomes = futures_util::future::join_all(commits).await;
        for (bytes, outcome) in sizes.iter().zip(outcomes) {
            let fault = outcome.err().and_then(|error| error.fault());
            assert_eq!(fault, (*bytes > 100).then_some(Fault::Full), "{bytes} bytes");
        }
    }
    assert_eq!(pairs(&subject, "full/group/").await.len(), 20);
}

/// The writes of an acknowledgement: a row for the delivery, and one queue entry instead of
/// another.
async fn acknowledge(
    subject: &Subject,
    numbers: &[usize],
) -> Result<(), triggers_store::kv::StoreError> {
    subject
        .commit(async |open: &mut dyn Transaction| {
            for number in numbers {
                open.set(
                    format!("delivery/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                    &[2; 30],
                );
                open.clear(
                    format!("queue/1/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                );
                open.set(
                    format!("queue/3/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                    b"order.created",
                );
            }
        })
        .await
}

#[tokio::test]
async fn a_full_store_accepts_acknowledgements_and_deletions() {
    let directory = TempDir::new().unwrap();
    let options = EmbeddedOptions { map_bytes_max: 16 << 20, ..embedded_options(directory.path()) };
    let subject = Subject::new(Arc::new(EmbeddedEngine::open(&options).unwrap()), None);
    let mut stored = 0;
    let append = async |first: usize, count: usize| {
        subject
            .commit(async |open: &mut dyn Transaction| {
                for number in first..first + count {
                    open.set(
                        format!("event/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                        &[1; 300],
                    );
                    open.set(
                        format!("queue/1/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                        b"order.created",
                    );
                }
            })
            .await
    };
    for count in [100, 1] {
        while append(stored, count).await.is_ok() {
            stored += count;
        }
    }
    assert!(stored > 5_000, "{stored} events of 300 bytes in 16 MiB");
    let all: Vec<usize> = (0..stored).collect();
    for some in all.chunks(200) {
        acknowledge(&subject, some).await.expect("a full store can be acknowledged from");
        assert_eq!(append(stored, 100).await.unwrap_err().fault(), Some(Fault::Full));
    }
    for some in all.chunks(200) {
        let deleted = subject.commit(async |open: &mut dyn Transaction| {
            for number in some {
                open.clear(
                    format!("event/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                );
                open.clear(
                    format!("delivery/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                );
                open.clear(
                    format!("queue/3/{number:06}/padding-of-a-realistic-key-length").as_bytes(),
                );
            }
        });
        deleted.await.expect("a full store can be deleted from");
    }
    append(0, 100).await.expect("there is room again");
}

/// A small file system of its own, unmounted on drop; needs root.
pub(super) struct SmallDisk(pub(super) TempDir);

impl SmallDisk {
    pub(super) fn mount(bytes: u64) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            _ => None,
        }
    }

    /// Mounts it again so that nothing can be written.
    pub(super) fn make_read_only(&self) {
        let mut mount = std::process::Command::new("mount");
        let output = mount.args(["-o", "remount,ro"]).arg(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_rejects_writes_and_keeps_its_data() {
    let Some(disk) = SmallDisk::mount(48 << 20) else {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    };
    let directory = disk.0.path().join("data");
    let mut model = Model::new();
    let open = || {
        Subject::new(Arc::new(EmbeddedEngine::open(&embedded_options(&directory)).unwrap()), None)
    };
    let subject = open();
    let large = fill(&subject, &mut model, 80_000).await;
    assert!(large > 100, "{large} values of 80 kB on a disk of 48 MiB");
    let reason = reason(&subject).await;
    assert!(reason.contains("disk is full") && !reason.contains("maximum"), "{reason}");
    subject.engine.health().expect("a full disk is no reason to stop for good");
    assert_equal(&subject, &model).await;
    drop(subject);
    let subject = open();
    assert_equal(&subject, &model).await;
    for number in 0..large / 2 {
        assert!(
            write(&subject, &mut model, format!("full/80000/{number:05}"), None).await,
            "deletions need no room"
        );
    }
    assert!(fill(&subject, &mut model, 60_000).await > 10, "what was deleted makes room");
    assert_equal(&subject, &model).await;
}
