//! Integration tests of the configuration, through its public interface only.
//!
//! `load` holds precedence and faults; `profiles` holds the files beside the crate. Each test makes its own files in a
//! temporary directory and passes its environment as data: the environment of the process is never changed, and read only
//! for UPDATE_GOLDEN.
//!
//! What only the declarations of the fields can tell (bounds, round trips of generated options) is tested beside the code.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail where it stands")]

mod load;
mod profiles;
