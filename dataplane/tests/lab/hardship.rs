//! What a real program's dialogue must bear besides the NAT, one at a time.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use super::lossy::{Faults, LossyCable};
use super::{Lab, Side, is_full, script};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardship {
    /// Nothing.
    None,
    /// The ALG stage on a core of its own.
    OwnCore,
    /// The control session in segments of one byte, both ways, on both cables.
    Cut,
    /// Five percent of all frames lost, repeated and reordered, on the cable outside.
    Lossy,
}

/// What makes the cables hard, until it is dropped.
pub enum Cables {
    /// They are as cables should be.
    Good,
    /// They cut.
    Cutting(Vec<Knife>),
    /// They lose.
    Losing(LossyCable),
}

/// A cable that cuts what a control session sends into segments of one byte.
pub struct Knife {
    process: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Hardship {
    /// Those that are any.
    pub const ALL: [Self; 3] = [Self::OwnCore, Self::Cut, Self::Lossy];

    /// Which of them this run shows: all in the full matrix, else the one whose day it is.
    pub fn shown(self) -> bool {
        is_full() || self == Self::None || self == Self::ALL[today() % 3]
    }

    /// The settings that algate starts with.
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Self::OwnCore => &["alg_cores=[1]"],
            // A message and its repetition become some thousands of frames; media that come behind them must find room, too, while
            // the worker is kept from running for a second.
            Self::Cut => &["ring=8192"],
            Self::None | Self::Lossy => &[],
        }
    }

    /// How much data the programs send.
    pub fn bytes(self) -> u64 {
        // A loss costs its sender a timeout now and then.
        if self == Self::Lossy { 500_000 } else { 5_000_000 }
    }

    /// Makes the cables of a lab as hard as this, for control sessions with this port. `what` is cut: `all`,
    /// `all-but-crlf` or `all-but-sccrq`. Call it before algate starts.
    pub fn inflict(self, lab: &Lab, l4_port: u16, what: &str) -> Cables {
        match self {
            Self::None | Self::OwnCore => Cables::Good,
            Self::Cut => {
                Cables::Cutting([Side::In, Side::Ex].map(|side| Knife::take(lab, side, l4_port, what)).into())
            }
            Self::Lossy => Cables::Losing(lab.lossy_cable(Side::Ex, Faults::USUAL)),
        }
    }
}

/// Days since 1970: what everyday runs choose by. `ALGATE_LAB_DAY` names another, to see again what a run of that day saw.
pub fn today() -> usize {
    if let Ok(day) = env::var("ALGATE_LAB_DAY") {
        return day.parse().expect("ALGATE_LAB_DAY is a number of days");
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    (since.as_secs() / 86_400) as usize
}

impl Cables {
    /// Expects that they were as hard as they should be.
    pub fn assert_were_hard(&mut self) {
        match self {
            Self::Good => {}
            Self::Cutting(knives) => {
                let cuts: Vec<u64> = knives.iter_mut().map(Knife::cuts).collect();
                assert!(cuts.iter().all(|cuts| *cuts > 0), "{cuts:?}");
            }
            Self::Losing(cable) => cable.assert_was_lossy(),
        }
    }
}

impl Knife {
    fn take(lab: &Lab, side: Side, l4_port: u16, what: &str) -> Self {
        let mut process = Command::new(script("lab/cut"))
            .args([&lab.name, side.word(), &l4_port.to_string(), what])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the knife starts");
        let input = process.stdin.take().expect("input is piped");
        let answers = BufReader::new(process.stdout.take().expect("output is piped"));
        let mut knife = Self { process, input, answers };
        assert_eq!(knife.line(), "ready", "the knife cuts");
        knife
    }

    /// How many segments it has cut.
    fn cuts(&mut self) -> u64 {
        self.input.write_all(b"\n").expect("the knife reads");
        self.line().parse().expect("a number")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the knife speaks UTF-8");
        line.trim_end().to_owned()
    }
}

impl Drop for Knife {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
