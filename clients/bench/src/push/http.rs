//! Reads the heads of webhook requests (HTTP/1.1).
//!
//! A full HTTP server would cost the measured machine several times as much. This one reads only
//! the length of the body and the id of the webhook, and answers a request that it cannot read by
//! closing the connection.

/// Largest head in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Largest body in bytes: the largest payload with room for the envelope.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a receiver reads from the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, with the empty line at its end.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
    /// Id of the webhook: a UUID.
    pub webhook_id: u128,
}

/// A request that a receiver cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Reads the head of a request; `None` if it is not complete.
///
/// # Errors
/// `Unreadable` if the head is too large, or has no length or no id.
pub fn read_head(buffer: &[u8]) -> Result<Option<Head>, Unreadable> {
    let (mut body_bytes, mut webhook_id, mut at) = (None, None, 0);
    while let Some(length) = buffer[at..].iter().position(|&byte| byte == b'\n') {
        let line = buffer[at..at + length].trim_ascii();
        at += length + 1;
        if line.is_empty() {
            return match (body_bytes, webhook_id) {
                (Some(body_bytes), Some(webhook_id)) if body_bytes <= BODY_BYTES_MAX => {
                    Ok(Some(Head { head_bytes: at, body_bytes, webhook_id }))
                }
                _ => Err(Unreadable),
            };
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            body_bytes = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
        } else if name.eq_ignore_ascii_case(b"webhook-id") {
            webhook_id = uuid(value);
        }
    }
    if buffer.len() > HEAD_BYTES_MAX { Err(Unreadable) } else { Ok(None) }
}

fn uuid(text: &[u8]) -> Option<u128> {
    let mut value = 0;
    let digits = text.iter().filter(|&&byte| byte != b'-');
    for &digit in digits.clone() {
        value = value << 4 | u128::from(char::from(digit).to_digit(16)?);
    }
    (digits.count() == 32).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &[u8] = b"POST /hook HTTP/1.1\r\nhost: 127.0.0.1:1\r\nContent-Length: 3\r\n\
        webhook-id: 019a0000-0000-7000-8000-00000000000F\r\n\r\n{}\n";

    #[test]
    fn a_head_has_its_length_and_its_id() {
        let head = read_head(REQUEST).unwrap().unwrap();
        assert_eq!(REQUEST.len(), head.head_bytes + head.body_bytes);
        assert_eq!(head.webhook_id, 0x019a_0000_0000_7000_8000_0000_0000_000f);
        for end in 0..head.head_bytes {
            assert_eq!(read_head(&REQUEST[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 3\r\nwebhook-id: 12\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\
             webhook-id: 019a00000000700080000000000000ff\r\n\r\n",
        ] {
            assert_eq!(read_head(text.as_bytes()), Err(Unreadable), "{text}");
        }
        assert_eq!(read_head(&[b'a'; HEAD_BYTES_MAX + 1]), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some(head)) = read_head(&bytes) {
                prop_assert!(head.head_bytes <= bytes.len());
            }
        }
    }
}
