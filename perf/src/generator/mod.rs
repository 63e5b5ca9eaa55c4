//! The traffic generator: memif client on both sides of a device under test, which it drives and checks.
//!
//! Closed loop: a fixed number of round trips is in flight. A packet leaves on the internal link, crosses the
//! device, is checked and sent back on the external link with its ends swapped (so that it hits the
//! device's mapping), crosses the device again and is checked again. A slow moment of either side slows
//! both alike, and no queue overflows, so that each lost packet is the device's.

pub mod dpdk;
pub mod flow;
pub mod link;
pub mod run;
