//! The actors over the simulated store, in virtual time: through the router, as the edge uses them.

mod faults;
mod fixture;
mod life;
