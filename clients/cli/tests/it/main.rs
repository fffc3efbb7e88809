//! Black-box tests of the node.
//!
//! They start the real binary as a process and speak HTTP to it, so that what is tested is what a partner meets: the
//! wire contract, the exit codes, the files a crash leaves behind. Nothing here reaches into the crates of the product.
//!
//! 1. Every test has its own data directory and ports chosen by the system; tests run side by side.
//! 2. Every wait is for a state and has a deadline; nothing asserts how long something took.
//! 3. A random test prints its seed when it fails; `TRIGGERS_TEST_SEED` repeats it.
//!
//! Not here: unit tests (beside the code), many nodes under simulated faults (the simulations), load (the load tests).

mod backup;
mod bad_input;
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
