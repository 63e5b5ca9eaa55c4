//! What happens to a packet: parse, flow table, NAT, ALG stage, rewrite.
//!
//! Pure: frames and `now` in, frames out. No I/O, clock, thread or DPDK is seen here, so every bit of
//! NAT, ALG and checksum repair runs under `cargo test` on any machine.

pub mod alg_stage;
pub mod counters;
pub mod drop_reason;
pub mod engine;
pub mod event;
pub mod filter;
pub mod fragment;
pub mod frame;
pub mod ids;
pub mod nat;
pub mod packet;
pub mod pcp;
pub mod router;
pub mod snapshot;
pub mod stream;
pub mod table;
pub mod time;
pub mod worker;
