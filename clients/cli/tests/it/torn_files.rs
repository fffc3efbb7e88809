//! Tests of data files after a power failure: the node opens torn files, and rejects damaged ones.
//!
//! The embedded engine appends a record to its log, syncs it, and answers. Later it writes new
//! pages of the data file, syncs them, and publishes them by writing one page at the start of the
//! file. A power failure can therefore leave arbitrary bytes after the end of the log or of the
//! data file. It can also leave any contents in the lock file, which is never synced.
//!
//! - TORN-1: regardless of the bytes after the committed part, every answered event exists
//!   unchanged, the count is correct, and new events survive the next kill.
//! - TORN-2: a store that lost committed pages or has an unknown format is rejected with exit code
//!   4 and a message that names it.
//! - TORN-3: a log that is damaged before its end is rejected with the file and the offset, and is
//!   not modified.
//!
//! No power failure damages committed pages, so that is not tested.

use crate::harness::payload::{payload, size_bytes};
use crate::harness::random::{Random, Seed};
use crate::harness::{Client, Node, listing};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const VARIANTS: u64 = 15;
const EVENTS: u64 = 60;
const PAGE_BYTES: u64 = 4_096;

/// Offsets, in a page at the start of the data file, of the last used page and the transaction.
const LAST_PAGE_AT: usize = 136;
const TRANSACTION_AT: usize = 144;

/// Offsets in the header of a log record, and the length of the header.
const SEQUENCE_AT: usize = 16;
const BODY_BYTES_AT: usize = 24;
const HEADER_BYTES: usize = 32;

/// The directory of a killed node, and the events that it had accepted.
struct KilledNode {
    directory: TempDir,
    answered: Vec<(String, String)>,
}

/// Posts events of all sizes, waits for the answers, and kills the node.
async fn killed_node(random: &mut Random) -> KilledNode {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut node = Node::start(directory.path(), &[]).await;
    let client = node.client();
    let mut answered = Vec::new();
    for number in 0..EVENTS {
        answered.push(accept(&client, random, number).await);
    }
    node.kill_hard();
    KilledNode { directory, answered }
}

async fn accept(client: &Client, random: &mut Random, number: u64) -> (String, String) {
    let size_bytes = size_bytes(random);
    let payload = payload(random, &number.to_string(), size_bytes);
    (client.accepted("torn.written", &payload).await, payload)
}

/// TORN-1: checks that the listing is exactly `answered`.
async fn assert_complete(client: &Client, answered: &[(String, String)]) {
    let listing = listing::all(client, "limit=200").await;
    assert_eq!(listing.total_count, answered.len() as u64, "TORN-1: the count");
    let listed: Vec<_> =
        listing.events.iter().map(|event| (event.event_id.as_str(), event.payload.get())).collect();
    let expected: Vec<_> =
        answered.iter().map(|(id, payload)| (id.as_str(), payload.as_str())).collect();
    assert_eq!(listed.len(), expected.len(), "TORN-1: as many as were answered");
    for (listed, expected) in listed.iter().zip(&expected) {
        assert_eq!(listed, expected, "TORN-1: in order, byte for byte");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_the_committed_part_is_harmless() {
    let seed = Seed::choose();
    let mut random = seed.stream(0);
    let quiet = killed_node(&mut random).await;
    for variant in 0..VARIANTS {
        let mut answered = quiet.answered.clone();
        let copy = copy(quiet.directory.path());
        tear(copy.path(), variant, &mut random);
        tear_log(copy.path(), variant, &mut random);
        let mut node = Node::start(copy.path(), &[]).await;
        let client = node.client();
        assert_complete(&client, &answered).await;
        for number in 0..random.between(1, 8) {
            answered.push(accept(&client, &mut random, EVENTS + number).await);
        }
        node.kill_hard();
        // New pages have replaced the torn transaction; tear the files a second time.
        tear(copy.path(), variant + 1, &mut random);
        tear_log(copy.path(), variant + 1, &mut random);
        let node = Node::start(copy.path(), &[]).await;
        assert_complete(&node.client(), &answered).await;
    }
}

/// Simulates a power failure during a write of the data file: arbitrary bytes after the committed
/// part, and arbitrary contents of the lock file.
fn tear(directory: &Path, variant: u64, random: &mut Random) {
    let data = find(directory, "data.mdb");
    let mut file = OpenOptions::new().write(true).open(&data).expect("the data file opens");
    let (used_bytes, whole_bytes) = (used_bytes(&data), length_bytes(&data));
    let reserved_bytes = whole_bytes.saturating_sub(used_bytes);
    let (at_bytes, torn_bytes) = match variant % 5 {
        0 => (whole_bytes, random.between(1, PAGE_BYTES - 1)),
        1 => (used_bytes, PAGE_BYTES * random.between(1, 64)),
        2 => (used_bytes + random.between(0, reserved_bytes), random.between(PAGE_BYTES, 300_000)),
        3 => (used_bytes, reserved_bytes + random.between(1, 100_000)),
        _ => {
            // The new length of the file was not yet durable.
            file.set_len(used_bytes + random.between(0, reserved_bytes))
                .expect("the data file shrinks");
            (used_bytes, 0)
        }
    };
    let mut torn = random.bytes(torn_bytes as usize);
    if random.one_in(4) {
        torn.fill(0);
    }
    file.seek(SeekFrom::Start(at_bytes)).expect("the place is in reach");
    file.write_all(&torn).expect("the data file can be written");
    let lock = directory_of(directory, "data.mdb").join("lock.mdb");
    match variant % 3 {
        0 if lock.exists() => fs::remove_file(lock).expect("the lock file goes"),
        1 if lock.exists() => drop(File::create(lock).expect("the lock file empties")),
        _ => {}
    }
}

/// Simulates a power failure during a write of the log: after the records of each segment there is
/// the start of a record, other bytes, or nothing.
fn tear_log(directory: &Path, variant: u64, random: &mut Random) {
    for segment in segments(directory) {
        let records = records(&segment);
        let end_bytes = records.last().map_or(0, |(at, length)| at + length);
        let mut torn = match (variant % 3, records.last()) {
            (0, Some((at, _))) => {
                fs::read(&segment).expect("the segment is readable")[*at as usize..][..512].to_vec()
            }
            _ => {
                let bytes = random.between(1, 3 * PAGE_BYTES) as usize;
                random.bytes(bytes)
            }
        };
        if let (0, Some(sequence)) = (variant % 3, torn.get_mut(SEQUENCE_AT)) {
            *sequence = sequence.wrapping_add(1);
        }
        if variant % 3 == 2 {
            torn.clear();
        }
        let mut file = OpenOptions::new().write(true).open(&segment).expect("the segment opens");
        file.seek(SeekFrom::Start(end_bytes)).expect("the place is in reach");
        file.write_all(&torn).expect("the segment can be written");
    }
}

/// The segment files of the log.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let log = directory_of(directory, "FORMAT").join("wal");
    let entries = fs::read_dir(log).expect("there is a log");
    let mut segments: Vec<_> =
        entries.map(|entry| entry.expect("the log is readable").path()).collect();
    segments.sort();
    segments
}

/// Offset and length of each record of a segment.
fn records(segment: &Path) -> Vec<(u64, u64)> {
    let bytes = fs::read(segment).expect("the segment is readable");
    let (mut at, mut records) = (0, Vec::new());
    while bytes.get(at..at + 4) == Some(b"TrL\x01") {
        let body =
            u32::from_le_bytes(bytes[at + BODY_BYTES_AT..][..4].try_into().expect("four bytes"));
        let length = (HEADER_BYTES + body as usize).next_multiple_of(PAGE_BYTES as usize);
        records.push((at as u64, length as u64));
        at += length;
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_damaged_before_its_end_is_rejected() {
    let seed = Seed::choose();
    let mut random = seed.stream(0);
    let quiet = killed_node(&mut random).await;
    for _ in 0..6 {
        let copy = copy(quiet.directory.path());
        let segments = segments(copy.path());
        let segment = segments
            .iter()
            .max_by_key(|segment| records(segment).len())
            .expect("there is a segment");
        let records = records(segment);
        assert!(records.len() > 10, "what was answered is in the log: {} records", records.len());
        let (at, length) = records[random.between(0, records.len() as u64 - 2) as usize];
        let mut damaged = fs::read(segment).expect("the segment is readable");
        let byte = at + random.between(0, length - 1);
        damaged[byte as usize] ^= 0x55;
        fs::write(segment, &damaged).expect("the segment can be written");
        let failed = Node::run_to_failure(copy.path(), &[]).await;
        assert_eq!(failed.code, 4, "TORN-3: {failed:?}");
        let name = segment.file_name().expect("it has a name").to_string_lossy().into_owned();
        for part in [&name[..], &format!("offset {at} "), "backup"] {
            assert!(failed.stderr.contains(part), "TORN-3: {part} is not in {failed:?}");
        }
        assert!(
            fs::read(segment).expect("the segment is readable") == damaged,
            "TORN-3: it was changed"
        );
    }
}

fn length_bytes(file: &Path) -> u64 {
    fs::metadata(file).expect("the data file is there").len()
}

/// Length of the committed part: up to the last used page, as recorded in the newer of the two
/// pages at the start. The file has reserved space after it.
fn used_bytes(data: &Path) -> u64 {
    let mut head = [0; 2 * PAGE_BYTES as usize];
    File::open(data)
        .and_then(|mut file| file.read_exact(&mut head))
        .expect("the data file has a head");
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let pages = [0, PAGE_BYTES as usize]
        .map(|page| (number(page + TRANSACTION_AT), number(page + LAST_PAGE_AT)));
    let (_, last_page) = pages.into_iter().max().expect("there are two");
    (last_page + 1) * PAGE_BYTES
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_committed_part_is_rejected() {
    let seed = Seed::choose();
    let mut random = seed.stream(0);
    let quiet = killed_node(&mut random).await;
    // After a regular stop all data is in the data file.
    let mut node = Node::start(quiet.directory.path(), &[]).await;
    assert_eq!(node.terminate().await, 0);
    let data = find(quiet.directory.path(), "data.mdb");
    let used_bytes = used_bytes(&data);
    assert!(
        (PAGE_BYTES * 10..=length_bytes(&data)).contains(&used_bytes),
        "the used pages were read correctly: {used_bytes}"
    );
    let anywhere_bytes = random.between(PAGE_BYTES * 3, used_bytes - PAGE_BYTES);
    let cuts_bytes = [
        0,
        100,
        PAGE_BYTES * 2,
        used_bytes / 2,
        anywhere_bytes,
        used_bytes - PAGE_BYTES,
        used_bytes - 1,
    ];
    for cut_bytes in cuts_bytes {
        let copy = copy(quiet.directory.path());
        let file = OpenOptions::new()
            .write(true)
            .open(find(copy.path(), "data.mdb"))
            .expect("the data file opens");
        file.set_len(cut_bytes).expect("the data file shrinks");
        assert_rejected(copy.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_format_is_rejected() {
    let seed = Seed::choose();
    let quiet = killed_node(&mut seed.stream(0)).await;
    let original =
        fs::read(find(quiet.directory.path(), "FORMAT")).expect("the format file is there");
    for contents in [None, Some("99999\n"), Some("not a format"), Some("")] {
        let copy = copy(quiet.directory.path());
        let format = find(copy.path(), "FORMAT");
        match contents {
            None => fs::remove_file(&format).expect("the format file goes"),
            Some(text) => fs::write(&format, text).expect("the format file changes"),
        }
        assert_rejected(copy.path()).await;
        // A rejected store is not modified: with the correct format it opens again.
        fs::write(&format, &original).expect("the format file comes back");
        let node = Node::start(copy.path(), &[]).await;
        assert_complete(&node.client(), &quiet.answered).await;
    }
}

/// TORN-2: checks that the node rejects the store.
async fn assert_rejected(directory: &Path) {
    let failed = Node::run_to_failure(directory, &[]).await;
    assert_eq!(failed.code, 4, "TORN-2: {failed:?}");
    let shown = directory.to_string_lossy().into_owned();
    assert!(failed.stderr.contains(&shown), "TORN-2: the message names the store: {failed:?}");
}

/// Copies a directory recursively.
fn copy(directory: &Path) -> TempDir {
    let target = tempfile::tempdir().expect("a temporary directory can be made");
    copy_into(directory, target.path());
    target
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("the directory is readable") {
        let entry = entry.expect("the directory is readable");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("a directory can be made");
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file can be copied");
        }
    }
}

/// The only file with this name below `directory`.
fn find(directory: &Path, name: &str) -> PathBuf {
    directory_of(directory, name).join(name)
}

fn directory_of(directory: &Path, name: &str) -> PathBuf {
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        if directory.join(name).is_file() {
            return directory;
        }
        let entries = fs::read_dir(&directory).expect("the directory is readable");
        waiting.extend(
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()),
        );
    }
    panic!("no {name} under {}", directory.display());
}
