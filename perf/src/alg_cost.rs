//! What one per cent of control packets costs the packets beside them.
//!
//! Chunks of sixteen bursts take turns: in one all packets are hits, in the other five of the 512 are requests of control
//! sessions in place of hits, one in every third burst. Everything else is the same: tables, frames, order. What is
//! compared is the time of bursts without a control packet (what a control packet leaves behind in caches and
//! tables) and the time of all bursts (what it takes away from the worker).

use std::time::{Duration, Instant};

use crate::clock::{ticks, ticks_per_nano};
use crate::frames::PoolFrame;
use crate::items::conversation::Conversation;
use crate::items::dialogues::{self, Dialogue};
use crate::items::{BURST, CHUNK, Random};
use crate::rig::{AlgPlace, INTERNAL, Rig};
use crate::sample::Samples;

/// What was measured, in nanoseconds; tenth percentiles.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// An ordinary packet where there is nothing else.
    pub alone_nanos: f64,
    /// An ordinary packet in a burst without control packets, between bursts with one.
    pub beside_nanos: f64,
    /// A control packet.
    pub control_nanos: f64,
    /// Median over neighbouring chunks: time of a burst without control packets, in relation.
    pub beside: f64,
    /// The same for all bursts, per ordinary packet.
    pub all: f64,
}

/// Each kind of control traffic, and where it is read.
pub const CASES: [(&str, Dialogue, AlgPlace); 4] = [
    ("FTP, worker", dialogues::FTP, AlgPlace::Worker),
    ("FTP, ALG core", dialogues::FTP, AlgPlace::AlgCore),
    ("SIP, worker", dialogues::SIP, AlgPlace::Worker),
    ("SIP, ALG core", dialogues::SIP, AlgPlace::AlgCore),
];

/// Measures `dialogue` beside `flows` UDP flows for about `duration`. `None`: a packet was lost.
#[must_use]
pub fn measure(dialogue: Dialogue, place: AlgPlace, flows: u32, duration: Duration) -> Option<Cost> {
    let mut mix = Mix::new(dialogue, place, flows);
    let [mut alone, mut beside, mut undisturbed, mut disturbed] = [(); 4].map(|()| Samples::default());
    let (mut beside_ratios, mut all_ratios) = (Samples::default(), Samples::default());
    let start = Instant::now();
    while start.elapsed() < duration {
        let without = mix.chunk(false)?;
        let with = mix.chunk(true)?;
        if start.elapsed() < duration / 10 {
            continue;
        }
        alone.push(without.quiet, QUIET_PACKETS);
        beside.push(with.quiet, QUIET_PACKETS);
        undisturbed.push(without.other, CONTROL_PACKETS);
        disturbed.push(with.other, CONTROL_PACKETS);
        beside_ratios.add(with.quiet as f64 / without.quiet.max(1) as f64);
        let per_packet = [(with, CHUNK as u64 - CONTROL_PACKETS), (without, CHUNK as u64)]
            .map(|(spent, packets)| (spent.quiet + spent.other) as f64 / packets as f64);
        all_ratios.add(per_packet[0] / per_packet[1].max(1.0));
    }
    let nanos = |samples: &Samples| samples.quantile(0.1) / ticks_per_nano();
    Some(Cost {
        alone_nanos: nanos(&alone),
        beside_nanos: nanos(&beside),
        // The others of its burst cost what they cost elsewhere.
        control_nanos: nanos(&disturbed) - nanos(&undisturbed) * (BURST - 1) as f64 / BURST as f64,
        beside: beside_ratios.quantile(0.5),
        all: all_ratios.quantile(0.5),
    })
}

/// A worker, ordinary flows, and one control session for each control packet of a chunk.
struct Mix {
    rig: Rig,
    flows: u32,
    random: Random,
    conversations: Vec<Conversation>,
    burst: Vec<Vec<PoolFrame>>,
}

/// Ticks of the bursts that never have a control packet, and of those that may have one.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    quiet: u64,
    other: u64,
}

impl Mix {
    fn new(dialogue: Dialogue, place: AlgPlace, flows: u32) -> Self {
        let mut rig = Rig::reading(place, flows as usize + 64);
        rig.open(flows);
        let mut conversations: Vec<_> =
            (0..CONTROL_PACKETS as u8).map(|number| Conversation::new(dialogue, number)).collect();
        for conversation in &mut conversations {
            conversation.open(&mut rig);
        }
        let burst = (0..CHUNK / BURST).map(|_| Vec::with_capacity(BURST)).collect();
        Self { rig, flows, random: Random::default(), conversations, burst }
    }

    /// One chunk. `None`: not every packet came out.
    fn chunk(&mut self, has_control: bool) -> Option<Spent> {
        self.build(has_control);
        let mut spent = Spent::default();
        for (number, burst) in self.burst.iter_mut().enumerate() {
            let begin = ticks();
            self.rig.receive(INTERNAL, burst.drain(..));
            self.rig.poll();
            let time = ticks() - begin;
            match control_of(number) {
                Some(_) => spent.other += time,
                None => spent.quiet += time,
            }
        }
        self.rig.settle();
        let is_whole = self.rig.io.sent.len() == CHUNK;
        if has_control {
            self.conversations.iter_mut().for_each(|conversation| conversation.hear(&self.rig));
        }
        self.rig.io.recycle();
        if has_control {
            self.conversations.iter_mut().for_each(|conversation| conversation.answer(&mut self.rig));
        }
        is_whole.then_some(spent)
    }

    fn build(&mut self, has_control: bool) {
        for (number, burst) in self.burst.iter_mut().enumerate() {
            let mut control = control_of(number).filter(|_| has_control);
            while burst.len() < BURST {
                let asking = control.take_if(|_| burst.len() == BURST / 2);
                let frame = match asking.and_then(|at| self.conversations.get_mut(at)) {
                    Some(conversation) => conversation.ask(&mut self.rig),
                    None => self.rig.outbound(self.random.below(self.flows)),
                };
                burst.push(frame);
            }
        }
    }
}

/// Which control session has a packet in burst number `burst` of a chunk.
fn control_of(burst: usize) -> Option<usize> {
    (burst % 3 == 1).then_some(burst / 3)
}

/// In bursts 1, 4, 7, 10 and 13.
const CONTROL_PACKETS: u64 = 5;
const QUIET_PACKETS: u64 = CHUNK as u64 - CONTROL_PACKETS * BURST as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_loses_nothing() {
        for (name, dialogue, place) in CASES {
            let mut mix = Mix::new(dialogue, place, 100);
            for chunk in 0..100 {
                assert!(mix.chunk(chunk % 2 == 1).is_some(), "{name} {chunk}");
            }
        }
    }

    #[test]
    fn every_control_session_has_one_packet_in_a_chunk() {
        let sessions: Vec<_> = (0..CHUNK / BURST).filter_map(control_of).collect();
        assert_eq!(sessions, (0..CONTROL_PACKETS as usize).collect::<Vec<_>>());
    }
}
