//! Reads the log back when the engine starts, into memtables.
//!
//! ```text
//! each segment: consecutive records of one generation ─▶ sorted by generation ─▶ one sequence
//! ```
//! Invariants:
//! - `RECOVERY-1`: every synced record is read back, in order, or the start fails.
//! - `RECOVERY-2`: an incomplete record at the end is cut. No complete record can follow it,
//!   because each record is synced before the next is written.
//! - `RECOVERY-3`: a complete record after an incomplete one, or a gap between segments, is damage.
//!   The start fails and changes nothing.
//! - `RECOVERY-4`: records are made durable before anybody sees them. The last one is written
//!   again, since after a failed sync another sync writes nothing. The block of a cut record is
//!   zeroed, so that the next start reads the same.
//!
//! Damage to the very last record cannot be distinguished from an incomplete write.

use super::base_store::{BaseStore, FlushMarks};
use super::committer::Committer;
use super::disk::{Disk, DiskFile, read_file, write_fully, write_zeros};
use super::engine_core::{EngineCore, LogOptions, LogState, Sealed};
use super::memtable::Memtable;
use super::record::{self, BLOCK_BYTES, RecordHeader};
use super::segment::{ActiveSegment, Segment, name_of, number_of};
use crate::kv::StoreError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Why a log cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecoveryError {
    #[error("{reason}")]
    Damaged { file: String, reason: String },
    #[error("{file}: {source}")]
    Io { file: String, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a start read back from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records that the data file did not have.
    pub records: u64,
    /// Total bytes of these records.
    pub bytes: u64,
    /// Number of segments that held them.
    pub segments: usize,
    /// File and offset of an incomplete record that was cut.
    pub cut: Option<(String, u64)>,
}

/// The records of one segment that the base store does not have.
struct SegmentRecords<F> {
    segment: Segment<F>,
    generation: u64,
    memtable: Memtable,
    /// Sequences of the first and the last of these records, and their number.
    first: u64,
    last: u64,
    records: u64,
    /// Offset behind the last record.
    end: u64,
    /// Bytes of the last record.
    tail: Bytes,
    is_cut: bool,
}

fn io_failed(file: &str) -> impl FnOnce(io::Error) -> RecoveryError + use<> {
    let file = file.to_owned();
    move |source| RecoveryError::Io { file, source }
}

/// Result of scanning a segment.
enum Scanned<F> {
    /// No record is missing in the base store; the generation is the segment's newest, the offset
    /// that of a cut record.
    Free {
        segment: Segment<F>,
        generation: u64,
        cut: Option<u64>,
    },
    Records(SegmentRecords<F>),
}

/// A log that was read and not yet changed.
pub(super) struct RecoveredLog<F> {
    /// Segments with records that the base store does not have, in log order.
    filled: Vec<SegmentRecords<F>>,
    free: Vec<Segment<F>>,
    /// Sequences of the last record in the base store, and of the last in the log.
    flushed: u64,
    last: u64,
    /// The highest generation of any segment.
    generation: u64,
    pub(super) recovered: RecoveryReport,
}

/// Reads a log without changing anything.
pub(super) fn read<D: Disk>(
    disk: &D,
    marks: FlushMarks,
    secret: u32,
) -> Result<RecoveredLog<D::File>, RecoveryError> {
    let flushed = marks.done;
    let mut names = disk.names().map_err(io_failed("the log"))?;
    names.retain(|name| number_of(name).is_some());
    names.sort();
    let mut log = RecoveredLog {
        filled: Vec::new(),
        free: Vec::new(),
        flushed,
        last: flushed,
        generation: 0,
        recovered: RecoveryReport::default(),
    };
    let mut free_cut = None;
    for name in names {
        let segment = Segment::open(disk, name.clone()).map_err(io_failed(&name))?;
        let bytes = read_file(&segment.file).map_err(io_failed(&name))?;
        match scan(segment, bytes.into(), flushed, secret)? {
            Scanned::Records(filled) => log.filled.push(filled),
            Scanned::Free { segment, generation, cut } => {
                log.generation = log.generation.max(generation);
                free_cut = free_cut.or(cut.map(|at| (segment.name.clone(), at)));
                log.free.push(segment);
            }
        }
    }
    log.filled.sort_by_key(|filled| filled.generation);
    log.check_order(free_cut.as_ref())?;
    if log.last < marks.begun {
        let reason = format!(
            "the log ends with record {}, but the data file has records up to {}",
            log.last, marks.begun
        );
        return Err(RecoveryError::Damaged { file: String::new(), reason });
    }
    let cut = log.filled.iter().find(|filled| filled.is_cut);
    let segment_cut = cut.map(|filled| (filled.segment.name.clone(), filled.end));
    log.generation = log.filled.last().map_or(0, |last| last.generation).max(log.generation);
    log.recovered = RecoveryReport {
        records: log.filled.iter().map(|filled| filled.records).sum(),
        bytes: log.filled.iter().map(|filled| filled.end).sum(),
        segments: log.filled.len(),
        cut: segment_cut.or(free_cut),
    };
    Ok(log)
}

impl<F: DiskFile> RecoveredLog<F> {
    /// Whether the log ends before `sequence`.
    #[cfg(test)]
    pub(super) fn is_shorter_than(&self, sequence: u64) -> bool {
        self.last < sequence
    }

    fn all(&self) -> impl Iterator<Item = &Segment<F>> {
        self.filled.iter().map(|filled| &filled.segment).chain(&self.free)
    }

    /// Number of segments, and their total bytes.
    pub(super) fn segments(&self) -> (usize, u64) {
        self.all().fold((0, 0), |(count, bytes), segment| (count + 1, bytes + segment.bytes))
    }

    fn number_max(&self) -> usize {
        self.all().filter_map(|segment| number_of(&segment.name)).max().unwrap_or(0)
    }

    /// Checks that no record is missing between segments (`RECOVERY-3`).
    fn check_order(&mut self, free_cut: Option<&(String, u64)>) -> Result<(), RecoveryError> {
        let mut before: Option<&SegmentRecords<F>> = None;
        for filled in &self.filled {
            if filled.first != self.last + 1 {
                // A cut record at a segment's beginning may be the missing one; otherwise it
                // followed the previous segment.
                let name = &filled.segment.name;
                let end = before.map(|before| (before.segment.name.clone(), before.end));
                let (file, offset) = free_cut.cloned().or(end).unwrap_or((name.clone(), 0));
                let (first, last) = (self.last + 1, filled.first.saturating_sub(1));
                let reason = format!(
                    "records {first} to {last} are missing at offset {offset}: {name} continues \
                     after them"
                );
                return Err(RecoveryError::Damaged { file, reason });
            }
            self.last = filled.last;
            before = Some(filled);
        }
        Ok(())
    }
}

/// Whether a record follows the last one of its segment, or may be the first.
fn continues(first: Option<RecordHeader>, last: u64, header: &RecordHeader) -> bool {
    first.is_none_or(|first| header.generation == first.generation && header.sequence == last + 1)
}

fn scan<F: DiskFile>(
    segment: Segment<F>,
    bytes: Bytes,
    flushed: u64,
    secret: u32,
) -> Result<Scanned<F>, RecoveryError> {
    let damaged = |at: usize, what: &str| RecoveryError::Damaged {
        file: segment.name.clone(),
        reason: format!("the record at offset {at} {what}"),
    };
    let memtable = Memtable::default();
    let (mut at, mut records, mut last) = (0, 0, 0);
    let mut first: Option<RecordHeader> = None;
    let mut tail = Bytes::new();
    // Records in the base store are not checked: later ones may have overwritten them.
    while let Some(header) = bytes.get(at..).and_then(|rest| record::decode(rest, secret)) {
        if !continues(first, last, &header) {
            break;
        }
        first = first.or(Some(header));
        last = header.sequence;
        if header.version != record::VERSION {
            let (found, read) = (header.version, record::VERSION);
            let what = format!("has format version {found}; this program reads version {read}");
            return Err(damaged(at, &what));
        }
        if header.sequence > flushed {
            let record = bytes.slice(at..at + header.record_bytes());
            let pairs = record::pairs(&record, &header)
                .ok_or_else(|| damaged(at, "has a body that contradicts its header"))?;
            memtable.apply(header.sequence, pairs, &[]);
            tail = record;
            records += 1;
        }
        at += header.record_bytes();
    }
    let newest = last.max(flushed);
    for block in (at..bytes.len()).step_by(BLOCK_BYTES).skip(1) {
        let behind = record::peek(&bytes[block..]).filter(|header| header.sequence > newest);
        if behind.is_some() && record::decode(&bytes[block..], secret).is_some() {
            let what =
                format!("is damaged: complete records follow it, the next at offset {block}");
            return Err(damaged(at, &what));
        }
    }
    let is_expected =
        |header: RecordHeader| header.sequence > flushed && continues(first, last, &header);
    let is_cut = bytes.get(at..).and_then(record::peek).is_some_and(is_expected);
    let generation = first.map_or(0, |first| first.generation);
    let end = at as u64;
    let Some(first) = first.filter(|_| records > 0) else {
        return Ok(Scanned::Free { segment, generation, cut: is_cut.then_some(end) });
    };
    let first = first.sequence.max(flushed + 1);
    let found =
        SegmentRecords { segment, generation, memtable, first, last, records, end, tail, is_cut };
    Ok(Scanned::Records(found))
}

/// A log that is ready for commits.
pub(super) struct OpenedLog<D: Disk, B: BaseStore> {
    pub(super) core: Arc<EngineCore<D, B>>,
    pub(super) committer: Committer<D, B>,
    pub(super) recovered: RecoveryReport,
}

/// Reads a log back and makes it ready for commits.
pub(super) fn open<D: Disk, B: BaseStore>(
    disk: D,
    base: B,
    options: LogOptions,
    secret: u32,
) -> Result<OpenedLog<D, B>, RecoveryError> {
    let mut log = read(&disk, base.marks()?, secret)?;
    // Make the records durable (`RECOVERY-4`).
    for filled in &log.filled {
        let SegmentRecords { segment, end, tail, .. } = filled;
        if filled.last == log.last {
            write_fully(&segment.file, tail, end - tail.len() as u64)
                .map_err(io_failed(&segment.name))?;
        }
        if filled.is_cut {
            write_zeros(&segment.file, *end, BLOCK_BYTES as u64)
                .map_err(io_failed(&segment.name))?;
        }
        segment.file.sync().map_err(io_failed(&segment.name))?;
    }
    if let Some((name, at)) = &log.recovered.cut
        && let Some(segment) = log.free.iter().find(|segment| segment.name == *name)
    {
        write_zeros(&segment.file, *at, BLOCK_BYTES as u64).map_err(io_failed(name))?;
        segment.file.sync().map_err(io_failed(name))?;
    }
    let (free, others): (Vec<_>, _) =
        log.free.into_iter().partition(|free| free.bytes == options.segment_bytes);
    log.free = free;
    for segment in others {
        disk.remove(&segment.name).map_err(io_failed(&segment.name))?;
    }
    let is_new = log.free.is_empty();
    let number_max = log.number_max() + usize::from(is_new);
    let segments = log.filled.len() + log.free.len() + usize::from(is_new);
    let active = match log.free.pop() {
        Some(segment) => segment,
        None => {
            let name = name_of(number_max);
            let file = disk.create(&name, options.segment_bytes).map_err(io_failed(&name))?;
            Segment { name, file, bytes: options.segment_bytes }
        }
    };
    let sealed = log
        .filled
        .into_iter()
        .map(|filled| Sealed { memtable: Arc::new(filled.memtable), segment: filled.segment });
    let state = LogState {
        active: Arc::default(),
        view: Arc::default(),
        visible: log.last,
        ordered: log.last,
        readers: BTreeMap::new(),
        sealed: sealed.collect(),
        free: log.free,
        segments,
        number_max,
        dropped: log.flushed,
        is_closing: false,
    };
    let core = Arc::new(EngineCore::new(disk, base, options, state));
    let committer =
        Committer::new(core.clone(), ActiveSegment::new(active, log.generation + 1), secret);
    Ok(OpenedLog { core, committer, recovered: log.recovered })
}
