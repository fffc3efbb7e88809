//! A client of the Triggers HTTP API.
//!
//! ```no_run
//! # async fn example() -> Result<(), triggers_client::ClientError> {
//! use triggers_client::{Client, InboxQuery};
//!
//! let client = Client::builder("http://127.0.0.1:8080").api_key("trg_test_…").build()?;
//! let page = client.list_inbox(&InboxQuery::default()).await?.decode()?;
//! for event in page.events {
//!     println!("{} {}", event.event_id, event.event_type);
//! }
//! # Ok(())
//! # }
//! ```
//! [`Client`] has a method for each operation of the API's OpenAPI document. The types of requests
//! and replies are those of [`api`]. A [`Reply`] keeps the body as it came; `decode` reads it.
//!
//! - `CLIENT-1`: every call ends within the request timeout, and connecting within the connect
//!   timeout. Only [`EventStream`] has no request timeout.
//! - `CLIENT-2`: an answer larger than [`BODY_BYTES_MAX`] is an error; the client does not collect
//!   it.
//! - `CLIENT-3`: the client repeats no request. Only the caller knows whether repeating is safe.
//!
//! The client follows no redirects and reads no proxy settings.

pub use triggers_protocol::api;

pub use address::BaseAddress;
pub use call::{Call, percent_encoded};
pub use client::{BODY_BYTES_MAX, Client, ClientBuilder, authorization};
pub use error::{ApiFailure, ClientError, transport_reason};
pub use query::{AttemptsQuery, AuditQuery, InboxQuery, PageQuery};
pub use reply::Reply;
pub use stream::EventStream;

mod address;
mod call;
mod client;
mod error;
mod operations;
mod query;
mod reply;
mod stream;

#[cfg(test)]
mod tests;

/// An event, owned.
pub type Event = api::EventJson<'static>;
/// An event with its lease token, owned.
pub type LeasedEvent = api::LeasedEvent<'static>;
/// A page of events, owned.
pub type InboxPage = api::InboxPage<'static>;
/// The answer of a lease request, owned.
pub type LeaseAnswer = api::LeaseAnswer<'static>;
