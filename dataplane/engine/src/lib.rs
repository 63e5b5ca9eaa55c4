//! What happens to a packet: parse, flow table, NAT, ALG stage, rewrite.
//!
//! Pure: frames and `now` in, frames out. No I/O, clock, thread or DPDK is seen here, so every bit of
//! NAT, ALG and checksum repair runs under `cargo test` on any machine.

pub mod counters;
pub mod drop_reason;
pub mod frame;
pub mod ids;
pub mod packet;
pub mod router;
pub mod stream;
pub mod table;
pub mod time;
