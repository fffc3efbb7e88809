//! What members of a cluster say to each other: one request, one reply, each with a version byte in front.
//!
//! Invariants: `PEER-1` a member answers a version that it does not speak with [`PeerReply::Unsupported`], which every
//! version can read; `PEER-2` a new version adds variants at the end, so that the one before it reads what it knows: for one
//! release both are spoken. What a client asked for travels as HTTP, so that the owner's program decides what it means.
//! It does not say who may be asked what: members trust each other.

use crate::PartitionId;
use crate::codec::{self, CodecError};
use bincode::{Decode, Encode};

/// The newest version that this program speaks.
pub const VERSION: u8 = 1;
/// The version of [`PeerReply::Unsupported`], for ever.
const VERSION_OF_REFUSALS: u8 = 0;

/// A request to a member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PeerRequest {
    /// Whether it is there.
    Ping,
    /// Whether this incarnation would serve more partitions now.
    Prepare {
        /// Who is meant: a member that has begun anew since says no.
        incarnation: String,
    },
    /// The partition is yours as of this epoch: serve it.
    Serve {
        /// Who is meant.
        incarnation: String,
        /// Which partition.
        partition: PartitionId,
        /// The epoch of the fence that names it.
        epoch: u64,
    },
    /// A client's request.
    Http(Box<HttpRequest>),
    /// The next part of a response.
    Pull {
        /// The response's number.
        stream: u64,
    },
    /// Nobody waits for the rest of a response any more.
    Close {
        /// The response's number.
        stream: u64,
    },
}

/// A client's request on its way to the owner of its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HttpRequest {
    /// Milliseconds that are left for the answer.
    pub time_left_ms: u32,
    /// Which partition its tenant is in.
    pub partition: PartitionId,
    /// The client's address.
    pub address: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields, the request's id among them.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// A member's answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PeerReply {
    /// The version of the request is not spoken here.
    Unsupported {
        /// The newest that is.
        newest: u8,
    },
    /// Yes.
    Done,
    /// No, and nothing was done.
    Refused,
    /// Too much is under way from this member; nothing was done.
    Busy,
    /// The partition is not served here; nothing was done.
    NotOwner {
        /// Who owns it, as far as is known: the incarnation and its epoch.
        owner: Option<(String, u64)>,
    },
    /// The answer to a client's request.
    Http(Box<HttpResponse>),
    /// A part of a response.
    Part {
        /// Its bytes; none if there was nothing yet.
        bytes: Vec<u8>,
        /// Whether it is the last one.
        is_last: bool,
    },
}

/// The answer to a client's request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Header fields.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The first part of the body.
    pub body: Vec<u8>,
    /// The number under which the rest is to be pulled; none if there is no more.
    pub stream: Option<u64>,
}

impl PeerRequest {
    /// The bytes of the request.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(VERSION, self)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`CodecError`]; `Version` is to be answered with [`PeerReply::unsupported`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(VERSION, bytes)
    }
}

impl PeerReply {
    /// The bytes of the reply.
    pub fn encode(&self) -> Vec<u8> {
        let version =
            if matches!(self, Self::Unsupported { .. }) { VERSION_OF_REFUSALS } else { VERSION };
        codec::encode(version, self)
    }

    /// The refusal of a version.
    pub fn unsupported() -> Vec<u8> {
        Self::Unsupported { newest: VERSION }.encode()
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        match bytes.first() {
            Some(&VERSION_OF_REFUSALS) => codec::decode(VERSION_OF_REFUSALS, bytes),
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
        fn requests_come_back(time_left_ms: u32, partition: u16, target in "/[a-z?=]{0,40}", headers in fields(), body: Vec<u8>) {
            let request = PeerRequest::Http(Box::new(HttpRequest {
                time_left_ms, partition: PartitionId(partition), address: "::1".into(), method: "POST".into(), target, headers, body,
            }));
            prop_assert_eq!(PeerRequest::decode(&request.encode()).unwrap(), request);
        }

        #[test]
        fn replies_come_back(status: u16, headers in fields(), body: Vec<u8>, stream: Option<u64>) {
            let reply = PeerReply::Http(Box::new(HttpResponse { status, headers, body, stream }));
            prop_assert_eq!(PeerReply::decode(&reply.encode()).unwrap(), reply);
        }

        #[test]
        fn no_bytes_are_a_panic(bytes: Vec<u8>) {
            let _ = (PeerRequest::decode(&bytes), PeerReply::decode(&bytes));
        }
    }

    #[test]
    fn versions_are_refused_in_a_form_that_all_can_read() {
        let mut newer = PeerRequest::Ping.encode();
        newer[0] = VERSION + 1;
        assert!(matches!(PeerRequest::decode(&newer), Err(CodecError::Version { .. })), "PEER-1");
        assert_eq!(PeerReply::unsupported(), [0, 0, VERSION], "its bytes are fixed for ever");
        assert_eq!(
            PeerReply::decode(&PeerReply::unsupported()),
            Ok(PeerReply::Unsupported { newest: VERSION })
        );
    }
}
