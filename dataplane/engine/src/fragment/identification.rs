//! Identifications of translated packets (RFC 6864; RFC 7857 section 10).
//!
//! Behind one external address, hosts that know nothing of each other choose the same identifications. Two
//! of their fragmented datagrams to the same receiver would be put together from each other's fragments. So
//! what is not atomic (RFC 6864 section 4: DF set and not a fragment) gets a new identification when its source is
//! translated, the same one for all fragments of a datagram. Atomic packets keep theirs, which means
//! nothing.
//!
//! The identification is `F(source, destination, protocol) + counter`, both chosen by one keyed hash. Packets with
//! the same source, destination and protocol use the same counter, so 65,536 of them in a row are all
//! different: the most that 16 bits allow. `F` keeps an outsider from seeing, in packets to himself, how many go to
//! others (RFC 7739 section 3, on IPv6's longer field). The counters are shared by all workers, for one external
//! address may serve hosts of all of them; an addition without order is cheap, and only packets that are not
//! atomic pay it.
//!
//! Not done: RFC 6864 section 4.3 would have a source slow down to 65,536 packets in two minutes. A NAT cannot.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::table::hash::HashKey;

/// The counters, shared by all workers.
#[derive(Debug)]
pub struct Identifications {
    counters: Box<[AtomicU16]>,
    key: HashKey,
}

impl Identifications {
    /// All counters at zero.
    #[must_use]
    pub fn new(key: &HashKey) -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU16::new(0)).collect(), key: key.clone() }
    }

    /// The identification of the next packet with these fields.
    #[must_use]
    pub fn next(&self, src: u32, dst: u32, protocol: u8) -> u16 {
        let hash = self.key.hash2((u64::from(src) << 32) | u64::from(dst), u64::from(protocol) | DOMAIN);
        let counter = self.counters.get((hash & (COUNTERS - 1)) as usize);
        // Relaxed: every packet gets a number of its own, in whatever order.
        let count = counter.map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed));
        count.wrapping_add((hash >> 48) as u16)
    }
}

/// 8 KiB of counters.
const COUNTERS: u64 = 4_096;
/// Keeps these hashes apart from those of the tables.
const DOMAIN: u64 = 0x4944 << 48;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_whole_cycle_of_one_destination_has_no_repetition() {
        let identifications = Identifications::new(&HashKey::from_seed([1, 2, 3, 4]));
        let seen: HashSet<u16> =
            (0..65_536).map(|_| identifications.next(0xC000_0201, 0xCB00_7105, 17)).collect();
        assert_eq!(seen.len(), 65_536);
    }

    #[test]
    fn destinations_do_not_begin_alike() {
        let identifications = Identifications::new(&HashKey::from_seed([1, 2, 3, 4]));
        let firsts: HashSet<u16> = (0..100).map(|dst| identifications.next(0xC000_0201, dst, 17)).collect();
        assert!(firsts.len() > 90, "{}", firsts.len());
    }
}
