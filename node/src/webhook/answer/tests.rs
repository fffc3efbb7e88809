//! Answers of every form: which status they have, and whether their connection can be used again.

use super::*;
use futures_util::FutureExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, duplex};

const BODY_BYTES_MAX: usize = 1_000;

/// What a connection that carries exactly `bytes` and then ends says: the answer, the value of
/// `Retry-After` and whether the connection can be used again.
fn read(bytes: &[u8]) -> Result<(u16, String, bool), NoAnswer> {
    let mut reader = AnswerReader::new(bytes);
    let exchange = async {
        let line = reader.status().await?;
        let is_reusable = reader.finish(line, BODY_BYTES_MAX).await;
        Ok((line.status, reader.retry_after().to_owned(), is_reusable))
    };
    exchange.now_or_never().expect("bytes in memory are ready")
}

#[test]
fn ordinary_answers_leave_a_reusable_connection() {
    for rest in [
        "200 OK\r\ncontent-length: 2\r\n\r\nok",
        "200 \r\nContent-Length:0\r\n\r\n",
        "204 No Content\r\n\r\n",
        "204 No Content\r\ncontent-length: 0\r\n\r\n",
        "304 Not Modified\r\n\r\n",
        "500 No\r\ncontent-length: 2, 2\r\ncontent-length: 2\r\n\r\nok",
        "200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;a=b\r\nok\r\n009 \r\n012345678\r\n0\r\n\r\n",
        "200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\ntrailer: 1\r\n\r\n",
        "200 OK\ncontent-length : 2\nfolded: 1\n\t2\n\nok",
        "200 OK\r\ncontent-length:\r\n 2\r\nconnection: keep-alive\r\n\r\nok",
        "200\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (status, _, is_reusable) = read(format!("HTTP/1.1 {rest}").as_bytes()).unwrap();
        assert_eq!(status.to_string(), rest[..3], "ANSWER-READER-1: {rest:?}");
        assert!(is_reusable, "ANSWER-READER-2: {rest:?}");
    }
}

#[test]
fn an_odd_answer_counts_but_ends_its_connection() {
    for answer in [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok, and more",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nno field\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: Keep-Alive, Close\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\nconnection: TE\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nmore",
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\n\r\nok",
    ] {
        let (status, _, is_reusable) = read(answer.as_bytes()).unwrap();
        assert_eq!(status.to_string(), answer[9..12], "ANSWER-READER-1: {answer:?}");
        assert!(!is_reusable, "ANSWER-READER-2: {answer:?}");
    }
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    let bytes = [large.as_bytes(), &[b'x'; BODY_BYTES_MAX + 1]].concat();
    assert_eq!(read(&bytes), Ok((200, String::new(), false)), "ANSWER-READER-2");
    let open = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; BODY_BYTES_MAX]].concat();
    assert_eq!(read(&open), Ok((200, String::new(), false)), "ANSWER-READER-2");
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(20_000));
    assert_eq!(read(fields.as_bytes()), Ok((200, String::new(), false)), "ANSWER-READER-3");
}

#[test]
fn anything_else_is_no_answer() {
    let endless = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n".repeat(2_000);
    let blank = "\r\n".repeat(40_000);
    let line = format!("HTTP/1.1 2{}", "0".repeat(70_000));
    for (bytes, expected) in [
        ("", NoAnswer::Nothing),
        ("\r\n", NoAnswer::Nothing),
        ("H", NoAnswer::Incomplete),
        ("HTTP/1.1 20", NoAnswer::Incomplete),
        ("HTTP/1.1 100 Continue\r\n\r\n", NoAnswer::Incomplete),
        ("hello", NoAnswer::NotHttp),
        ("helloHTTP/1.1 200 OK\r\n\r\n", NoAnswer::NotHttp),
        ("HTTP/2 200\r\n\r\n", NoAnswer::NotHttp),
        ("HTTP/1.1 20\r\n\r\n", NoAnswer::NotHttp),
        ("HTTP/1.1 2000 OK\r\n\r\n", NoAnswer::NotHttp),
        ("HTTP/1.1 +20 OK\r\n\r\n", NoAnswer::NotHttp),
        ("HTTP/1.1 099 OK\r\n\r\n", NoAnswer::NotHttp),
        ("HTTP/1.x 200 OK\r\n\r\n", NoAnswer::NotHttp),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", NoAnswer::NotHttp),
        (endless.as_str(), NoAnswer::TooLarge),
        (blank.as_str(), NoAnswer::TooLarge),
        (line.as_str(), NoAnswer::TooLarge),
    ] {
        let shown = &bytes[..bytes.len().min(40)];
        assert_eq!(read(bytes.as_bytes()), Err(expected), "ANSWER-READER-3: {shown:?}");
    }
}

#[test]
fn a_requested_wait_is_found() {
    for (fields, expected) in [
        ("retry-after: 7", "7"),
        ("Retry-After : 7\r\nretry-after: 9", "7"),
        ("retry-after:\r\n\tThu, 01 Jan 2026\r\n  00:01:40 GMT", "Thu, 01 Jan 2026 00:01:40 GMT"),
        ("nonsense\r\nretry-after: 7\r\ncontent-length: x", "7"),
        ("x-retry-after: 7", ""),
    ] {
        let bytes = format!("HTTP/1.1 503 Busy\r\n{fields}\r\n\r\n");
        let (_, wait, _) = read(bytes.as_bytes()).unwrap();
        assert_eq!(wait.trim(), expected, "{fields:?}");
    }
}

#[test]
fn the_answers_of_one_connection_are_told_apart() {
    let answers = b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nok";
    let (input, mut endpoint) = duplex(1_000);
    let mut reader = AnswerReader::new(input);
    for _ in 0..3 {
        assert!(reader.is_quiet(), "ANSWER-READER-2");
        endpoint.write_all(answers).now_or_never().unwrap().unwrap();
        let line = reader.status().now_or_never().unwrap().unwrap();
        assert!(reader.finish(line, 10).now_or_never().unwrap(), "ANSWER-READER-2");
        assert_eq!((line.status, reader.retry_after()), (503, "7"));
    }
    endpoint.write_all(b"x").now_or_never().unwrap().unwrap();
    assert!(!reader.is_quiet(), "ANSWER-READER-2");
    drop(endpoint);
    assert_eq!(reader.status().now_or_never().unwrap(), Err(NoAnswer::NotHttp));
}

/// Lines of an answer's head that are allowed, or at least seen.
fn field_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z-]{1,12} {0,2}: ?[ -~]{0,40}",
        "[ \t][ -~]{0,20}",
        "[ -~&&[^:]]{1,20}",
        "content-length: [0-9]{1,3}",
        Just("transfer-encoding: chunked".to_owned()),
        Just("connection: close".to_owned()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400), status in any::<bool>()) {
        let status: &[u8] = if status { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        drop(read(&[status, &bytes].concat()));
    }

    #[test]
    fn nothing_after_the_status_changes_it(
        informational in vec((100_u16..200).prop_filter("final", |code| *code != 101), 0..4),
        status in 200_u16..1_000,
        lines in vec(field_line(), 0..40),
        is_bare in any::<bool>(),
        body in vec(any::<u8>(), 0..100),
        cut in any::<prop::sample::Index>(),
    ) {
        let end = if is_bare { "\n" } else { "\r\n" };
        let mut bytes = String::new();
        for code in informational {
            bytes += &format!("HTTP/1.1 {code} Wait{end}link: <a>{end}{end}");
        }
        bytes += &format!("HTTP/1.1 {status} A reason{end}");
        let known = bytes.len();
        for line in &lines {
            bytes += line;
            bytes += end;
        }
        bytes += end;
        let bytes = [bytes.as_bytes(), &body].concat();
        let kept = known + cut.index(bytes.len() - known + 1);
        for bytes in [&bytes[..], &bytes[..kept]] {
            let answer = read(bytes);
            prop_assert_eq!(answer.map(|(read, _, _)| read), Ok(status), "ANSWER-READER-1");
        }
    }

    #[test]
    fn a_reusable_connection_has_no_byte_too_few_or_too_many(
        pieces in vec(1_usize..200, 0..4),
        is_chunked in any::<bool>(),
        more in vec(any::<u8>(), 1..5),
    ) {
        let bytes: usize = pieces.iter().sum();
        let mut text = String::from("HTTP/1.1 200 OK\r\n");
        if is_chunked {
            text += "transfer-encoding: chunked\r\n\r\n";
            for piece in pieces {
                text += &format!("{piece:x}\r\n{}\r\n", "x".repeat(piece));
            }
            text += "0\r\n\r\n";
        } else {
            text += &format!("content-length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
        }
        let text = text.as_bytes();
        prop_assert_eq!(read(text).map(|(_, _, is_reusable)| is_reusable), Ok(true));
        let longer = read(&[text, &more].concat());
        prop_assert_eq!(longer.map(|(_, _, is_reusable)| is_reusable), Ok(false));
        let shorter = read(&text[..text.len() - 1]);
        prop_assert_eq!(shorter.map(|(_, _, is_reusable)| is_reusable), Ok(false));
    }
}
