//! Random histories against the reference model.

mod inbox_history;
