//! Raw bindings to the distribution's DPDK (22.11 or newer), generated at build time from `shim.h`.
//!
//! No logic: the functions, types and constants that algate uses, and C wrappers (`shim_*`) for those
//! that DPDK defines as static inlines. Safe wrappers are in `algate::dpdk`.
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals, missing_docs)]
#![allow(clippy::all, clippy::pedantic, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
