//! The way of log lines out of the process: a queue, and a thread that writes what is in it.
//!
//! Whoever logs is in the middle of something else, often on a thread that drives connections, and must not wait for a
//! terminal or a pipe that nobody reads. Invariants: `LINES-1` logging never waits: a line that finds the queue full is
//! dropped and counted; `LINES-2` the queue holds at most [`LINES_MAX`] lines and [`BYTES_MAX`] bytes; `LINES-3` lines come
//! out whole and in the order in which they went in. What is in the queue when the process is killed is lost; a process
//! that ends by itself waits for it with [`Lines::flush`].

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// The metric of dropped lines.
pub(in crate::telemetry) const LINES_DROPPED: &str = "triggers_log_lines_dropped_total";
const LINES_MAX: usize = 8_192;
const BYTES_MAX: usize = 8 << 20;

enum Message {
    Line(Vec<u8>),
    /// Everything before it is to be written; its sender waits for the answer.
    Flush(SyncSender<()>),
}

/// The end of the queue that takes lines; cheap to clone.
#[derive(Clone)]
pub(in crate::telemetry) struct Lines {
    queue: SyncSender<Message>,
    /// Bytes in the queue.
    queued_bytes: Arc<AtomicUsize>,
}

impl Lines {
    /// Starts the thread that writes to `sink`. It ends when the last of these is dropped.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(in crate::telemetry) fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(LINES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let bytes = queued_bytes.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(&lines, sink, &bytes))?;
        Ok(Self { queue, queued_bytes })
    }

    /// Waits until what was logged before is written, but no longer than `time`.
    pub(in crate::telemetry) fn flush(&self, time: Duration) {
        let (done, written) = sync_channel(1);
        // A full queue is one that is not being written: there is no use in waiting for it.
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(time);
        }
    }

    /// Whether the line went into the queue.
    fn push(&self, line: &[u8]) -> bool {
        let before = self.queued_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let is_in = before + line.len() <= BYTES_MAX
            && self.queue.try_send(Message::Line(line.to_vec())).is_ok();
        if !is_in {
            self.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
        }
        is_in
    }
}

/// The subscriber writes each line with one call.
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
                // There is nowhere to complain to when the log cannot be written.
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

    /// A sink that takes a line when it is told to.
    struct Stalled {
        go_on: Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test has gone when this fails, and with it the interest in what is written.
            let _ = self.go_on.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Lines, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (tell, go_on) = channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        (Lines::start(Stalled { go_on, written: written.clone() }).unwrap(), tell, written)
    }

    #[test]
    fn a_sink_that_takes_nothing_stops_nobody() {
        let (lines, tell, written) = stalled();
        let queued = (0..LINES_MAX + 10)
            .filter(|number| lines.push(format!("{number}\n").as_bytes()))
            .count();
        // One of them may be with the thread already.
        assert!((LINES_MAX..=LINES_MAX + 1).contains(&queued), "LINES-1, LINES-2: {queued}");
        lines.clone().write_all(b"dropped\n").unwrap();
        for _ in 0..queued {
            tell.send(()).unwrap();
        }
        // A flush does not wait while the queue is full, and it is full until the thread has gone on.
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
    fn bytes_are_bounded_too_and_come_back() {
        let (lines, tell, _) = stalled();
        assert!(lines.push(&vec![b'x'; BYTES_MAX]));
        assert!(!lines.push(b"more"), "LINES-2");
        lines.flush(Duration::ZERO);
        tell.send(()).unwrap();
        lines.flush(Duration::from_secs(30));
        assert!(lines.push(b"more"));
    }
}
