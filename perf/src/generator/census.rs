//! Which flows got through, and whether any two left from one external endpoint.

use std::net::Ipv4Addr;

/// One bit for each flow, one for each external endpoint: 16 million flows take 10 MB.
#[derive(Debug)]
pub struct Census {
    flows: u32,
    /// First and last address of the pool, when sources must differ.
    pool: Option<(u32, u32)>,
    arrived: Bits,
    taken: Bits,
    clash: Option<(u32, u16)>,
}

impl Census {
    /// Of `flows` flows that leave from `pool`, or, without one, as they are.
    #[must_use]
    pub fn new(flows: u32, pool: Option<(u32, u32)>) -> Self {
        let endpoints = pool.map_or(0, |(first, last)| (last - first + 1) as usize * 65_536);
        Self { flows, pool, arrived: Bits::new(flows as usize), taken: Bits::new(endpoints), clash: None }
    }

    /// Notes the first packet of `flow`, as it left.
    #[inline]
    pub fn note(&mut self, flow: u32, source: (u32, u16)) {
        let is_new = self.arrived.set(flow as usize);
        if let Some((first, _)) = self.pool
            && is_new
        {
            let endpoint = (source.0.wrapping_sub(first) as usize) << 16 | usize::from(source.1);
            if !self.taken.set(endpoint) {
                self.clash = Some(source);
            }
        }
    }

    /// Flows that got through.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.arrived.ones
    }

    /// Whether all flows got through, each from an endpoint of its own.
    ///
    /// # Errors
    /// They have not.
    pub fn verdict(&self) -> Result<(), String> {
        if let Some((address, l4_port)) = self.clash {
            return Err(format!("two flows leave from {}:{l4_port}", Ipv4Addr::from(address)));
        }
        match self.flows - self.arrived.ones {
            0 => Ok(()),
            missing => Err(format!("{missing} of {} flows do not get through", self.flows)),
        }
    }
}

#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    ones: u32,
}

impl Bits {
    fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)], ones: 0 }
    }

    /// Sets a bit; returns whether it was there and clear.
    #[inline]
    fn set(&mut self, at: usize) -> bool {
        let Some(word) = self.words.get_mut(at / 64) else { return false };
        let bit = 1 << (at % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        self.ones += u32::from(is_new);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Option<(u32, u32)> = Some((0xC613_0000, 0xC613_0003));

    #[test]
    fn a_missing_flow_is_seen() {
        let mut census = Census::new(3, POOL);
        census.note(0, (0xC613_0000, 1024));
        census.note(2, (0xC613_0003, 65_535));
        census.note(2, (0xC613_0003, 65_535));
        assert_eq!(census.verdict(), Err("1 of 3 flows do not get through".to_owned()));
        census.note(1, (0xC613_0001, 1024));
        assert_eq!(census.verdict(), Ok(()));
        assert_eq!(census.count(), 3);
    }

    #[test]
    fn two_flows_at_one_endpoint_are_seen() {
        let mut census = Census::new(2, POOL);
        census.note(0, (0xC613_0002, 5000));
        census.note(1, (0xC613_0002, 5000));
        assert_eq!(census.verdict(), Err("two flows leave from 198.19.0.2:5000".to_owned()));
        let mut untranslated = Census::new(2, None);
        (0..2).for_each(|flow| untranslated.note(flow, (0xC613_0002, 5000)));
        assert_eq!(untranslated.verdict(), Ok(()));
    }
}
