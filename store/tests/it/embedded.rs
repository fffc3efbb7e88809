//! What only the embedded engine guarantees: durable files, rejected directories, full disks.
//!
//! Every test has a directory of its own. Tests that kill or limit a process start this test binary
//! again with the name of one test; see `children.rs`.

mod children;
mod copies;
mod crash;
mod files;
mod full;
mod pipeline;

use crate::subject::{Subject, embedded_options};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use triggers_store::kv::embedded::EmbeddedEngine;
use triggers_store::kv::{KeyRange, RangeRead};

fn open(directory: &Path) -> Arc<EmbeddedEngine> {
    Arc::new(EmbeddedEngine::open(&embedded_options(directory)).unwrap())
}

fn subject(directory: &Path) -> Subject {
    Subject::new(open(directory), None)
}

/// Reads all pairs whose key starts with `prefix`.
async fn pairs(subject: &Subject, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut open = subject.begin().await;
    let mut next = Some(RangeRead::first(KeyRange::prefix(prefix.to_owned()), 1_000));
    let mut pairs = Vec::new();
    while let Some(read) = next {
        let page = open.range_snapshot(read.clone()).await.unwrap();
        next = read.after(&page);
        let name = |key: Bytes| String::from_utf8(key.to_vec()).unwrap();
        pairs.extend(page.pairs.into_iter().map(|(key, value)| (name(key), value.to_vec())));
    }
    pairs
}
