//! Tests of the log as a whole; each module tests its own part.

mod crashes;
