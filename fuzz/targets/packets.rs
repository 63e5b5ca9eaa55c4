//! Whole packets through a worker, from both sides, with every ALG on: nothing panics, every frame is accounted for,
//! and after all timeouts nothing is left (the ledger of `common::Net`, checked when it is dropped).
#![no_main]
#![allow(dead_code)]

#[path = "../../dataplane/engine/tests/engine/common/mod.rs"]
mod common;

use std::net::SocketAddrV4;
use std::time::Duration;

use algate_engine::packet::vec_frame::VecFrame;
use common::packets::{Seen, fragment, icmp, raw, sum, tcp_between, udp_between};
use common::{INSIDE, Net, OUTSIDE};
use libfuzzer_sys::fuzz_target;

const EVERY_ALG: &str = "
[alg.ftp]
enabled = true
[alg.tftp]
enabled = true
[alg.sip]
enabled = true
[alg.rtsp]
enabled = true
[alg.irc]
enabled = true
[alg.pptp]
enabled = true
";
/// Ports of servers: every ALG's, and one that has none.
const SERVICES: [u16; 8] = [21, 69, 5060, 554, 6667, 1723, 80, 53];

fuzz_target!(|data: &[u8]| {
    let mut net = Net::with(EVERY_ALG, |_| {});
    // Wrong checksums go out as wrong as they came.
    net.verifies = false;
    let mut site = Site { net, bytes: data, last: None };
    for _ in 0..64 {
        if site.step().is_none() {
            break;
        }
    }
});

/// The site, what is left of the input, and the last packet that came out (which replies and errors speak of).
struct Site<'a> {
    net: Net,
    bytes: &'a [u8],
    last: Option<Seen>,
}

impl Site<'_> {
    /// One packet or one wait. `None`: there are no bytes left.
    fn step(&mut self) -> Option<()> {
        let kind = self.byte()?;
        let nic_port = if kind & 0x80 == 0 { INSIDE } else { OUTSIDE };
        let frame = match kind & 0x07 {
            0 => {
                let by = Duration::from_secs(u64::from(self.byte()?));
                self.net.advance(by);
                return Some(());
            }
            1 | 2 => {
                let (source, destination) = self.ends(nic_port)?;
                let flags = self.byte()?;
                tcp_between(source, destination, flags, &self.payload()?)
            }
            3 | 4 => {
                let (source, destination) = self.ends(nic_port)?;
                udp_between(source, destination, &self.payload()?)
            }
            5 => {
                let (source, destination) = self.ends(nic_port)?;
                let embedded = self.last.as_ref().map(|seen| seen.packet.clone()).unwrap_or_default();
                let type_and_code = (self.byte()?, self.byte()? & 0x0f);
                let rest = [self.byte()?, self.byte()?, self.byte()?, self.byte()?];
                let [source, destination] = [source, destination].map(|end| end.ip().to_string());
                icmp(&source, &destination, type_and_code, rest, &embedded)
            }
            6 => {
                let (source, destination) = self.ends(nic_port)?;
                let payload = self.payload()?;
                let frame = udp_between(source, destination, &payload);
                let start = usize::from(self.byte()?) * 8;
                let length = frame.len() - 34;
                if start >= length {
                    return Some(());
                }
                fragment(&frame, start, start + usize::from(self.byte()? / 8 + 1) * 8, 7)
            }
            _ => {
                let (source, destination) = self.ends(nic_port)?;
                let [source, destination] = [source, destination].map(|end| end.ip().to_string());
                raw(&source, &destination, self.byte()?, &self.payload()?)
            }
        };
        let frame = if kind & 0x40 == 0 { frame } else { self.damaged(frame)? };
        let seen = self.net.send_frames(nic_port, vec![VecFrame::from_bytes(&frame)]);
        if let Some(seen) = seen.into_iter().next_back() {
            self.last = Some(seen);
        }
        Some(())
    }

    /// Who sends to whom: a host inside to a server outside, or an end outside to what it last saw, or to the pool.
    fn ends(&mut self, nic_port: u16) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let choice = self.byte()?;
        let service = *SERVICES.get(usize::from(choice & 7))?;
        let outside = SocketAddrV4::new([198, 51, 100, 1 + (choice >> 6)].into(), service);
        if nic_port == INSIDE {
            let inside = SocketAddrV4::new(
                [10, 0, 0, 2 + (choice >> 5 & 1)].into(),
                4000 + u16::from(choice >> 3 & 3),
            );
            return Some((inside, outside));
        }
        let target = match &self.last {
            Some(seen) if choice & 8 == 0 => seen.source,
            _ => SocketAddrV4::new([203, 0, 113, 10].into(), 1024 + u16::from(self.byte()?)),
        };
        Some((outside, target))
    }

    fn damaged(&mut self, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        let at = 14 + usize::from(self.byte()?) % (frame.len() - 14);
        *frame.get_mut(at)? = self.byte()?;
        frame.get_mut(24..26)?.fill(0);
        let end = (14 + usize::from(frame.get(14)? & 15) * 4).clamp(34, frame.len());
        let field = !sum(frame.get(14..end)?, 0);
        frame.get_mut(24..26)?.copy_from_slice(&field.to_be_bytes());
        Some(frame)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn payload(&mut self) -> Option<Vec<u8>> {
        let bytes = usize::from(self.byte()?);
        let (payload, rest) = self.bytes.split_at(bytes.min(self.bytes.len()));
        self.bytes = rest;
        Some(payload.to_vec())
    }
}
