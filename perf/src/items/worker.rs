//! A worker's whole way, from received frame to sent frame.

use algate_engine::event::Record;

use crate::frames::PoolFrame;
use crate::items::{BURST, CHUNK, Random};
use crate::rig::{INTERNAL, Rig, Site, endpoint_of, remote_of};
use crate::sample::Item;

/// Outbound packets of known flows, in random order.
#[derive(Debug)]
pub struct Hit {
    flows: u32,
    rig: Option<Rig>,
    random: Random,
    ready: Vec<PoolFrame>,
}

impl Hit {
    /// Among `flows` flows, opened at the first use.
    #[must_use]
    pub fn new(flows: u32) -> Self {
        Self { flows, rig: None, random: Random::default(), ready: Vec::with_capacity(CHUNK) }
    }
}

impl Item for Hit {
    fn name(&self) -> String {
        format!("hit_{}", self.flows)
    }

    fn prepare(&mut self) {
        let rig = self.rig.get_or_insert_with(|| {
            let mut rig = Rig::new(self.flows.max(1024) as usize);
            rig.open(self.flows);
            rig
        });
        rig.io.recycle();
        for _ in 0..CHUNK {
            self.ready.push(rig.outbound(self.random.below(self.flows)));
        }
    }

    fn chunk(&mut self) -> Option<u64> {
        carry(self.rig.as_mut()?, &mut self.ready)
    }
}

/// As [`Hit`], with flows that a public hash puts into one of 128 places: who knows the program cannot make them share
/// more buckets than chance does.
#[derive(Debug)]
pub struct CollidingHit {
    flows: Vec<u32>,
    rig: Option<Rig>,
    random: Random,
    ready: Vec<PoolFrame>,
}

impl Default for CollidingHit {
    fn default() -> Self {
        Self { flows: Vec::new(), rig: None, random: Random::default(), ready: Vec::with_capacity(CHUNK) }
    }
}

impl Item for CollidingHit {
    fn name(&self) -> String {
        "hit_colliding".to_owned()
    }

    fn prepare(&mut self) {
        let rig = self.rig.get_or_insert_with(|| {
            // Fx, seven bits of it.
            let lands = |flow: &u32| {
                let (host, l4_port) = endpoint_of(*flow);
                let words =
                    [u64::from(u32::from(host)), u64::from(u32::from(remote_of(*flow))), l4_port.into()];
                let mix =
                    |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
                words.into_iter().fold(0, mix) >> 57 == 0
            };
            self.flows = (0..).filter(lands).take(COLLIDING_FLOWS).collect();
            let mut rig = Rig::new(COLLIDING_FLOWS);
            for burst in self.flows.chunks(BURST) {
                let frames: Vec<_> = burst.iter().map(|flow| rig.outbound(*flow)).collect();
                rig.receive(INTERNAL, frames);
                rig.io.recycle();
                rig.poll();
            }
            rig
        });
        rig.io.recycle();
        for _ in 0..CHUNK {
            let flow = self.flows.get(self.random.below(COLLIDING_FLOWS as u32) as usize);
            self.ready.extend(flow.map(|flow| rig.outbound(*flow)));
        }
    }

    fn chunk(&mut self) -> Option<u64> {
        carry(self.rig.as_mut()?, &mut self.ready)
    }
}

/// Packets each of which opens a session: policy, port, mapping, session, and the way of a hit.
#[derive(Debug)]
pub struct FirstPacket {
    site: Site,
    rig: Option<Rig>,
    next: u32,
    ready: Vec<PoolFrame>,
    records: Vec<Record>,
}

impl FirstPacket {
    /// With ports given out as `site` says: UDP, or the SYNs of TCP.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self { site, rig: None, next: 0, ready: Vec::with_capacity(CHUNK), records: Vec::new() }
    }
}

impl Item for FirstPacket {
    fn name(&self) -> String {
        match self.site {
            Site::SinglePorts => "first_packet",
            Site::PortBlocks => "first_packet_blocks",
            Site::TcpPortBlocks => "first_packet_tcp",
        }
        .to_owned()
    }

    fn prepare(&mut self) {
        let rig = self.rig.get_or_insert_with(|| {
            let mut rig = Rig::at(self.site, FIRST_PACKETS as usize);
            // The sweep's pass over all port blocks, once a second, which no packet is to pay for: 1,024 a turn, of 2^18.
            (0..256).for_each(|_| rig.poll());
            rig
        });
        rig.io.recycle();
        rig.engine.events.drain(&mut self.records);
        self.records.clear();
        for _ in 0..CHUNK {
            self.ready.push(match self.site {
                Site::TcpPortBlocks => rig.outbound_syn(self.next),
                Site::SinglePorts | Site::PortBlocks => rig.outbound(self.next),
            });
            self.next += 1;
        }
    }

    fn chunk(&mut self) -> Option<u64> {
        // When the table is full, packets are dropped, and nothing more is to be measured.
        carry(self.rig.as_mut()?, &mut self.ready)
    }
}

/// Gives all of `ready` to the worker, in bursts. `None` unless each of them is sent.
#[inline]
fn carry(rig: &mut Rig, ready: &mut Vec<PoolFrame>) -> Option<u64> {
    while !ready.is_empty() {
        let rest = ready.len().saturating_sub(BURST);
        rig.receive(INTERNAL, ready.drain(rest..));
        rig.poll();
    }
    (rig.io.sent.len() == CHUNK).then_some(CHUNK as u64)
}

/// As many as those of `hit_65536`.
const COLLIDING_FLOWS: usize = 65_536;
/// Sessions until the supply of new flows is used up.
const FIRST_PACKETS: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use algate_engine::frame::{Frame, RxChecksums};
    use algate_engine::packet::parse::{ParsedKind, parse};

    #[test]
    fn a_hit_leaves_translated() {
        let mut hit = Hit::new(100);
        hit.prepare();
        assert_eq!(hit.chunk(), Some(CHUNK as u64));
        for (nic_port, frame) in &hit.rig.as_ref().unwrap().io.sent {
            assert_eq!(*nic_port, crate::rig::EXTERNAL);
            let parsed = parse(frame.head(), frame.len(), RxChecksums::default()).unwrap();
            let ParsedKind::Ipv4(view) = parsed.kind else { panic!("not IPv4") };
            assert_eq!((view.src >> 8, view.ttl), (0x00C6_1300, 63));
        }
    }

    #[test]
    fn every_first_packet_opens_a_session() {
        for site in [Site::SinglePorts, Site::PortBlocks, Site::TcpPortBlocks] {
            let mut first = FirstPacket::new(site);
            for chunk in 1..4 {
                first.prepare();
                assert_eq!(first.chunk(), Some(CHUNK as u64));
                assert_eq!(first.rig.as_ref().unwrap().engine.nat.sessions.in_use(), chunk * CHUNK as u32);
            }
        }
    }
}
