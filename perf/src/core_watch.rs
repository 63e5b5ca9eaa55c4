//! Whether a core is whole: whether its other hyperthread leaves it to us.
//!
//! A virtual processor may run on one hyperthread of a core whose other one is somebody else's. Code that computes then takes
//! up to twice as long, and the machine shows it nowhere: no time is stolen, no clock is slower. So the core is asked: eight
//! independent chains of additions need two cycles a step on a core with four adders, and up to four on half
//! a core; a single chain of multiplications takes three cycles each, shared or not, which gives the length of a cycle.
//! Both together give additions a cycle ([`Reading`]), whatever the clock is just now.
//!
//! [`CoreWatch`] asks a core on which somebody else polls: a thread pinned to it, before all others of the core, computes for 50 us
//! at a time. What is measured meanwhile must leave that time out. It also says how far that core is from the one that asks
//! ([`Trail`]): a virtual machine's processors share a cache at one moment and not at the next, and then half as many packets pass.
//!
//! Not seen: what others do to the caches and the memory.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use core_affinity::CoreId;

use crate::clock::ticks;
use crate::trail::Trail;

/// What a core did at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When it began, in ticks.
    pub begin: u64,
    /// When it ended, in ticks.
    pub end: u64,
    /// Additions a cycle.
    pub adds_per_cycle: f64,
    /// How long a line takes that the asking core has written, nanoseconds; 0: nobody has asked.
    pub hop_nanos: f64,
}

impl Reading {
    /// What the core of this thread does now. Takes 50 us; an interrupt during it does no harm.
    #[must_use]
    pub fn take() -> Self {
        let begin = ticks();
        let (mut adding, mut multiplying) = ([0; PIECES], [0; PIECES]);
        for (adds, multiplications) in adding.iter_mut().zip(&mut multiplying) {
            *adds = time_of(add);
            *multiplications = time_of(multiply);
        }
        let end = ticks();
        adding.sort_unstable();
        multiplying.sort_unstable();
        // The shortest, so that an interrupt makes no core better than it is.
        let cycle = multiplying[0].max(1) as f64 / (MULTIPLICATIONS * CYCLES_A_MULTIPLICATION) as f64;
        let adds_per_cycle = ADDITIONS as f64 * cycle / adding[PIECES / 2].max(1) as f64;
        BEST.fetch_max(adds_per_cycle.to_bits(), Ordering::Relaxed);
        Self { begin, end, adds_per_cycle, hop_nanos: 0.0 }
    }

    /// The same, and how far the core is from the one that has left `trail`.
    fn take_from(trail: &Trail) -> Self {
        let begin = ticks();
        let hop_nanos = trail.follow();
        LEAST_HOP.fetch_min(hop_nanos.to_bits(), Ordering::Relaxed);
        Self { begin, hop_nanos, ..Self::take() }
    }

    /// How much of its core the thread had, 0 to 1: by the best reading of this process, or four additions a cycle, if that is more.
    #[must_use]
    pub fn share(self) -> f64 {
        self.adds_per_cycle / Self::best()
    }

    /// Whether nobody else had a part in it that counts, and the core that asked was near.
    #[must_use]
    pub fn is_whole(self) -> bool {
        let nearest = f64::from_bits(LEAST_HOP.load(Ordering::Relaxed));
        self.share() >= LEAST_WHOLE && self.hop_nanos <= NEAR_NANOS.max(NEAR_TIMES * nearest)
    }

    /// What readings are compared with, additions a cycle.
    #[must_use]
    pub fn best() -> f64 {
        // Positive numbers are ordered as their bits are.
        f64::from_bits(BEST.load(Ordering::Relaxed)).max(IDEAL)
    }
}

/// Reads one core, now and then.
#[derive(Debug)]
pub struct CoreWatch {
    trail: Arc<Trail>,
    questions: Sender<()>,
    readings: Receiver<Reading>,
    is_asked: bool,
}

impl CoreWatch {
    /// Of `core`. Its thread ends with it.
    #[must_use]
    pub fn of(core: CoreId) -> Self {
        let (questions, asked) = channel();
        let (answers, readings) = channel();
        let trail = Arc::new(Trail::default());
        let left = Arc::clone(&trail);
        std::thread::spawn(move || {
            core_affinity::set_for_current(core);
            go_first();
            while asked.recv().is_ok() && answers.send(Reading::take_from(&left)).is_ok() {}
        });
        Self { trail, questions, readings, is_asked: false }
    }

    /// Asks for a reading, unless one is asked for already.
    pub fn ask(&mut self) {
        if !self.is_asked {
            self.trail.leave();
            self.is_asked = self.questions.send(()).is_ok();
        }
    }

    /// The reading that was asked for, when it is there.
    pub fn answer(&mut self) -> Option<Reading> {
        let reading = self.readings.try_recv().ok()?;
        self.is_asked = false;
        Some(reading)
    }

    /// Waits for the reading that was asked for, or for a new one. `None` when there are no more, ever.
    pub fn read(&mut self) -> Option<Reading> {
        self.ask();
        self.is_asked = false;
        self.readings.recv().ok()
    }
}

/// Puts this thread before all others of its core. Where that is not allowed it waits for its turn, a few milliseconds.
fn go_first() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", "10", &thread]).stdout(Stdio::null()).stderr(Stdio::null());
    let _ = command.status();
}

fn time_of(piece: fn()) -> u64 {
    let start = ticks();
    piece();
    ticks() - start
}

/// [`ADDITIONS`] in eight chains.
#[cfg(target_arch = "x86_64")]
fn add() {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = [1_u64, 2, 3, 4, 5, 6, 7, 8];
    for _ in 0..ADDITIONS / (8 * 32) {
        // SAFETY: arithmetic on the named registers only.
        unsafe {
            std::arch::asm!(
                ".rept 32",
                "add {a}, {k}", "add {b}, {k}", "add {c}, {k}", "add {d}, {k}",
                "add {e}, {k}", "add {f}, {k}", "add {g}, {k}", "add {h}, {k}",
                ".endr",
                a = inout(reg) a, b = inout(reg) b, c = inout(reg) c, d = inout(reg) d,
                e = inout(reg) e, f = inout(reg) f, g = inout(reg) g, h = inout(reg) h,
                k = in(reg) 7_u64,
                options(nomem, nostack)
            );
        }
    }
    std::hint::black_box([a, b, c, d, e, f, g, h]);
}

/// [`MULTIPLICATIONS`], each of what the one before gave.
#[cfg(target_arch = "x86_64")]
fn multiply() {
    let mut product = 3_u64;
    for _ in 0..MULTIPLICATIONS / 32 {
        // SAFETY: arithmetic on the named registers only.
        unsafe {
            std::arch::asm!(
                ".rept 32",
                "imul {product}, {k}",
                ".endr",
                product = inout(reg) product,
                k = in(reg) 7_u64,
                options(nomem, nostack)
            );
        }
    }
    std::hint::black_box(product);
}

/// As above; only the best reading says what a whole core does.
#[cfg(not(target_arch = "x86_64"))]
fn add() {
    let mut chains = [1_u64, 2, 3, 4, 5, 6, 7, 8];
    for _ in 0..ADDITIONS / 8 {
        chains = std::hint::black_box(chains.map(|chain| chain.wrapping_add(7)));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply() {
    let mut product = 3_u64;
    for _ in 0..MULTIPLICATIONS {
        product = std::hint::black_box(product.wrapping_mul(7));
    }
}

/// The best reading yet, as bits.
static BEST: AtomicU64 = AtomicU64::new(0);
/// The shortest way from core to core yet, as bits.
static LEAST_HOP: AtomicU64 = AtomicU64::new(f64::MAX.to_bits());
/// A core is near when a line takes no longer, or no longer than so many times the shortest time.
const NEAR_NANOS: f64 = 75.0;
const NEAR_TIMES: f64 = 1.5;
/// Additions a cycle of a whole core, at least: every x86-64 processor since Haswell and Zen.
const IDEAL: f64 = if cfg!(target_arch = "x86_64") { 4.0 } else { f64::MIN_POSITIVE };
/// A core is whole from that share on.
pub const LEAST_WHOLE: f64 = 0.9;
const CYCLES_A_MULTIPLICATION: u64 = 3;
/// 3 us of each, in turn.
const ADDITIONS: u64 = 8 * 32 * 120;
const MULTIPLICATIONS: u64 = 32 * 80;
const PIECES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_answers_once_for_each_question() {
        let mut watch = CoreWatch::of(CoreId { id: 0 });
        assert_eq!(watch.answer(), None);
        watch.ask();
        watch.ask();
        let first = watch.read().unwrap();
        assert_eq!(watch.answer(), None);
        let second = watch.read().unwrap();
        assert!(first.begin < first.end && first.end <= second.begin, "{first:?} {second:?}");
        assert!(first.share() > 0.0 && first.share() <= 1.0, "{first:?}");
    }

    #[test]
    fn nine_tenths_are_a_whole_core() {
        let reading = |share: f64, hop_nanos| Reading {
            begin: 0,
            end: 1,
            adds_per_cycle: share * Reading::best(),
            hop_nanos,
        };
        assert!(reading(0.91, 0.0).is_whole() && !reading(0.89, 0.0).is_whole());
        LEAST_HOP.fetch_min(25_f64.to_bits(), Ordering::Relaxed);
        assert!(reading(1.0, 60.0).is_whole() && !reading(1.0, 150.0).is_whole());
    }
}
