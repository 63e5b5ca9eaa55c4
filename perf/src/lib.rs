//! How fast algate is: micro-benchmarks of the engine, and a traffic generator that checks what it measures.
//!
//! `README.md` beside this crate says what is measured, how, and how to read it. The pure parts of the
//! product are measured here in process ([`rig`], binary `micro`); the whole of it is measured from
//! outside, over memif, by [`generator`] and [`mod@bench`].
//!
//! Nothing here is part of the product, and nobody imports it.

pub mod alg_cost;
pub mod bench;
pub mod clock;
pub mod core_watch;
pub mod frames;
pub mod generator;
pub mod items;
pub mod rig;
pub mod sample;
pub mod trail;
