//! PPTP dialogues through [`Driver`]: what each end reads, what is opened, what is counted.

use std::net::SocketAddrV4;

use super::{Pptp, PptpSettings};
use crate::contract::{Direction, Event, SessionEndpoints};
use crate::testing::{self, Driver};

mod dialogues;
mod hostile;
mod policy;
mod segmentation;

/// The end that opened the control session and the other, as senders.
const C: Direction = Direction::Original;
const S: Direction = Direction::Reply;

/// One turn of a dialogue.
type Turn = (Direction, Vec<u8>);

/// A control message of RFC 2637 section 2: its type, its size, and 16-bit fields from byte 12 on. What is behind
/// them is filled with a pattern that no translation may touch.
fn message(control_type: u16, size: u16, fields: &[u16]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [size, 1, 0x1a2b, 0x3c4d, control_type, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
    bytes.extend(fields.iter().flat_map(|field| field.to_be_bytes()));
    bytes.resize(usize::from(size), 0x5a);
    bytes
}

fn start_request() -> Vec<u8> {
    message(1, 156, &[0x0100, 0])
}

fn start_reply() -> Vec<u8> {
    message(2, 156, &[0x0100, 0x0100])
}

/// Outgoing-Call-Request
fn call(call_id: u16) -> Vec<u8> {
    message(7, 168, &[call_id, 1])
}

/// Outgoing-Call-Reply with its result and error.
fn reply(call_id: u16, peer_call_id: u16, result: u8) -> Vec<u8> {
    message(8, 32, &[call_id, peer_call_id, u16::from_be_bytes([result, 0])])
}

/// Incoming-Call-Request
fn incoming(call_id: u16) -> Vec<u8> {
    message(9, 220, &[call_id, 1])
}

/// Incoming-Call-Reply
fn incoming_reply(call_id: u16, peer_call_id: u16, result: u8) -> Vec<u8> {
    message(10, 24, &[call_id, peer_call_id, u16::from_be_bytes([result, 0])])
}

/// Incoming-Call-Connected, WAN-Error-Notify or Set-Link-Info.
fn about_peer(control_type: u16, peer_call_id: u16) -> Vec<u8> {
    let size = match control_type {
        11 => 28,
        14 => 40,
        15 => 24,
        _ => unreachable!(),
    };
    message(control_type, size, &[peer_call_id, 0])
}

/// Call-Clear-Request
fn clear(call_id: u16) -> Vec<u8> {
    message(12, 16, &[call_id, 0])
}

/// Call-Disconnect-Notify
fn disconnect(call_id: u16) -> Vec<u8> {
    message(13, 148, &[call_id, 0x0400])
}

fn internal_client() -> SessionEndpoints {
    testing::internal_client(1723)
}

fn internal_server() -> SessionEndpoints {
    testing::internal_server(1723)
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

/// A control session that both ends have started.
fn started(endpoints: SessionEndpoints) -> Driver<Pptp> {
    let mut driver = Driver::new(Pptp::new(PptpSettings::default()), endpoints);
    driver.feed(C, &start_request());
    driver.feed(S, &start_reply());
    driver
}

/// Feeds one message and returns what the other end reads of it.
fn pass(driver: &mut Driver<Pptp>, direction: Direction, message: &[u8]) -> Vec<u8> {
    let stream = |driver: &Driver<Pptp>| {
        let outcome = driver.outcome();
        if direction == C { outcome.original } else { outcome.reply }
    };
    let before = stream(driver).len();
    driver.feed(direction, message);
    stream(driver).split_off(before)
}

/// The events that were counted, with their counts.
fn counted(driver: &Driver<Pptp>) -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|&event| (event, driver.count_of(event))).filter(|(_, count)| *count > 0).collect()
}
