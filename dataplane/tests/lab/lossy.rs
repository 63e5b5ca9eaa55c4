//! A cable that loses, repeats and reorders: what every dialogue must bear. (The kernels of test machines have no netem.)

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Lab, Side, script};

/// What happens to IPv4 frames of either direction, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Frames that vanish.
    pub loss: u8,
    /// Frames that arrive twice.
    pub duplication: u8,
    /// Frames that up to two later ones overtake.
    pub reordering: u8,
    /// The same seed decides the same way.
    pub seed: u32,
}

impl Faults {
    /// Five percent of each.
    pub const USUAL: Self = Self { loss: 5, duplication: 5, reordering: 5, seed: 1 };
}

/// A lossy cable at work, until it is dropped.
pub struct LossyCable {
    forwarder: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Lab {
    /// Makes the cable of [`Side::In`] or [`Side::Ex`] lossy; call it before algate starts.
    pub fn lossy_cable(&self, side: Side, faults: Faults) -> LossyCable {
        let Faults { loss, duplication, reordering, seed } = faults;
        let numbers = [loss.into(), duplication.into(), reordering.into(), seed];
        let mut forwarder = Command::new(script("lab/lossy"))
            .args([&self.name, side.word()])
            .args(numbers.map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the forwarder starts");
        let input = forwarder.stdin.take().expect("input is piped");
        let answers = BufReader::new(forwarder.stdout.take().expect("output is piped"));
        let mut cable = LossyCable { forwarder, input, answers };
        assert_eq!(cable.line(), "ready", "the forwarder copies");
        cable
    }
}

impl LossyCable {
    /// How many frames it was given, and how many of them were lost, duplicated and reordered: `forwarded`, `lost`,
    /// `duplicated`, `reordered`.
    pub fn counts(&mut self) -> BTreeMap<String, u64> {
        self.input.write_all(b"\n").expect("the forwarder reads");
        let line = self.line();
        let pair = |word: &str| {
            let (name, count) = word.split_once('=').expect("a name and a count");
            (name.to_owned(), count.parse().expect("a count"))
        };
        line.split(' ').map(pair).collect()
    }

    /// Expects that something was lost, something was repeated and something was reordered.
    pub fn assert_was_lossy(&mut self) {
        let counts = self.counts();
        assert!(counts.values().all(|count| *count > 0), "{counts:?}");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the forwarder speaks UTF-8");
        line.trim_end().to_owned()
    }
}

impl Drop for LossyCable {
    fn drop(&mut self) {
        let _ = self.forwarder.kill();
        let _ = self.forwarder.wait();
    }
}
