//! Random histories against the reference model.

#![allow(clippy::unwrap_used, reason = "fixtures of tests fail their test")]

mod inbox_history;
