//! The rules of the stream layer, one by one: hand-made segments in, the exact segments out.
//!
//! A segment is written `direction flags first..behind-last ack number win field "data"`; `>` travels from
//! the client, `<` from the server. Numbers are relative to the SYN of the end that counts them, so that
//! the first byte is 1. Both SYNs lie just below 2^32.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bytes;
mod ends;
mod script;
#[path = "../stream_net/mod.rs"]
mod stream_net;
