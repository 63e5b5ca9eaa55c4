//! What is measured in process: the stages of a packet's way, one by one, and as a whole.

pub mod alg;
pub mod conversation;
pub mod dialogues;
pub mod stages;
pub mod worker;

use crate::rig::Site;
use crate::sample::Item;

/// Frames of a burst.
pub const BURST: usize = 32;
/// Operations of a chunk: sixteen bursts, so that their frames stay in the second-level cache as those
/// of a NIC do.
pub const CHUNK: usize = 16 * BURST;

/// All items, tables of `flows` sessions behind those that look something up. What is large is built at the
/// first use.
#[must_use]
pub fn all(flows: &[u32]) -> Vec<Box<dyn Item>> {
    let mut items: Vec<Box<dyn Item>> = vec![
        Box::new(stages::Parse::default()),
        Box::new(stages::KeyAndHash::default()),
        Box::new(stages::Translate::default()),
    ];
    for &flows in flows {
        items.push(Box::new(stages::Lookup::new(flows)));
    }
    for &flows in flows {
        items.push(Box::new(worker::Hit::new(flows)));
    }
    items.push(Box::new(worker::CollidingHit::default()));
    for site in [Site::SinglePorts, Site::PortBlocks, Site::TcpPortBlocks] {
        items.push(Box::new(worker::FirstPacket::new(site)));
    }
    items.extend(alg::all());
    items
}

/// Pseudo-random numbers (xorshift64*): the order of flows must not help a prefetcher.
#[derive(Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        ((high * u64::from(bound)) >> 32) as u32
    }
}
