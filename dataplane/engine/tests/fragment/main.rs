//! Fragmented datagrams through the engine, and packets that the engine cuts, in virtual time.
//!
//! Names begin with the id of the requirement they prove, where there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod egress;
mod forwarding;
mod hostile;
mod properties;
mod site;
mod whole;
