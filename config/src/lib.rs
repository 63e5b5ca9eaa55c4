//! What the operator wrote: one TOML file, validated into a [`Config`], all errors at once.
//!
//! Pure: text in, model or errors out. Nothing here opens a device or knows DPDK.
#![forbid(unsafe_code)]

mod model;

pub use model::*;
