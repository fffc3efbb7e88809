//! What every engine of the store must do, and what each one must do besides.
//!
//! `engines` runs the conformance suite, one line an engine: an engine that is not in the product yet needs a function
//! in `subject.rs` that opens it, and a line here. `embedded` and `simulated` hold what only these engines promise:
//! files, crashes and full disks there, faults and repeatable traces here; `earlier_rows` reads what older versions stored; `postgres` starts a server for its tests, and
//! `foundationdb` uses a cluster that is there.
//! Tests wait for states with a deadline; nothing asserts how long something takes, except on a virtual clock.
#![expect(
    clippy::unwrap_used,
    reason = "in a test binary an unwrap that fails is the report of a failed test"
)]

mod chance;
mod conformance;
mod earlier_rows;
mod embedded;
#[cfg(feature = "foundationdb")]
mod foundationdb;
mod history;
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
