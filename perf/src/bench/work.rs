//! What is measured, and of which devices.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::bench::device::Device;
use crate::generator::flow::{Protocol, Sizes};

/// A piece of work, given to several devices in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Work {
    /// What is done.
    pub kind: Kind,
    /// Flows.
    pub flows: u32,
    /// Lengths of frames.
    pub sizes: Sizes,
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Who does it, in this order.
    pub devices: Vec<Device>,
}

/// What is done with flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// All are opened; then packets of any, both ways, as fast as they go.
    Rate,
    /// Every packet is a new flow; none comes back.
    SetUp,
    /// TCP connections: all are opened (SYN, SYN, data), then all closed (FIN, FIN, ACK).
    Connections,
    /// How long packets take at half of the rate that algate reaches.
    Latency,
    /// The highest rate without loss, as RFC 2544 searches it.
    Lossless,
    /// What 1 % of round trips through an ALG cost the others.
    AlgCost,
    /// What two threads of the engine carry on one table, in process, beside one.
    TwoWorkers,
}

/// Which works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// What tells most: under five minutes.
    Quick,
    /// Every line of the table of goals.
    Goals,
    /// Everything.
    Full,
}

impl Work {
    /// `kind` with `flows` UDP flows, of the limit and of NAT.
    #[must_use]
    pub fn new(kind: Kind, flows: u32, sizes: Sizes) -> Self {
        let devices = match kind {
            Kind::Rate | Kind::Lossless => vec![Device::Io, Device::Nat],
            Kind::SetUp => vec![Device::NatBlocks],
            Kind::Connections | Kind::TwoWorkers => vec![Device::Nat],
            // The rate follows from the first.
            Kind::Latency => vec![Device::Nat, Device::Io],
            Kind::AlgCost => vec![Device::NatSip],
        };
        let protocol = if kind == Kind::Connections { Protocol::Tcp } else { Protocol::Udp };
        Self { kind, flows, sizes, protocol, devices }
    }

    /// The same for other devices.
    #[must_use]
    pub fn of(self, devices: &[Device]) -> Self {
        Self { devices: devices.to_vec(), ..self }
    }

    /// The same with TCP.
    #[must_use]
    pub fn over_tcp(self) -> Self {
        Self { protocol: Protocol::Tcp, ..self }
    }

    /// As tables call it.
    #[must_use]
    pub fn name(&self) -> String {
        let frames = match self.sizes {
            Sizes::Fixed(bytes) => format!("{bytes} B"),
            Sizes::Imix => "IMIX".to_owned(),
        };
        let protocol = if self.protocol == Protocol::Tcp { ", TCP" } else { "" };
        let kind = match self.kind {
            Kind::Rate => "",
            Kind::SetUp => ", set-up",
            Kind::Connections => ", connections",
            Kind::Latency => ", latency",
            Kind::Lossless => ", lossless",
            Kind::AlgCost => ", 1 % SIP",
            Kind::TwoWorkers => ", two workers",
        };
        format!("{frames}, {}{protocol}{kind}", count_name(self.flows))
    }
}

impl Suite {
    /// Its works, in their order.
    #[must_use]
    pub fn works(self) -> Vec<Work> {
        let rate = |flows, sizes| Work::new(Kind::Rate, flows, sizes);
        match self {
            Self::Quick => vec![
                rate(THOUSAND, SHORT),
                rate(1 << 20, SHORT),
                rate(1 << 20, Sizes::Imix),
                Work::new(Kind::SetUp, 1 << 20, SHORT),
            ],
            Self::Goals => vec![
                rate(THOUSAND, SHORT),
                rate(1 << 16, SHORT),
                rate(1 << 20, SHORT),
                rate(1 << 20, Sizes::Imix),
                rate(THOUSAND, LONG),
                Work::new(Kind::SetUp, 1 << 20, SHORT),
                Work::new(Kind::Latency, THOUSAND, SHORT),
                Work::new(Kind::AlgCost, THOUSAND, SHORT),
                Work::new(Kind::TwoWorkers, 1 << 16, SHORT),
                rate(1 << 24, SHORT),
            ],
            Self::Full => {
                let all = [Device::Io, Device::Mac, Device::Swap, Device::Route, Device::Nat];
                let mut works = vec![rate(1, SHORT), rate(THOUSAND, SHORT).of(&all)];
                works.extend([1 << 16, 1 << 20, 1 << 22, 1 << 24].map(|flows| rate(flows, SHORT)));
                for flows in [THOUSAND, 1 << 20] {
                    works.push(rate(flows, Sizes::Imix));
                    works.push(rate(flows, LONG));
                    works.push(rate(flows, SHORT).over_tcp());
                }
                works.push(Work::new(Kind::SetUp, 1 << 20, SHORT).of(&[Device::NatBlocks, Device::Nat]));
                works.push(Work::new(Kind::Connections, 1 << 18, SHORT));
                works.push(Work::new(Kind::AlgCost, THOUSAND, SHORT));
                works.push(Work::new(Kind::Latency, THOUSAND, SHORT));
                works.push(Work::new(Kind::Lossless, THOUSAND, SHORT));
                works.push(Work::new(Kind::TwoWorkers, 1 << 16, SHORT));
                works
            }
        }
    }

    /// As its results are called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Goals => "goals",
            Self::Full => "full",
        }
    }

    /// After that long nothing is measured again because a core was shared.
    #[must_use]
    pub const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Quick => 240,
            Self::Goals => 660,
            Self::Full => 9000,
        })
    }

    /// Rounds, unless others are asked for.
    #[must_use]
    pub const fn rounds(self) -> u32 {
        match self {
            Self::Quick | Self::Goals => 3,
            Self::Full => 5,
        }
    }
}

/// 1000 as "1 k", 1,048,576 as "1 M".
#[must_use]
pub fn count_name(count: u32) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => format!("{} k", count / if count.is_power_of_two() { 1024 } else { 1000 }),
        _ => format!("{} M", count >> 20),
    }
}

/// The shortest frame.
pub const SHORT: Sizes = Sizes::Fixed(64);
/// The longest untagged frame.
pub const LONG: Sizes = Sizes::Fixed(1514);
/// Few enough for the second-level cache.
pub const THOUSAND: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::goals::{Extra, judge};

    #[test]
    fn names_are_those_of_the_goals() {
        let names: Vec<String> = Suite::Quick.works().iter().map(Work::name).collect();
        assert_eq!(names, ["64 B, 1 k", "64 B, 1 M", "IMIX, 1 M", "64 B, 1 M, set-up"]);
        let all: Vec<String> = Suite::Goals.works().iter().map(Work::name).collect();
        for goal in judge(&[], &Extra::default()) {
            for work in goal.works {
                assert!(all.iter().any(|name| name == work), "{work} is measured by --goals");
            }
        }
        assert_eq!(count_name(1 << 16), "64 k");
        assert_eq!(count_name(1 << 24), "16 M");
    }
}
