//! Tests of the actors through the router, on the simulated store and in virtual time.

#![allow(clippy::unwrap_used, reason = "fixtures of tests fail their test")]

mod clock;
mod faults;
mod fixture;
mod identity;
mod leases;
mod life;
mod push;
mod receivers;
mod rounds;
mod walks;
mod written;
