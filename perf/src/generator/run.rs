//! A measurement: open every flow, warm up, measure, report.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hint::spin_loop;
use std::time::Duration;

use crate::clock::{ticks, ticks_per_nano};
use crate::generator::dpdk::{Environment, Packet};
use crate::generator::flow::{self, Fault, Treatment};
use crate::generator::link::Link;
use crate::items::Random;
use crate::sample::Samples;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the device does.
    pub treatment: Treatment,
    /// Flows.
    pub flows: u32,
    /// Length of every packet, bytes.
    pub bytes: usize,
    /// Round trips in flight; fewer than a ring holds, or the device must drop some.
    pub window: usize,
    /// Before the measurement.
    pub warm_up: Duration,
    /// The measurement.
    pub duration: Duration,
    /// First and last address of the device's pool.
    pub pool: (u32, u32),
}

/// What was measured.
#[derive(Debug, Default, Clone)]
pub struct Report {
    counts: Counts,
    /// Ticks per packet through the device, of each undisturbed slot.
    slots: Samples,
    disturbed_slots: u64,
    /// Share of the undisturbed time in which the generator had nothing to do.
    idle: f64,
    /// Packets through the device in the whole measurement, disturbed slots included, per second.
    overall_per_second: f64,
    /// Time to open all flows, one round trip each.
    opening: Duration,
    flows: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Packets that came through the device, either way, and were right.
    good: u64,
    /// Packets that came with a fault.
    bad: u64,
    /// Packets that did not come.
    lost: u64,
}

/// A piece of the measurement.
struct Slot {
    start: u64,
    /// Good packets, and time without work, before it.
    good: u64,
    idle_ticks: u64,
    is_disturbed: bool,
}

/// Both links, and the packets on their way.
#[derive(Debug)]
pub struct Generator<'a> {
    environment: &'a Environment,
    internal: Link,
    external: Link,
    plan: Plan,
    random: Random,
    in_flight: usize,
    counts: Counts,
    last_progress: u64,
    /// Time in which there was nothing to do.
    idle_ticks: u64,
    ticks_per_nano: f64,
    received: Vec<Packet>,
    ready: Vec<Packet>,
}

/// Which flow goes next.
enum Order<'a> {
    /// Each flow once; what the outside sees of it is noted.
    Opening { next: u32, seen: &'a mut Vec<(u32, u16)> },
    /// Any, until the end.
    Random,
}

impl<'a> Generator<'a> {
    /// On two links whose device has been introduced.
    #[must_use]
    pub fn new(environment: &'a Environment, internal: Link, external: Link, plan: Plan) -> Self {
        Self {
            environment,
            internal,
            external,
            plan,
            random: Random::default(),
            in_flight: 0,
            counts: Counts::default(),
            last_progress: ticks(),
            idle_ticks: 0,
            ticks_per_nano: ticks_per_nano(),
            received: Vec::with_capacity(BURST),
            ready: Vec::with_capacity(BURST),
        }
    }

    /// Runs the plan.
    ///
    /// # Errors
    /// Flows do not get through, or the device gives two of them the same external endpoint.
    pub fn run(&mut self) -> Result<Report, String> {
        let opening = self.open()?;
        let rate = ticks_per_nano();
        let ticks_of = |duration: Duration| (duration.as_nanos() as f64 * rate) as u64;
        let warm = ticks() + ticks_of(self.plan.warm_up);
        while ticks() < warm {
            self.turn(&mut Order::Random);
        }
        let (start, slot_ticks) = (ticks(), ticks_of(SLOT));
        let (end, patience) = (start + ticks_of(self.plan.duration), ticks_of(PAUSE));
        let mut report = Report { opening, flows: self.plan.flows, ..Report::default() };
        let before = self.counts;
        let (mut idle_ticks, mut clean_ticks, mut now) = (0, 0, start);
        let mut slot = self.slot(start);
        while now < end {
            self.turn(&mut Order::Random);
            let then = ticks();
            // Neither a turn nor the device's silence takes that long, unless one of us lost its core.
            slot.is_disturbed |= then - now > patience || then - self.last_progress > patience;
            now = then;
            if now - slot.start >= slot_ticks {
                let packets = self.counts.good - slot.good;
                if slot.is_disturbed || packets == 0 {
                    report.disturbed_slots += 1;
                } else {
                    report.slots.push(now - slot.start, packets);
                    idle_ticks += self.idle_ticks - slot.idle_ticks;
                    clean_ticks += now - slot.start;
                }
                slot = self.slot(now);
            }
        }
        let seconds = (now - start) as f64 / rate / 1e9;
        report.counts =
            Counts { good: self.counts.good - before.good, bad: self.counts.bad, lost: self.counts.lost };
        report.idle = idle_ticks as f64 / (clean_ticks as f64).max(1.0);
        report.overall_per_second = report.counts.good as f64 / seconds;
        self.drain();
        Ok(report)
    }

    fn slot(&self, start: u64) -> Slot {
        Slot { start, good: self.counts.good, idle_ticks: self.idle_ticks, is_disturbed: false }
    }

    /// Sends one packet of each flow and waits until all have come back.
    ///
    /// # Errors
    /// Some have not.
    fn open(&mut self) -> Result<Duration, String> {
        let mut seen = vec![(0, 0); self.plan.flows as usize];
        let start = ticks();
        let mut order = Order::Opening { next: 0, seen: &mut seen };
        loop {
            self.turn(&mut order);
            let Order::Opening { next, .. } = order else { break };
            if next >= self.plan.flows && self.in_flight == 0 {
                break;
            }
        }
        let took = Duration::from_nanos(((ticks() - start) as f64 / ticks_per_nano()) as u64);
        let Counts { lost, bad, .. } = self.counts;
        let missing = seen.iter().filter(|external| **external == (0, 0)).count();
        if missing > 0 {
            return Err(format!(
                "{missing} of {} flows do not get through (lost {lost}, bad {bad})",
                self.plan.flows
            ));
        }
        let mut taken = HashSet::with_capacity(seen.len());
        if let Some((address, l4_port)) = seen.iter().find(|external| !taken.insert(**external)) {
            let address = std::net::Ipv4Addr::from(*address);
            return Err(format!("two flows leave from {address}:{l4_port}"));
        }
        Ok(took)
    }

    /// Once round: receive, check, send. When there was little to do, lets the device gather a burst: a ring that
    /// both sides touch for every packet costs both of them more than the packet.
    #[inline]
    fn turn(&mut self, order: &mut Order<'_>) {
        self.internal.flush();
        self.external.flush();
        let moved = self.turn_external(order) + self.turn_internal();
        self.fill(order);
        if moved < BURST {
            let start = ticks();
            if moved == 0 {
                self.give_up();
            }
            let breath = (BREATH.as_nanos() as f64 * self.ticks_per_nano) as u64;
            while ticks() - start < breath {
                spin_loop();
            }
            self.idle_ticks += ticks() - start;
        }
    }

    /// What came through to the external link goes back.
    #[inline]
    fn turn_external(&mut self, order: &mut Order<'_>) -> usize {
        self.external.receive(&mut self.received);
        let received = self.received.len();
        if received == 0 {
            return 0;
        }
        prefetch(&self.received);
        for mut packet in self.received.drain(..) {
            match flow::check_outbound(packet.bytes(), self.plan.treatment, self.plan.pool) {
                Ok((name, external)) => {
                    if let Order::Opening { seen, .. } = order
                        && let Some(place) = seen.get_mut(name as usize)
                    {
                        *place = external;
                    }
                    self.counts.good += 1;
                    flow::reflect(packet.bytes(), self.external.mac, self.external.device_mac);
                    self.ready.push(packet);
                }
                Err(fault) => {
                    self.counts.bad += fault_of(&mut self.external, self.environment, fault, packet)
                }
            }
        }
        self.last_progress = ticks();
        self.external.send(&mut self.ready);
        received
    }

    /// What came back to the internal link has done its round trip.
    #[inline]
    fn turn_internal(&mut self) -> usize {
        self.internal.receive(&mut self.received);
        let received = self.received.len();
        if received == 0 {
            return 0;
        }
        prefetch(&self.received);
        for mut packet in self.received.drain(..) {
            match flow::check_inbound(packet.bytes()) {
                Ok(_) => {
                    self.counts.good += 1;
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.ready.push(packet);
                }
                Err(fault) => {
                    self.counts.bad += fault_of(&mut self.internal, self.environment, fault, packet)
                }
            }
        }
        self.last_progress = ticks();
        received
    }

    /// Sends as many new packets as the window has room for, in the buffers of those that came back.
    #[inline]
    fn fill(&mut self, order: &mut Order<'_>) {
        let room = self.plan.window.saturating_sub(self.in_flight).min(BURST);
        let wanted = match order {
            Order::Opening { next, .. } => room.min((self.plan.flows - *next) as usize),
            Order::Random => room,
        };
        if wanted == 0 {
            return self.ready.clear();
        }
        self.ready.truncate(wanted);
        for packet in &mut self.ready {
            let flow = next_flow(order, &mut self.random, self.plan.flows);
            flow::write(packet.bytes(), flow, self.internal.mac, self.internal.device_mac);
        }
        while self.ready.len() < wanted
            && let Some(mut packet) = self.environment.packet()
        {
            let flow = next_flow(order, &mut self.random, self.plan.flows);
            packet.set_length(self.plan.bytes);
            packet.bytes().fill(0);
            flow::write(packet.bytes(), flow, self.internal.mac, self.internal.device_mac);
            self.ready.push(packet);
        }
        self.in_flight += self.ready.len();
        self.internal.send(&mut self.ready);
    }

    /// Packets that have not come for a long time will not come.
    #[cold]
    fn give_up(&mut self) {
        let silent = (ticks() - self.last_progress) as f64 / ticks_per_nano();
        if silent > LOST_AFTER.as_nanos() as f64 {
            self.counts.lost += self.in_flight as u64;
            self.in_flight = 0;
            self.last_progress = ticks();
        }
    }

    /// Lets what is on its way arrive: a device must not lose its peer under traffic.
    fn drain(&mut self) {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            self.internal.flush();
            self.external.flush();
            self.turn_external(&mut Order::Random);
            self.turn_internal();
            self.ready.clear();
        }
    }
}

impl Report {
    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let rate = ticks_per_nano();
        let (low, median, high) =
            (self.slots.quantile(0.1), self.slots.quantile(0.5), self.slots.quantile(0.9));
        let mpps = |cycles: f64| if cycles > 0.0 { rate * 1e3 / cycles } else { 0.0 };
        let slots = self.slots.count() as f64;
        let clean = slots / (slots + self.disturbed_slots as f64).max(1.0);
        let mut line = String::new();
        let _ = write!(
            line,
            "{{\"flows\":{},\"mpps\":{:.3},\"cycles\":{median:.1},\"cycles_p10\":{low:.1},\"cycles_p90\":{high:.1},\
             \"mpps_overall\":{:.3},\"good\":{},\"bad\":{},\"lost\":{},\"generator_idle\":{:.3},\
             \"clean_slots\":{clean:.3},\"opened_per_second\":{:.0},\"tsc_ghz\":{rate:.3}}}",
            self.flows,
            mpps(median),
            self.overall_per_second / 1e6,
            self.counts.good,
            self.counts.bad,
            self.counts.lost,
            self.idle,
            f64::from(self.flows) / self.opening.as_secs_f64().max(1e-9),
        );
        line
    }
}

/// Packets that are not right: 1 to count, 0 when it was ARP.
#[cold]
fn fault_of(link: &mut Link, environment: &Environment, fault: Fault, mut packet: Packet) -> u64 {
    let is_arp = fault == Fault::Foreign && link.other(environment, packet.bytes());
    u64::from(!is_arp)
}

#[inline]
fn next_flow(order: &mut Order<'_>, random: &mut Random, flows: u32) -> u32 {
    match order {
        Order::Opening { next, .. } => {
            *next += 1;
            *next - 1
        }
        Order::Random => random.below(flows),
    }
}

/// The device's core wrote descriptors and bytes; they are fetched all at once rather than one by one.
#[inline]
fn prefetch(packets: &[Packet]) {
    packets.iter().for_each(Packet::prefetch);
    packets.iter().for_each(Packet::prefetch_bytes);
}

const BURST: usize = 128;
/// The time in which a fast device handles a few dozen packets.
const BREATH: Duration = Duration::from_nanos(1000);
/// Time is cut into slots; one in which either side lost its core does not count.
const SLOT: Duration = Duration::from_millis(1);
/// No turn of either side takes that long by itself.
const PAUSE: Duration = Duration::from_micros(150);
const LOST_AFTER: Duration = Duration::from_millis(500);
