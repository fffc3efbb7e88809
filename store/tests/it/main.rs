//! Tests of the storage engines: a conformance suite for all, and tests for what each one
//! guarantees besides.
//!
//! `engines` runs the conformance suite, one line per engine. A new engine needs a function in
//! `subject.rs` that opens it, and a line here. `embedded` and `simulated` test what only these
//! engines guarantee: files, crashes and full disks; faults and repeatable traces. `postgres`
//! starts a server; `foundationdb` uses an existing cluster. Tests wait for states with a deadline.
//! None asserts a duration, except on a virtual clock.
#![expect(
    clippy::unwrap_used,
    reason = "in a test binary an unwrap that fails is the report of a failed test"
)]

mod chance;
mod conformance;
mod embedded;
#[cfg(feature = "foundationdb")]
mod foundationdb;
mod history;
mod operations;
#[cfg(feature = "postgres")]
mod postgres;
mod scripted;
mod simulated;
mod subject;

mod engines {
    crate::conformance::conformance! {
        embedded => crate::subject::embedded;
        simulated => crate::subject::simulated;
        simulated_with_latency => crate::subject::simulated_with_latency;
    }
    #[cfg(feature = "postgres")]
    crate::conformance::conformance! {
        postgres => crate::postgres::subject;
    }
    #[cfg(feature = "foundationdb")]
    crate::conformance::conformance! {
        foundationdb => crate::foundationdb::subject;
    }
}
