//! PJSIP phones: `phone.py` beside this file, a process each, told what to do and telling what happens line by line.

use std::f64::consts::TAU;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;
use std::{env, fs, thread};

use super::{Lab, PATIENCE, Side};

/// A phone. It plays a tone into each call, records what it hears, and answers each call itself.
pub struct Phone {
    name: &'static str,
    process: Child,
    input: Option<ChildStdin>,
    events: Receiver<String>,
    heard: PathBuf,
}

impl Phone {
    /// Starts `name`@lab.test behind the proxy `proxy`. `transport` is `udp` or `tcp`; `tone` is in Hz, whole.
    pub fn start(
        lab: &Lab,
        side: Side,
        (name, address): (&'static str, &str),
        (transport, proxy): (&str, &str),
        tone: u32,
    ) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/phone.py");
        let mut process = lab
            .timed(side, 60, interpreter().to_str().expect("the target directory is UTF-8"))
            .arg(program)
            .args([name, address, transport, proxy, &tone.to_string()])
            .arg(&lab.state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip starts");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("output is piped"));
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let heard = lab.state.join(format!("{name}-heard.wav"));
        let phone = Self { name, process, input, events, heard };
        phone.expect("ready");
        phone
    }

    /// Tells it to do something.
    pub fn say(&mut self, command: &str) {
        let input = self.input.as_mut().expect("the phone is on");
        writeln!(input, "{command}").expect("the phone listens");
    }

    /// Waits until something happens that begins like this. What happens before is passed over.
    pub fn expect(&self, beginning: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        while let Ok(line) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.starts_with(beginning) {
                return line;
            }
            passed.push(line);
        }
        panic!("{}: no '{beginning}' but {passed:#?}", self.name)
    }

    /// Registers, or does so again.
    pub fn register(&mut self) {
        self.say("register");
        self.expect("registered 200 ");
    }

    /// What its own RTP statistics say of the call: packets sent, received and lost.
    pub fn count(&mut self) -> [u32; 3] {
        self.say("count");
        let line = self.expect("sent ");
        let numbers: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        numbers.try_into().expect("three numbers")
    }

    /// Ends it and returns which share of all that it heard was each of these tones.
    pub fn hear(mut self, tones: &[u32]) -> Vec<f64> {
        drop(self.input.take());
        self.process.wait().expect("a child can be waited for");
        let file = fs::read(&self.heard).expect("the phone recorded");
        // The header of such a file has 44 bytes.
        let samples: Vec<f64> = file[44..]
            .chunks_exact(2)
            .map(|bytes| f64::from(i16::from_le_bytes(bytes.try_into().expect("two bytes"))))
            .collect();
        tones.iter().map(|&tone| share_of(tone, &samples)).collect()
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Why no phone can be started here, if so.
pub fn obstacle() -> Option<String> {
    let file = interpreter();
    (!file.exists())
        .then(|| format!("{} is missing: PJSIP is not installed (scripts/setup lab)", file.display()))
}

/// The Python that `scripts/setup lab` gave PJSIP to.
pub fn interpreter() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab-python").join("bin/python")
}

/// How much of the energy of 8 kHz samples is in one tone (Goertzel's question, put to each tenth of a second).
fn share_of(tone: u32, samples: &[f64]) -> f64 {
    let energy: f64 = samples.iter().map(|sample| sample * sample).sum();
    let in_tone = |part: &[f64]| {
        let step = TAU * f64::from(tone) / 8_000.0;
        let (cosines, sines) = part.iter().enumerate().fold((0.0, 0.0), |(cosines, sines), (at, sample)| {
            let angle = step * at as f64;
            (cosines + sample * angle.cos(), sines + sample * angle.sin())
        });
        2.0 * (cosines * cosines + sines * sines) / part.len() as f64
    };
    samples.chunks_exact(800).map(in_tone).sum::<f64>() / energy.max(1.0)
}
