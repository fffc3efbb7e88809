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
    let mut rest = KeyRange::prefix(prefix.to_owned());
    let mut pairs = Vec::new();
    loop {
        let read = RangeRead::first(rest.clone(), 1_000);
        let page = open.range_snapshot(read).await.unwrap();
        for (key, value) in &page.pairs {
            rest.begin = KeyRange::key(key).end;
            pairs.push((String::from_utf8(key.to_vec()).unwrap(), value.to_vec()));
        }
        if !page.more {
            return pairs;
        }
    }
}
