//! Messages between the nodes of a cluster: a request and its reply, each after a version byte.
//!
//! A client's request is forwarded as HTTP, so that the owner of the tenant interprets it.
//!
//! Invariants:
//! - `PEER-1`: a node answers an unsupported version with [`PeerReply::Unsupported`], which every
//!   version can decode.
//! - `PEER-2`: a new version only appends variants, so that the previous version decodes those that
//!   it knows. For one release both versions are supported.
//!
//! The messages carry no permissions: nodes trust each other.

use crate::PartitionId;
use crate::codec::{self, CodecError};
use bincode::{Decode, Encode};

/// The newest supported version.
pub const VERSION: u8 = 1;
/// The version of [`PeerReply::Unsupported`], which never changes.
const UNSUPPORTED_VERSION: u8 = 0;

/// A request to another node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PeerRequest {
    /// Asks for a sign of life.
    Ping,
    /// Asks whether the node accepts another partition.
    Prepare {
        /// Incarnation that is addressed; a node that has restarted rejects the request.
        incarnation: String,
        /// Peers that reach the sender. They must reach the new owner as well.
        peers: Vec<String>,
    },
    /// Tells the node to serve a partition that it owns as of this epoch.
    Serve {
        /// Incarnation that is addressed; a node that has restarted rejects the request.
        incarnation: String,
        /// Partition to serve.
        partition: PartitionId,
        /// Epoch of the fence that names the node as owner.
        epoch: u64,
    },
    /// Forwards a client's request.
    Http(Box<HttpRequest>),
    /// Asks for the next part of a response.
    Pull {
        /// Number of the response.
        stream: u64,
    },
    /// Discards the remainder of a response.
    Close {
        /// Number of the response.
        stream: u64,
    },
}

/// A client's request, forwarded to the owner of its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HttpRequest {
    /// Milliseconds until the response is due.
    pub time_left_ms: u32,
    /// Partition of the tenant.
    pub partition: PartitionId,
    /// Address of the client.
    pub address: String,
    /// HTTP method of the request.
    pub method: String,
    /// Path and query of the request.
    pub target: String,
    /// Header fields, including the request id.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The complete body.
    pub body: Vec<u8>,
}

/// The reply of a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PeerReply {
    /// The node does not support the version of the request.
    Unsupported {
        /// Newest supported version.
        newest: u8,
    },
    /// The request succeeded.
    Done,
    /// The node rejected the request and did nothing.
    Rejected,
    /// The sender has too many requests in progress on this node; the node did nothing.
    Busy,
    /// The node does not serve the partition and did nothing.
    NotOwner {
        /// Incarnation and epoch of the owner, if known.
        owner: Option<(String, u64)>,
    },
    /// The response to a client's request.
    Http(Box<HttpResponse>),
    /// A part of a response body.
    Part {
        /// Bytes of the part; empty if none are available yet.
        bytes: Vec<u8>,
        /// The part is the last one.
        is_last: bool,
    },
}

/// The response to a client's request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HttpResponse {
    /// HTTP status code.
    pub status: u16,
    /// Header fields of the response.
    pub headers: Vec<(String, Vec<u8>)>,
    /// First part of the body.
    pub body: Vec<u8>,
    /// Number with which [`PeerRequest::Pull`] reads further parts; `None` if there are none.
    pub stream: Option<u64>,
}

impl PeerRequest {
    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(VERSION, self)
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// [`CodecError`]. The node answers `Version` with [`PeerReply::unsupported`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(VERSION, bytes)
    }
}

impl PeerReply {
    /// Encodes the reply.
    pub fn encode(&self) -> Vec<u8> {
        let version =
            if matches!(self, Self::Unsupported { .. }) { UNSUPPORTED_VERSION } else { VERSION };
        codec::encode(version, self)
    }

    /// The encoded reply to a request of an unsupported version.
    pub fn unsupported() -> Vec<u8> {
        Self::Unsupported { newest: VERSION }.encode()
    }

    /// Decodes a reply.
    ///
    /// # Errors
    /// [`CodecError`] if the version is unsupported or the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        match bytes.first() {
            Some(&UNSUPPORTED_VERSION) => codec::decode(UNSUPPORTED_VERSION, bytes),
            _ => codec::decode(VERSION, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        prop::collection::vec(("[a-z-]{1,20}", prop::collection::vec(any::<u8>(), 0..40)), 0..10)
    }

    proptest! {
        #[test]
        fn encoded_requests_decode_to_themselves(
            time_left_ms: u32,
            partition: u16,
            target in "/[a-z?=]{0,40}",
            headers in fields(),
            body: Vec<u8>,
        ) {
            let request = PeerRequest::Http(Box::new(HttpRequest {
                time_left_ms,
                partition: PartitionId(partition),
                address: "::1".into(),
                method: "POST".into(),
                target,
                headers,
                body,
            }));
            prop_assert_eq!(PeerRequest::decode(&request.encode()).unwrap(), request);
        }

        #[test]
        fn encoded_replies_decode_to_themselves(
            status: u16,
            headers in fields(),
            body: Vec<u8>,
            stream: Option<u64>,
        ) {
            let reply = PeerReply::Http(Box::new(HttpResponse { status, headers, body, stream }));
            prop_assert_eq!(PeerReply::decode(&reply.encode()).unwrap(), reply);
        }
    }

    #[test]
    fn every_version_decodes_the_reply_to_an_unsupported_one() {
        let mut newer = PeerRequest::Ping.encode();
        newer[0] = VERSION + 1;
        assert!(matches!(PeerRequest::decode(&newer), Err(CodecError::Version { .. })), "PEER-1");
        assert_eq!(PeerReply::unsupported(), [0, 0, VERSION], "these bytes never change");
        assert_eq!(
            PeerReply::decode(&PeerReply::unsupported()),
            Ok(PeerReply::Unsupported { newest: VERSION })
        );
    }
}
