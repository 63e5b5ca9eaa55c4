//! RTSP dialogues through [`Driver`]: what each end reads, what is opened, what is counted.

use std::net::SocketAddrV4;

use super::{MediaSource, Rtsp, RtspSettings};
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
type Turn<'a> = (Direction, &'a str);

fn internal_client() -> SessionEndpoints {
    testing::internal_client(554)
}

fn internal_server() -> SessionEndpoints {
    testing::internal_server(554)
}

fn at(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

fn session(endpoints: SessionEndpoints) -> Driver<Rtsp> {
    Driver::new(Rtsp::new(RtspSettings::default()), endpoints)
}

fn talk(endpoints: SessionEndpoints, turns: &[Turn<'_>]) -> Driver<Rtsp> {
    let mut driver = session(endpoints);
    feed(&mut driver, turns);
    driver
}

fn feed(driver: &mut Driver<Rtsp>, turns: &[Turn<'_>]) {
    for (direction, text) in turns {
        driver.feed(*direction, text.as_bytes());
    }
}

/// What the other end of `direction` has read.
fn read(driver: &Driver<Rtsp>, direction: Direction) -> String {
    let outcome = driver.outcome();
    let bytes = if direction == C { outcome.original } else { outcome.reply };
    String::from_utf8(bytes).unwrap()
}

/// The events that were counted, with their counts.
fn counted(driver: &Driver<Rtsp>) -> Vec<(Event, u64)> {
    Event::ALL.iter().map(|&event| (event, driver.count_of(event))).filter(|(_, count)| *count > 0).collect()
}

/// A SETUP for `rtsp://203.0.113.9/a/TRACK`.
fn setup(cseq: u32, transport: &str) -> String {
    format!("SETUP rtsp://203.0.113.9/a/{cseq} RTSP/1.0\r\nCSeq: {cseq}\r\nTransport: {transport}\r\n\r\n")
}

/// Its answer.
fn answer(cseq: u32, transport: &str) -> String {
    format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: ab12;timeout=30\r\nTransport: {transport}\r\n\r\n")
}

/// Another request in the session that [`answer`] names.
fn request(method: &str, cseq: u32, url: &str) -> String {
    format!("{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\nSession: ab12\r\n\r\n")
}
