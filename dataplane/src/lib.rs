//! algate's edge: DPDK ports and buffers, the threads that drive the engine, the control socket.
//!
//! A library so that tests on virtual devices can reach it; the binary is `main.rs`.

pub mod alg_memory;
pub mod alg_watch;
pub mod cli;
pub mod control;
pub mod dpdk;
pub mod edge;
pub mod event_log;
pub mod huge_pages;
pub mod report;
pub mod reporter;
pub mod runtime;
pub mod secret;
pub mod setup_error;
pub mod table;
pub mod whois;
pub mod worker;
