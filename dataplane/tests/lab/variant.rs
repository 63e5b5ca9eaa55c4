//! Circumstances that no dialogue chooses: what every protocol's programs must bear too. The full run takes each of them,
//! every other run the one whose day it is, and says which.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use super::lossy::{Faults, LossyCable};
use super::{Lab, Side, is_full};

/// A way to make things hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The control stream comes in segments of one byte, from both sides.
    Cut,
    /// Frames are lost, repeated and reordered, five percent of each, on the external cable.
    Lossy,
    /// The ALG has a core of its own.
    AlgCore,
    /// The last two at once. (Lost bytes of a stream in bytes would take minutes: what a stage keeps out of order has few
    /// gaps.)
    LossyAlgCore,
}

impl Variant {
    pub const ALL: [Self; 4] = [Self::Cut, Self::Lossy, Self::AlgCore, Self::LossyAlgCore];

    /// Those of this run: all of them if it is a full one, else today's. `ALGATE_VARIANT=lossy` makes it another day.
    pub fn chosen() -> Vec<Self> {
        if is_full() {
            return Self::ALL.to_vec();
        }
        let named = env::var("ALGATE_VARIANT").ok();
        let is_named = |variant: &Self| {
            named.as_ref().is_some_and(|name| format!("{variant:?}").eq_ignore_ascii_case(name))
        };
        let today = Self::ALL.into_iter().cycle().nth(day() % Self::ALL.len()).expect("a cycle has no end");
        let variant = Self::ALL.into_iter().find(is_named).unwrap_or(today);
        println!(
            "hostile variant of this run: {variant:?} (ALGATE_VARIANT names another, ALGATE_LAB=full takes all)"
        );
        vec![variant]
    }

    /// The settings of the lab's configuration that belong to it.
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Cut | Self::Lossy => &[],
            Self::AlgCore | Self::LossyAlgCore => &["cores=[0]", "alg_cores=[1]"],
        }
    }

    /// Makes the cables what it needs, for a protocol with this control port, before algate starts.
    pub fn cables(self, lab: &Lab, control_port: u16) -> Vec<LossyCable> {
        match self {
            Self::AlgCore => Vec::new(),
            Self::Lossy | Self::LossyAlgCore => vec![lab.lossy_cable(Side::Ex, Faults::USUAL)],
            Self::Cut => {
                [Side::In, Side::Ex].map(|side| lab.bad_cable(side, Faults::NONE, control_port)).into()
            }
        }
    }
}

/// Days since 1970: what chooses in everyday runs.
pub fn day() -> usize {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    (since.as_secs() / 86_400) as usize
}
