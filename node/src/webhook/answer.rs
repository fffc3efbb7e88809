//! Reads the answers of endpoints from a connection, by RFC 9112.
//!
//! - `ANSWER-READER-1`: the first status line that is not informational is the answer. Nothing that
//!   follows it can make the answer an error.
//! - `ANSWER-READER-2`: a connection is said to be reusable only if exactly one answer was read
//!   from it, its end is beyond doubt, and the endpoint has announced no close.
//! - `ANSWER-READER-3`: before the body at most [`HEAD_BYTES_MAX`] are read, whatever they are.
//!
//! The reader accepts what real servers send and the RFC tolerates: folded header lines, white
//! space before the colon, bare line feeds, empty lines before the status, any number of fields. It
//! has no deadlines; the sender drops it in time.

use std::pin::Pin;
use std::task::{Context, Waker};
use tokio::io::{AsyncBufRead as _, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// Bytes of an answer before its body, with all informational answers.
pub(super) const HEAD_BYTES_MAX: usize = 65_536;
/// Read buffer in bytes, enough for the head of most answers.
const BUFFER_BYTES: usize = 2_048;

/// How every status line begins, up to the minor version.
const VERSION: &[u8] = b"HTTP/1.";
/// Header fields that matter, and the places of their values in [`Fields`].
const NAMES: [&str; 4] = ["content-length", "transfer-encoding", "connection", "retry-after"];
const RETRY_AFTER: usize = 3;

/// Reads the answers of one connection.
#[derive(Debug)]
pub(super) struct AnswerReader<R> {
    input: BufReader<R>,
    /// The last line that was read, without its end.
    line: Vec<u8>,
    /// Bytes that may still be read.
    bytes_left: usize,
    fields: Fields,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// Not one byte of an answer came.
    #[error("the connection ended before the answer")]
    Nothing,
    /// The connection ended in the middle of a status line, or after an informational answer.
    #[error("the connection ended before the answer")]
    Incomplete,
    /// Something else came in place of a status line.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// There is no status within [`HEAD_BYTES_MAX`].
    #[error("the head of the answer is too large")]
    TooLarge,
}

/// The status line of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) status: u16,
    /// HTTP/1.1 or a later minor version: the connection persists unless a field says otherwise.
    is_persistent: bool,
}

/// The combined values of the fields in [`NAMES`].
#[derive(Debug, Default)]
struct Fields {
    values: [String; NAMES.len()],
    /// The field that a folded line continues.
    last: Option<usize>,
    is_malformed: bool,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    /// The fields contradict each other.
    Unknown,
}

/// The connection broke, ended or exceeded its bound after the status.
#[derive(Debug)]
struct Broken;

impl<R: AsyncRead + Unpin> AnswerReader<R> {
    pub(super) fn new(input: R) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        Self { input, line: Vec::new(), bytes_left: 0, fields: Fields::default() }
    }

    /// Reads up to the end of the status line of the answer and skips informational answers.
    pub(super) async fn status(&mut self) -> Result<StatusLine, NoAnswer> {
        (self.bytes_left, self.fields) = (HEAD_BYTES_MAX, Fields::default());
        let mut nothing_yet = NoAnswer::Nothing;
        loop {
            let end = self.line().await;
            // An empty line is left of the answer before (RFC 9112, section 2.2).
            if end.is_ok() && self.line.is_empty() {
                continue;
            }
            let Some(line) = StatusLine::parse(&self.line) else {
                let start = &self.line[..self.line.len().min(VERSION.len())];
                return Err(match end {
                    Err(Broken) if VERSION.starts_with(start) => match self.bytes_left {
                        0 => NoAnswer::TooLarge,
                        _ if start.is_empty() => nothing_yet,
                        _ => NoAnswer::Incomplete,
                    },
                    Ok(()) | Err(Broken) => NoAnswer::NotHttp,
                });
            };
            // 101 ends what HTTP can say on this connection, so it is an answer.
            if !matches!(line.status, 100 | 102..=199) {
                return Ok(line);
            }
            nothing_yet = NoAnswer::Incomplete;
            while self.line().await.is_ok() && !self.line.is_empty() {}
        }
    }

    /// Reads the rest of the answer, at most `body_bytes_max` of its body. True if the connection
    /// can be used for another request.
    pub(super) async fn finish(&mut self, line: StatusLine, body_bytes_max: usize) -> bool {
        let is_reusable = self.rest(line, body_bytes_max).await.unwrap_or(false);
        self.line = Vec::new();
        is_reusable && self.input.buffer().is_empty()
    }

    async fn rest(&mut self, line: StatusLine, body_bytes_max: usize) -> Result<bool, Broken> {
        loop {
            self.line().await?;
            if self.line.is_empty() {
                break;
            }
            self.fields.add(&self.line);
        }
        self.bytes_left = body_bytes_max;
        match self.fields.framing(line.status) {
            Framing::Length(bytes) => self.skip(bytes).await?,
            Framing::Chunked => self.skip_chunks().await?,
            // Reading to the end lets the endpoint finish its answer undisturbed.
            Framing::UntilClose => return self.skip(body_bytes_max).await.map(|()| false),
            Framing::Unknown => return Ok(false),
        }
        Ok(line.is_persistent && !self.fields.is_malformed && !self.fields.is_closing())
    }

    /// The value of `Retry-After`, as far as the answer has been read.
    pub(super) fn retry_after(&self) -> &str {
        &self.fields.values[RETRY_AFTER]
    }

    /// Whether an idle connection is still open and nothing has come over it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut self.input).poll_fill_buf(&mut context).is_pending()
    }

    /// Reads the next line. At the end of the input or of the bound, `line` is what came so far.
    async fn line(&mut self) -> Result<(), Broken> {
        self.line.clear();
        let mut bounded = (&mut self.input).take(self.bytes_left as u64);
        let result = bounded.read_until(b'\n', &mut self.line).await;
        self.bytes_left -= self.line.len();
        result.map_err(|_| Broken)?;
        self.line.pop_if(|last| *last == b'\n').ok_or(Broken)?;
        self.line.pop_if(|last| *last == b'\r');
        Ok(())
    }

    async fn skip(&mut self, mut bytes: usize) -> Result<(), Broken> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Broken)?;
        while bytes > 0 {
            let available = self.input.fill_buf().await.map_err(|_| Broken)?.len().min(bytes);
            if available == 0 {
                return Err(Broken);
            }
            self.input.consume(available);
            bytes -= available;
        }
        Ok(())
    }

    async fn skip_chunks(&mut self) -> Result<(), Broken> {
        loop {
            self.line().await?;
            let size = self.line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size.trim_ascii()).map_err(|_| Broken)?;
            let is_hexadecimal = size.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(size, 16).ok().filter(|_| is_hexadecimal);
            match size.ok_or(Broken)? {
                // Trailers end like fields, with an empty line.
                0 => loop {
                    self.line().await?;
                    if self.line.is_empty() {
                        return Ok(());
                    }
                },
                size => self.skip(size).await?,
            }
            self.line().await?;
            if !self.line.is_empty() {
                return Err(Broken);
            }
        }
    }
}

impl StatusLine {
    /// Reads `HTTP/1.1 200 OK`, of which the reason may be missing.
    fn parse(line: &[u8]) -> Option<Self> {
        let (minor, rest) = line.strip_prefix(VERSION)?.split_first()?;
        let (code, reason) =
            rest.strip_prefix(b" ")?.trim_ascii_start().split_first_chunk::<3>()?;
        let is_code = code.iter().all(u8::is_ascii_digit) && code[0] != b'0';
        let is_apart = reason.first().is_none_or(u8::is_ascii_whitespace);
        let status =
            code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0')));
        let line = Self { status, is_persistent: *minor != b'0' };
        (minor.is_ascii_digit() && is_code && is_apart).then_some(line)
    }
}

impl Fields {
    fn add(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let is_folded = line.starts_with([' ', '\t']);
        let mut value = &*line;
        if !is_folded {
            let Some((name, rest)) = line.split_once(':') else {
                (self.last, self.is_malformed) = (None, true);
                return;
            };
            value = rest;
            let name = name.trim_end();
            self.last = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        }
        let Some(known) = self.last else { return };
        let combined = &mut self.values[known];
        if !is_folded && !combined.is_empty() {
            // Of several waits the first counts; the others are lists.
            if known == RETRY_AFTER {
                self.last = None;
                return;
            }
            combined.push(',');
        } else if is_folded {
            combined.push(' ');
        }
        combined.push_str(value.trim());
    }

    fn framing(&self, status: u16) -> Framing {
        let [length, coding, ..] = &self.values;
        let has_length = !length.is_empty();
        match (status, coding.trim()) {
            (204 | 304, "") if matches!(length.trim(), "" | "0") => Framing::Length(0),
            (101 | 204 | 304, _) => Framing::Unknown,
            (_, "") if has_length => {
                let mut lengths = length.split(',').map(str::trim);
                let first = lengths.next().unwrap_or_default();
                let is_number = first.bytes().all(|byte| byte.is_ascii_digit());
                let bytes =
                    first.parse().ok().filter(|_| is_number && lengths.all(|other| other == first));
                bytes.map_or(Framing::Unknown, Framing::Length)
            }
            (_, "") => Framing::UntilClose,
            (_, coding) if !has_length && coding.eq_ignore_ascii_case("chunked") => {
                Framing::Chunked
            }
            (_, _) => Framing::Unknown,
        }
    }

    fn is_closing(&self) -> bool {
        self.values[2].split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests;
