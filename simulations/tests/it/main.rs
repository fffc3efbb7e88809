//! Tests of the tables against the reference model, and of the program `triggers-sim`.

#![allow(clippy::unwrap_used, reason = "a failing fixture fails its test")]

mod inbox_history;
mod model;
mod program;
