//! FTP dialogues through [`Driver`]: what each end reads, what is opened, what is counted.

use std::net::SocketAddrV4;

use super::{Ftp, FtpSettings};
use crate::contract::{Direction, Event, SessionEndpoints};
use crate::testing::Driver;

mod dialogues;
mod hostile;
mod masks;
mod policy;
mod security;
mod segmentation;
mod unopened;

/// Client and server, as senders.
const C: Direction = Direction::Original;
const S: Direction = Direction::Reply;

/// One turn of a dialogue.
type Turn<'a> = (Direction, &'a [u8]);

/// An internal client 10.0.0.2 seen as 198.51.100.240, an external server 203.0.113.9.
fn internal_client() -> SessionEndpoints {
    SessionEndpoints {
        originator: at("10.0.0.2:40000"),
        originator_seen: at("198.51.100.240:50000"),
        responder: at("203.0.113.9:21"),
        responder_seen: at("203.0.113.9:21"),
    }
}

/// An external client 203.0.113.50, an internal server 10.0.0.9 seen as 198.51.100.7.
fn internal_server() -> SessionEndpoints {
    SessionEndpoints {
        originator: at("203.0.113.50:40000"),
        originator_seen: at("203.0.113.50:40000"),
        responder: at("10.0.0.9:21"),
        responder_seen: at("198.51.100.7:21"),
    }
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn session(endpoints: SessionEndpoints) -> Driver<Ftp> {
    Driver::new(Ftp::new(FtpSettings::default()), endpoints)
}

fn talk(endpoints: SessionEndpoints, turns: &[Turn<'_>]) -> Driver<Ftp> {
    let mut driver = session(endpoints);
    for (direction, bytes) in turns {
        driver.feed(*direction, bytes);
    }
    driver
}

/// A session whose server has greeted.
fn greeted(endpoints: SessionEndpoints) -> Driver<Ftp> {
    talk(endpoints, &[(S, b"220 ready\r\n")])
}

/// The events that were counted, with their counts.
fn counted(driver: &Driver<Ftp>) -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|&event| (event, driver.count_of(event))).filter(|(_, count)| *count > 0).collect()
}
