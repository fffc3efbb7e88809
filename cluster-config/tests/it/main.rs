//! Integration tests of the configuration, through its public interface only.
//!
//! Each test creates its files in a temporary directory and passes the environment as data. The
//! environment of the process is never changed, and read only for `UPDATE_GOLDEN`.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod load;
mod profiles;
