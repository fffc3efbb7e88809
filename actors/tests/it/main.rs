//! The actors over the simulated store, in virtual time: through the router, as the edge uses them.

#![allow(clippy::unwrap_used, reason = "fixtures of tests fail their test")]

mod faults;
mod fixture;
mod identity;
mod leases;
mod life;
mod push;
mod receivers;
