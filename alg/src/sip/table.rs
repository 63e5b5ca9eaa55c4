//! Memory for the calls of all signalling flows of one thread, taken at start.
//!
//! A call is found by its flow and the name of its Call-ID, at a cost that does not depend on how many there are. Each
//! flow is sure of [`SURE_CALLS`]; beyond these, flows share what is left, and none has more than the operator lets it. So a
//! trunk has its hundreds, and no flow can take away what a phone needs.
//!
//! A dialogue may go on over another flow: a phone has a new port, a proxy opens another connection. The first message of a
//! call that comes by another flow between the same two hosts, with both tags, takes the call along ([`CallTable::adopt`]);
//! nobody else can. As long as it rings an answer to its INVITE does so, too, which may be the first to bear its tag.
//!
//! The calls of a flow stand in two rows, by whether they were answered, each in the order in which they were last
//! heard of: the first of the unanswered row is who makes room.

use std::collections::HashMap;

use crate::contract::SessionEndpoints;

use super::call::{Call, Heard};
use super::scratch::Scratch;

/// The calls of one thread.
#[derive(Debug)]
pub struct CallTable {
    slots: Box<[Slot]>,
    free: Vec<u32>,
    flows: Box<[Flow]>,
    free_flows: Vec<u32>,
    /// Flow and name of the Call-ID, to slot. At most half full, so it cleans up in place and never grows.
    index: HashMap<(u32, u64), u32>,
    /// Two hosts and name of the Call-ID, to the slot of a call that rings or was answered. As full as the other at most.
    by_hosts: HashMap<(u64, u64), u32>,
    /// Calls that flows may still have beyond those they are sure of.
    shared: usize,
    calls_per_flow: usize,
    /// Away while a message is decided.
    pub(super) scratch: Option<Box<Scratch>>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    call: Call,
    flow: u32,
    hosts: Hosts,
    /// It is found by its hosts.
    is_noted: bool,
    older: u32,
    newer: u32,
}

/// One flow's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowCalls(u32);

/// Where a call is, until it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

/// The calls of one flow.
#[derive(Debug, Clone, Copy)]
struct Flow {
    count: usize,
    rows: [Row; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    oldest: u32,
    newest: u32,
}

/// The two ends of a flow, whatever their ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hosts {
    /// Their own addresses, the lower one first; 0 where both are the same.
    name: u64,
    /// The originator has the higher one.
    turned: bool,
}

impl Hosts {
    pub(super) fn of(endpoints: &SessionEndpoints) -> Self {
        let [one, other] =
            [endpoints.originator, endpoints.responder].map(|end| u64::from(u32::from(*end.ip())));
        let name = if one == other { 0 } else { (one.min(other) << 32) | one.max(other) };
        Self { name, turned: one > other }
    }
}

impl FlowCalls {
    /// Of one that has had no call yet.
    pub(super) const fn new() -> Self {
        Self(NONE)
    }
}

impl Flow {
    const fn new() -> Self {
        Self { count: 0, rows: [Row { oldest: NONE, newest: NONE }; 2] }
    }
}

impl CallTable {
    /// Room for the sure calls of `flows` flows and for `calls` more; one flow may have `calls_per_flow`.
    #[must_use]
    pub fn new(flows: usize, calls: usize, calls_per_flow: usize) -> Self {
        let capacity = u32::try_from(Self::room(flows, calls)).unwrap_or(NONE);
        let nobody = Hosts { name: 0, turned: false };
        let free = Slot {
            call: Call::new(0, 0),
            flow: NONE,
            hosts: nobody,
            is_noted: false,
            older: NONE,
            newer: NONE,
        };
        Self {
            slots: vec![free; capacity as usize].into(),
            free: (0..capacity).rev().collect(),
            flows: vec![Flow::new(); flows].into(),
            free_flows: (0..u32::try_from(flows).unwrap_or(NONE)).rev().collect(),
            index: HashMap::with_capacity(2 * capacity as usize),
            by_hosts: HashMap::with_capacity(2 * capacity as usize),
            shared: calls,
            calls_per_flow,
            scratch: Some(Box::default()),
        }
    }

    /// How many calls [`CallTable::new`] makes room for.
    #[must_use]
    pub const fn room(flows: usize, calls: usize) -> usize {
        flows.saturating_mul(SURE_CALLS).saturating_add(calls)
    }

    /// What it takes when made for as many, bytes.
    #[must_use]
    pub const fn bytes(flows: usize, calls: usize) -> usize {
        let room = Self::room(flows, calls);
        // Of the places in a hash map, each with its tag, seven of eight may be taken.
        let places = (2 * room * 8 / 7).next_power_of_two();
        room * (size_of::<Slot>() + size_of::<u32>())
            + flows * (size_of::<Flow>() + size_of::<u32>())
            + places * (size_of::<((u32, u64), u32)>() + size_of::<((u64, u64), u32)>() + 2)
            + Scratch::BYTES
    }

    /// Calls that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no call is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Where the flow's call of this name is.
    pub(super) fn find(&self, of: FlowCalls, name: u64) -> Option<Place> {
        self.index.get(&(of.0, name)).copied().map(Place)
    }

    /// The call at `place`.
    pub(super) fn call(&mut self, place: Place) -> Option<&mut Call> {
        self.slots.get_mut(place.0 as usize).map(|slot| &mut slot.call)
    }

    /// Begins a call that the flow, between `hosts`, does not have. `None`: there is no room.
    #[must_use]
    pub(super) fn insert(&mut self, of: &mut FlowCalls, hosts: Hosts, call: &Call) -> Option<Place> {
        if !self.has_room(*of) {
            return None;
        }
        if *of == FlowCalls::new() {
            *of = FlowCalls(self.free_flows.pop()?);
        }
        let at = self.free.pop()?;
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.call = *call;
            (slot.flow, slot.hosts, slot.is_noted) = (of.0, hosts, false);
        }
        if let Some(flow) = self.flows.get_mut(of.0 as usize) {
            self.shared -= usize::from(flow.count >= SURE_CALLS);
            flow.count += 1;
        }
        self.index.insert((of.0, call.name), at);
        self.append(at);
        Some(Place(at))
    }

    /// Whether a flow may have one call more.
    fn has_room(&self, of: FlowCalls) -> bool {
        let count = self.flows.get(of.0 as usize).map_or(0, |flow| flow.count);
        count < self.calls_per_flow && (count < SURE_CALLS || self.shared > 0)
    }

    /// Takes the call that `heard` names from another flow between the same `hosts`, for a flow that has none of that name. It is
    /// turned if that flow had the ends the other way round.
    pub(super) fn adopt(&mut self, of: &mut FlowCalls, hosts: Hosts, heard: &Heard) -> Option<Place> {
        if self.by_hosts.is_empty() {
            return None;
        }
        let at = *self.by_hosts.get(&(hosts.name, heard.name))?;
        let slot = *self.slots.get(at as usize).filter(|slot| slot.call.is_named_by(heard))?;
        if !self.has_room(*of) {
            return None;
        }
        self.remove(Place(at));
        let mut call = slot.call;
        if slot.hosts.turned != hosts.turned {
            call.turn();
        }
        // In the slot that has just become free.
        let place = self.insert(of, hosts, &call)?;
        self.note(place);
        Some(place)
    }

    /// Notes that the call was heard of; it is the last of its row then.
    pub(super) fn touch(&mut self, place: Place) {
        self.take_out(place.0);
        self.append(place.0);
    }

    /// Notes a 2xx of the fork `tag`.
    pub(super) fn answer(&mut self, place: Place, tag: u32) {
        self.change(place, |call| call.answer(tag));
        self.note(place);
    }

    /// Notes a 1xx of the fork `tag`.
    pub(super) fn ring(&mut self, place: Place, tag: u32) {
        if tag != 0 {
            self.call(place).into_iter().for_each(|call| call.ring(tag));
            self.note(place);
        }
    }

    /// Puts back what a call was.
    pub(super) fn restore(&mut self, place: Place, before: &Call) {
        self.change(place, |call| *call = *before);
    }

    /// It may belong into another row afterwards.
    fn change(&mut self, place: Place, change: impl FnOnce(&mut Call)) {
        self.take_out(place.0);
        if let Some(call) = self.call(place) {
            change(call);
        }
        self.append(place.0);
    }

    /// Forgets a call.
    pub(super) fn remove(&mut self, place: Place) {
        self.take_out(place.0);
        let Some(Slot { call, flow, hosts, is_noted, .. }) = self.slots.get(place.0 as usize) else { return };
        self.index.remove(&(*flow, call.name));
        if *is_noted {
            self.by_hosts.remove(&(hosts.name, call.name));
        }
        if let Some(flow) = self.flows.get_mut(*flow as usize) {
            self.shared += usize::from(flow.count > SURE_CALLS);
            flow.count = flow.count.saturating_sub(1);
        }
        self.free.push(place.0);
    }

    /// The call that makes room: not that at `keep`, unanswered ones first, then whatever was not heard of for longest.
    pub(super) fn oldest(&self, of: FlowCalls, keep: Option<Place>) -> Option<Place> {
        let keep = keep.map_or(NONE, |place| place.0);
        self.flows.get(of.0 as usize)?.rows.iter().find_map(|row| {
            let first = self.slots.get(row.oldest as usize)?;
            let at = if row.oldest == keep { first.newer } else { row.oldest };
            (at != NONE).then_some(Place(at))
        })
    }

    /// Forgets all calls of a flow.
    pub(super) fn end(&mut self, of: &mut FlowCalls) {
        while let Some(place) = self.oldest(*of, None) {
            self.remove(place);
        }
        if *of != FlowCalls::new() {
            self.free_flows.push(of.0);
        }
        *of = FlowCalls::new();
    }

    /// From now on other flows between the same hosts find it, unless one has such a call already.
    fn note(&mut self, place: Place) {
        let Some(slot) = self.slots.get_mut(place.0 as usize) else { return };
        if !slot.is_noted && slot.hosts.name != 0 {
            let noted = self.by_hosts.entry((slot.hosts.name, slot.call.name)).or_insert(place.0);
            slot.is_noted = *noted == place.0;
        }
    }

    /// The row of the call at `at`, and its neighbours there.
    fn row_of(&mut self, at: u32) -> Option<(&mut Row, u32, u32)> {
        let slot = self.slots.get(at as usize)?;
        let row = if slot.call.answered { ANSWERED } else { UNANSWERED };
        let row = self.flows.get_mut(slot.flow as usize)?.rows.get_mut(row)?;
        Some((row, slot.older, slot.newer))
    }

    fn append(&mut self, at: u32) {
        let Some((row, ..)) = self.row_of(at) else { return };
        let older = std::mem::replace(&mut row.newest, at);
        if older == NONE {
            row.oldest = at;
        }
        if let Some(slot) = self.slots.get_mut(older as usize) {
            slot.newer = at;
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.older, slot.newer) = (older, NONE);
        }
    }

    fn take_out(&mut self, at: u32) {
        let Some((row, older, newer)) = self.row_of(at) else { return };
        if older == NONE {
            row.oldest = newer;
        }
        if newer == NONE {
            row.newest = older;
        }
        if let Some(slot) = self.slots.get_mut(older as usize) {
            slot.newer = newer;
        }
        if let Some(slot) = self.slots.get_mut(newer as usize) {
            slot.older = older;
        }
    }
}

/// Calls that every flow can have, whatever the others do: one that speaks, one that waits, a transfer, and one more.
pub const SURE_CALLS: usize = 4;
const UNANSWERED: usize = 0;
const ANSWERED: usize = 1;
/// No slot.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests;
