//! The inbox as a stream of Server-Sent Events.

use super::Event;
use super::client::{BODY_BYTES_MAX, Client};
use super::error::ClientError;
use bytes::BytesMut;
use reqwest::Response;

/// Events as the node accepts them. The stream acknowledges nothing.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    response: Response,
    received: BytesMut,
}

impl EventStream {
    pub(super) fn new(client: Client, response: Response) -> Self {
        Self { client, response, received: BytesMut::new() }
    }

    /// Waits for the next event. `None` means that the node has ended the stream; open another one
    /// from the last event.
    ///
    /// # Errors
    /// `ClientError::Interrupted` if the connection ended, `ClientError::Unexpected` if a frame
    /// cannot be read.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            while let Some(end) = self.received.windows(2).position(|two| two == b"\n\n") {
                let frame = self.received.split_to(end + 2);
                if let Some(data) = data_of(&frame) {
                    return serde_json::from_slice(data)
                        .map(Some)
                        .map_err(|error| self.unexpected(error.to_string()));
                }
            }
            if self.received.len() > BODY_BYTES_MAX {
                return Err(self.unexpected("a frame does not end".to_owned()));
            }
            let piece = self.response.chunk().await;
            match piece.map_err(|error| self.client.transport_error(&error))? {
                Some(piece) => self.received.extend_from_slice(&piece),
                None => return Ok(None),
            }
        }
    }

    fn unexpected(&self, reason: String) -> ClientError {
        ClientError::Unexpected {
            url: self.client.base_url().to_owned(),
            status: self.response.status().as_u16(),
            reason,
        }
    }
}

/// The data line of a frame. Greetings and keep-alive comments have none.
fn data_of(frame: &[u8]) -> Option<&[u8]> {
    frame.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_have_data() {
        assert_eq!(data_of(b"event: event\nid: 1\ndata: {}\n\n"), Some(&b"{}"[..]));
        assert_eq!(data_of(b"retry: 1000\n\n"), None);
        assert_eq!(data_of(b": keep-alive\n\n"), None);
    }
}
