//! One link to the device under test, with a router's manners: it asks for the device's MAC address and answers ARP.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use algate_engine::packet::arp::{ArpOperation, ArpPacket};
use algate_engine::packet::{BROADCAST_MAC, ETHERTYPE_ARP};

use crate::generator::memif::Memif;

/// A link and both its ends.
#[derive(Debug)]
pub struct Link {
    memif: Memif,
    mac: [u8; 6],
    device_mac: [u8; 6],
    address: Ipv4Addr,
    device_address: Ipv4Addr,
}

impl Link {
    /// Our end is `address`, the device's `device_address`.
    #[must_use]
    pub const fn new(memif: Memif, mac: [u8; 6], address: Ipv4Addr, device_address: Ipv4Addr) -> Self {
        Self { memif, mac, device_mac: BROADCAST_MAC, address, device_address }
    }

    /// Destination and source MAC address of what is sent here.
    #[must_use]
    pub fn macs(&self) -> [u8; 12] {
        let mut macs = [0; 12];
        let (destination, source) = macs.split_at_mut(6);
        destination.copy_from_slice(&self.device_mac);
        source.copy_from_slice(&self.mac);
        macs
    }

    /// Asks for the device's MAC address, by which it learns ours.
    ///
    /// # Errors
    /// It does not answer.
    pub fn introduce(&mut self) -> Result<(), String> {
        for _ in 0..20 {
            self.send_arp(ArpOperation::Request, BROADCAST_MAC, self.device_address);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {
                let count = self.memif.arrived();
                for at in 0..count {
                    self.other(at);
                    self.memif.recycle(at);
                }
                self.memif.release(count);
                if self.device_mac != BROADCAST_MAC {
                    return Ok(());
                }
            }
        }
        Err(format!("{} does not answer ARP", self.device_address))
    }

    /// Reads an arrived frame that is none of a flow. Returns whether it was ARP.
    #[cold]
    pub fn other(&mut self, at: usize) -> bool {
        let bytes = self.memif.frame(at);
        let Some((ethernet, body)) = bytes.split_first_chunk::<14>() else { return false };
        if ethernet[12..14] != ETHERTYPE_ARP.to_be_bytes() {
            return false;
        }
        let Ok(packet) = ArpPacket::parse(body) else { return true };
        if packet.sender == u32::from(self.device_address) {
            self.device_mac = packet.sender_mac;
        }
        if packet.operation == ArpOperation::Request && packet.target == u32::from(self.address) {
            self.send_arp(ArpOperation::Reply, packet.sender_mac, packet.sender.into());
        }
        true
    }

    fn send_arp(&mut self, operation: ArpOperation, dst_mac: [u8; 6], target: Ipv4Addr) {
        let arp = ArpPacket {
            operation,
            sender_mac: self.mac,
            sender: self.address.into(),
            target_mac: if operation == ArpOperation::Request { [0; 6] } else { dst_mac },
            target: target.into(),
        };
        let source = self.mac;
        if self.memif.room(1) == 0 {
            return;
        }
        let Some(frame) = self.memif.buffer().first_chunk_mut::<60>() else { return };
        frame.fill(0);
        let Some((ethernet, body)) = frame.split_first_chunk_mut::<14>() else { return };
        ethernet[0..6].copy_from_slice(&dst_mac);
        ethernet[6..12].copy_from_slice(&source);
        ethernet[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
        if let Some(body) = body.first_chunk_mut() {
            *body = arp.emit();
        }
        self.memif.push(60);
        self.memif.publish();
    }
}

impl Deref for Link {
    type Target = Memif;

    fn deref(&self) -> &Memif {
        &self.memif
    }
}

impl DerefMut for Link {
    fn deref_mut(&mut self) -> &mut Memif {
        &mut self.memif
    }
}
