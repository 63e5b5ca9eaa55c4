//! The traffic generator: memif client on both sides of a device under test, which it drives and checks.
//!
//! Closed loop: a fixed number of round trips is in flight. A packet leaves on the internal link, crosses the
//! device, is checked and sent back on the external link with its ends swapped (so that it hits the
//! device's mapping), crosses the device again and is checked again. A slow moment of either side slows
//! both alike, and no queue overflows, so that each lost packet is the device's ([`measure`]). Latency and loss at a given
//! rate are measured in open loop, by the clock ([`paced`]).

pub mod census;
pub mod flow;
pub mod latency;
pub mod link;
pub mod measure;
pub mod memif;
pub mod paced;
pub mod run;
pub mod sip;
mod slots;
