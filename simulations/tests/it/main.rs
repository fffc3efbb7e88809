//! Random histories against the reference model, and the simulator itself.

#![allow(clippy::unwrap_used, reason = "fixtures of tests fail their test")]

mod inbox_history;
mod program;
