//! Memory in which one message is decided: used for each in turn, so that none has to clear it.

use super::sdp::Sdp;
use super::tokens::Tokens;
use super::{MAX_GROWTH_BYTES, MAX_MESSAGE_BYTES};

/// What is needed while a message is decided, and holds nothing between two of them.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) tokens: Tokens,
    /// Its description, where it has one.
    pub(super) sdp: Sdp,
    pub(super) again: Again,
}

/// One line after another as it will leave, and what is read in it.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) bytes: [u8; MAX_MESSAGE_BYTES + MAX_GROWTH_BYTES],
    pub(super) tokens: Tokens,
}

impl Scratch {
    /// What it takes.
    pub(super) const BYTES: usize = size_of::<Self>();
}

impl Again {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; MAX_MESSAGE_BYTES + MAX_GROWTH_BYTES], tokens: Tokens::new() }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self { tokens: Tokens::new(), sdp: Sdp::new(), again: Again::new() }
    }
}
