//! Writes log lines through a bounded queue and a thread.
//!
//! Code that logs often runs on a thread that drives connections and must not wait for a terminal
//! or a pipe that nobody reads.
//!
//! - `LINES-1`: logging never waits. A line that finds the queue full is dropped and counted.
//! - `LINES-2`: the queue holds at most [`LINES_MAX`] lines and [`BYTES_MAX`] bytes.
//! - `LINES-3`: lines are written completely and in the order in which they were queued.
//!
//! Queued lines are lost when the process is killed. A process that ends normally calls
//! [`Lines::flush`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Metric: log lines dropped because the queue was full.
pub(in crate::telemetry) const LINES_DROPPED: &str = "triggers_log_lines_dropped_total";
const LINES_MAX: usize = 8_192;
const BYTES_MAX: usize = 8 << 20;

enum Message {
    Line(Vec<u8>),
    /// Write everything before this message, then answer.
    Flush(SyncSender<()>),
}

/// The sending end of the queue; cheap to clone.
#[derive(Clone)]
pub(in crate::telemetry) struct Lines {
    queue: SyncSender<Message>,
    /// Bytes now in the queue.
    queued_bytes: Arc<AtomicUsize>,
}

impl Lines {
    /// Starts the thread that writes to `sink`. The thread ends when the last clone is dropped.
    pub(in crate::telemetry) fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(LINES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let bytes = queued_bytes.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&lines, sink, &bytes))?;
        Ok(Self { queue, queued_bytes })
    }

    /// Waits up to `time` until all earlier lines are written.
    pub(in crate::telemetry) fn flush(&self, time: Duration) {
        let (done, written) = sync_channel(1);
        // A full queue means that the sink is stalled, so waiting is useless.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(time);
        }
    }

    /// Queues a line; false if the queue is full.
    fn push(&self, line: &[u8]) -> bool {
        let before = self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let is_queued = before + line.len() <= BYTES_MAX
            && self.queue.try_send(Message::Line(line.to_vec())).is_ok();
        if !is_queued {
            self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        }
        is_queued
    }
}

/// The log subscriber writes each line with one call.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.push(line) {
            metrics::counter!(LINES_DROPPED).increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(lines: &Receiver<Message>, mut sink: impl Write, queued_bytes: &AtomicUsize) {
    while let Ok(message) = lines.recv() {
        match message {
            Message::Line(line) => {
                // A failed write to standard error cannot be reported anywhere.
                let _ = sink.write_all(&line);
                queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Message::Flush(done) => {
                let _ = sink.flush();
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    /// A sink that writes one line for each message.
    struct Stalled {
        go_on: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means that the test has ended.
            let _ = self.go_on.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Lines, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (sender, go_on) = channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        (Lines::start(Stalled { go_on, written: written.clone() }).unwrap(), sender, written)
    }

    #[test]
    fn a_stalled_sink_blocks_no_caller() {
        let (lines, sender, written) = stalled();
        let queued = (0..LINES_MAX + 10)
            .filter(|number| lines.push(format!("{number}\n").as_bytes()))
            .count();
        // The thread may have received one line already.
        assert!((LINES_MAX..=LINES_MAX + 1).contains(&queued), "LINES-1, LINES-2: {queued}");
        lines.clone().write_all(b"dropped\n").unwrap();
        for _ in 0..queued {
            sender.send(()).unwrap();
        }
        // A flush does not wait while the queue is full, so wait for the thread to make room.
        for _ in 0..30_000 {
            if lines.queued_bytes.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        lines.flush(Duration::from_secs(30));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let expected: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(
            (expected.len(), expected[0].as_str(), expected[1].as_str()),
            (queued, "0", "1"),
            "LINES-3"
        );
        assert!(!text.contains("dropped"));
    }

    #[test]
    fn queued_bytes_are_bounded_and_released() {
        let (lines, sender, _) = stalled();
        assert!(lines.push(&vec![b'x'; BYTES_MAX]));
        assert!(!lines.push(b"more"), "LINES-2");
        lines.flush(Duration::ZERO);
        sender.send(()).unwrap();
        lines.flush(Duration::from_secs(30));
        assert!(lines.push(b"more"));
    }
}
