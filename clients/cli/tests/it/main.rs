//! Black-box tests of the `triggers` binary.
//!
//! The tests start the binary as a process and use HTTP, the command line and the files, as clients
//! and operators do. They use no internal function of the product.
//!
//! 1. Every test has its own data directory and ports chosen by the system; tests run in parallel.
//! 2. Every wait is for a state and has a deadline; no test asserts how long something took.
//! 3. A random test prints its seed when it fails; `TRIGGERS_TEST_SEED` repeats it.

mod backup;
mod bad_input;
mod bench;
mod cluster;
mod cursor;
mod documents;
mod drain;
mod durability;
mod harness;
mod layers;
mod leases;
mod lifecycle;
mod rates;
mod style;
mod torn_files;
mod webhooks;
