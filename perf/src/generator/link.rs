//! One link to the device under test, with a router's manners: it asks for the device's MAC address and answers ARP.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use algate_engine::packet::arp::{ArpOperation, ArpPacket};
use algate_engine::packet::{BROADCAST_MAC, ETHERTYPE_ARP};

use crate::generator::dpdk::{Environment, Packet, Port};

/// A link and both its ends.
#[derive(Debug)]
pub struct Link {
    port: Port,
    /// Our MAC address.
    pub mac: [u8; 6],
    /// The device's MAC address.
    pub device_mac: [u8; 6],
    address: Ipv4Addr,
    device_address: Ipv4Addr,
    waiting: Vec<Packet>,
}

impl Link {
    /// Our end is `address`, the device's `device_address`.
    #[must_use]
    pub fn new(port: Port, mac: [u8; 6], address: Ipv4Addr, device_address: Ipv4Addr) -> Self {
        let waiting = Vec::with_capacity(WAITING_PACKETS);
        Self { port, mac, device_mac: BROADCAST_MAC, address, device_address, waiting }
    }

    /// Waits until the device has connected.
    ///
    /// # Errors
    /// It has not in time.
    pub fn wait_for_link(&self, patience: Duration) -> Result<(), String> {
        self.port.wait_for_link(patience)
    }

    /// Asks for the device's MAC address, by which it learns ours.
    ///
    /// # Errors
    /// It does not answer.
    pub fn introduce(&mut self, environment: &Environment) -> Result<(), String> {
        let mut received = Vec::with_capacity(32);
        for _ in 0..20 {
            self.send_arp(environment, ArpOperation::Request, BROADCAST_MAC, self.device_address);
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {
                self.port.receive(&mut received);
                for mut packet in received.drain(..) {
                    self.other(environment, packet.bytes());
                }
                if self.device_mac != BROADCAST_MAC {
                    return Ok(());
                }
            }
        }
        Err(format!("{} does not answer ARP", self.device_address))
    }

    /// Appends what has arrived to `burst`.
    #[inline]
    pub fn receive(&mut self, burst: &mut Vec<Packet>) {
        self.port.receive(burst);
    }

    /// Sends `packets` as soon as the link takes them.
    #[inline]
    pub fn send(&mut self, packets: &mut Vec<Packet>) {
        if self.waiting.is_empty() {
            self.port.send(packets);
        }
        self.waiting.append(packets);
    }

    /// Sends what the link did not take before. Returns whether there was anything.
    #[inline]
    pub fn flush(&mut self) -> bool {
        let has_waited = !self.waiting.is_empty();
        if has_waited {
            self.port.send(&mut self.waiting);
        }
        has_waited
    }

    /// Reads a packet that is none of a flow. Returns whether it was ARP.
    #[cold]
    pub fn other(&mut self, environment: &Environment, bytes: &[u8]) -> bool {
        let Some((ethernet, body)) = bytes.split_first_chunk::<14>() else { return false };
        if ethernet[12..14] != ETHERTYPE_ARP.to_be_bytes() {
            return false;
        }
        let Ok(packet) = ArpPacket::parse(body) else { return true };
        if packet.sender == u32::from(self.device_address) {
            self.device_mac = packet.sender_mac;
        }
        if packet.operation == ArpOperation::Request && packet.target == u32::from(self.address) {
            self.send_arp(environment, ArpOperation::Reply, packet.sender_mac, packet.sender.into());
        }
        true
    }

    fn send_arp(
        &mut self,
        environment: &Environment,
        operation: ArpOperation,
        dst_mac: [u8; 6],
        target: Ipv4Addr,
    ) {
        let Some(mut packet) = environment.packet() else { return };
        let arp = ArpPacket {
            operation,
            sender_mac: self.mac,
            sender: self.address.into(),
            target_mac: if operation == ArpOperation::Request { [0; 6] } else { dst_mac },
            target: target.into(),
        };
        packet.set_length(60);
        if let Some((ethernet, body)) = packet.bytes().split_first_chunk_mut::<14>() {
            ethernet[0..6].copy_from_slice(&dst_mac);
            ethernet[6..12].copy_from_slice(&self.mac);
            ethernet[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
            body.fill(0);
            if let Some(body) = body.first_chunk_mut() {
                *body = arp.emit();
            }
        }
        self.send(&mut vec![packet]);
    }
}

/// More than are ever in flight.
const WAITING_PACKETS: usize = 8192;
