//! IRC dialogues through [`Driver`]: what each end reads, what is opened, what is counted.

use std::net::SocketAddrV4;

use super::{DccPeer, Irc, IrcSettings};
use crate::contract::{Direction, Event, SessionEndpoints};
use crate::testing::{self, Driver};

mod dialogues;
mod hostile;
mod policy;
mod segmentation;

/// Client and server, as senders.
const C: Direction = Direction::Original;
const S: Direction = Direction::Reply;

/// One turn of a dialogue.
type Turn<'a> = (Direction, &'a [u8]);

/// A registration up to the welcome.
const REGISTRATION: [Turn<'_>; 3] = [
    (S, b":irc.example.net NOTICE * :*** Looking up your hostname\r\n"),
    (C, b"CAP LS 302\r\nNICK al\r\nUSER al 0 * :Al\r\n"),
    (S, b":irc.example.net 001 al :Welcome\r\n"),
];

fn internal_client() -> SessionEndpoints {
    testing::internal_client(6667)
}

fn internal_server() -> SessionEndpoints {
    testing::internal_server(6667)
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn session(endpoints: SessionEndpoints) -> Driver<Irc> {
    Driver::new(Irc::new(IrcSettings::default()), endpoints)
}

fn feed(driver: &mut Driver<Irc>, turns: &[Turn<'_>]) {
    for (direction, bytes) in turns {
        driver.feed(*direction, bytes);
    }
}

/// A session whose client is welcome.
fn welcomed(endpoints: SessionEndpoints) -> Driver<Irc> {
    let mut driver = session(endpoints);
    feed(&mut driver, &REGISTRATION);
    driver
}

/// The bytes of one direction behind those of the registration.
fn after_registration(driver: &Driver<Irc>, direction: Direction) -> String {
    let skipped: usize =
        REGISTRATION.iter().filter(|(from, _)| *from == direction).map(|(_, bytes)| bytes.len()).sum();
    let outcome = driver.outcome();
    let bytes = if direction == C { outcome.original } else { outcome.reply };
    bytes[skipped..].escape_ascii().to_string()
}

/// The events that were counted, with their counts.
fn counted(driver: &Driver<Irc>) -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|&event| (event, driver.count_of(event))).filter(|(_, count)| *count > 0).collect()
}
