//! Memory for the calls of all signalling flows of one thread, taken at start.
//!
//! A call is found by its flow and the name of its Call-ID, at a cost that does not depend on how many there are. Each
//! flow is sure of [`SURE_CALLS`]; beyond these, flows share what is left, and none has more than the operator lets it. So a
//! trunk has its hundreds, and no flow can take away what a phone needs.
//!
//! The calls of a flow stand in two rows, by whether they were answered, each in the order in which they were last
//! heard of: the first of the unanswered row is who makes room.

use std::collections::HashMap;

use super::calls::Call;
use super::scratch::Scratch;

/// The calls of one thread.
#[derive(Debug)]
pub struct CallTable {
    slots: Box<[Slot]>,
    free: Vec<u32>,
    /// Flow and name of the Call-ID, to slot. At most half full, so it cleans up in place and never grows.
    index: HashMap<(u32, u64), u32>,
    /// Calls that flows may still have beyond those they are sure of.
    shared: usize,
    calls_per_flow: usize,
    last_flow: u32,
    /// Away while a message is decided.
    pub(super) scratch: Option<Box<Scratch>>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    call: Call,
    older: u32,
    newer: u32,
}

/// One flow's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowCalls {
    /// 0: it has had no call yet.
    flow: u32,
    count: usize,
    rows: [Row; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    oldest: u32,
    newest: u32,
}

impl FlowCalls {
    pub(super) const fn new() -> Self {
        Self { flow: 0, count: 0, rows: [Row { oldest: NONE, newest: NONE }; 2] }
    }
}

impl CallTable {
    /// Room for the sure calls of `flows` flows and for `calls` more; one flow may have `calls_per_flow`.
    #[must_use]
    pub fn new(flows: usize, calls: usize, calls_per_flow: usize) -> Self {
        let capacity = u32::try_from(Self::room(flows, calls)).unwrap_or(NONE);
        let free = Slot { call: Call::new(0), older: NONE, newer: NONE };
        Self {
            slots: vec![free; capacity as usize].into(),
            free: (0..capacity).rev().collect(),
            index: HashMap::with_capacity(2 * capacity as usize),
            shared: calls,
            calls_per_flow,
            last_flow: 0,
            scratch: Some(Box::default()),
        }
    }

    /// How many calls [`CallTable::new`] makes room for.
    #[must_use]
    pub const fn room(flows: usize, calls: usize) -> usize {
        flows.saturating_mul(SURE_CALLS).saturating_add(calls)
    }

    /// What room for that many takes, bytes.
    #[must_use]
    pub const fn bytes(room: usize) -> usize {
        // Of the places in the hash map, each with its tag, seven of eight may be taken.
        let places = (2 * room * 8 / 7).next_power_of_two();
        room * (size_of::<Slot>() + size_of::<u32>())
            + places * (size_of::<((u32, u64), u32)>() + 1)
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

    pub(super) fn find(&mut self, of: &FlowCalls, name: u64) -> Option<&mut Call> {
        let at = *self.index.get(&(of.flow, name))?;
        self.slots.get_mut(at as usize).map(|slot| &mut slot.call)
    }

    /// Begins a call that the flow does not have. `false`: there is no room.
    #[must_use]
    pub(super) fn insert(&mut self, of: &mut FlowCalls, name: u64) -> bool {
        let is_sure = of.count < SURE_CALLS;
        if of.count >= self.calls_per_flow || (!is_sure && self.shared == 0) {
            return false;
        }
        let Some(at) = self.free.pop() else { return false };
        if of.flow == 0 {
            self.last_flow = self.last_flow.wrapping_add(1).max(1);
            of.flow = self.last_flow;
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.call = Call::new(name);
        }
        self.index.insert((of.flow, name), at);
        self.append(of, at, UNANSWERED);
        self.shared -= usize::from(!is_sure);
        of.count += 1;
        true
    }

    /// Notes that the call was heard of; it is the last of its row then.
    pub(super) fn touch(&mut self, of: &mut FlowCalls, name: u64) {
        if let Some(&at) = self.index.get(&(of.flow, name)) {
            let row = self.row_of(at);
            self.take_out(of, at, row);
            self.append(of, at, row);
        }
    }

    /// Notes a 2xx of the fork `tag`.
    pub(super) fn answer(&mut self, of: &mut FlowCalls, name: u64, tag: u32) {
        let Some(&at) = self.index.get(&(of.flow, name)) else { return };
        let row = self.row_of(at);
        self.take_out(of, at, row);
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.call.answer(tag);
        }
        self.append(of, at, ANSWERED);
    }

    /// Puts back what a call was, unless it has ended.
    pub(super) fn restore(&mut self, of: &mut FlowCalls, before: &Call) {
        let Some(&at) = self.index.get(&(of.flow, before.name())) else { return };
        let row = self.row_of(at);
        self.take_out(of, at, row);
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.call = *before;
        }
        let row = self.row_of(at);
        self.append(of, at, row);
    }

    /// Forgets a call.
    pub(super) fn remove(&mut self, of: &mut FlowCalls, name: u64) {
        let Some(at) = self.index.remove(&(of.flow, name)) else { return };
        let row = self.row_of(at);
        self.take_out(of, at, row);
        self.free.push(at);
        self.shared += usize::from(of.count > SURE_CALLS);
        of.count = of.count.saturating_sub(1);
    }

    /// The call that makes room: not `keep`, unanswered ones first, then whatever was not heard of for longest.
    pub(super) fn oldest(&self, of: &FlowCalls, keep: u64) -> Option<&Call> {
        of.rows.iter().find_map(|row| {
            let first = self.slots.get(row.oldest as usize)?;
            if first.call.name() != keep {
                return Some(&first.call);
            }
            self.slots.get(first.newer as usize).map(|second| &second.call)
        })
    }

    /// Forgets all calls of a flow.
    pub(super) fn end(&mut self, of: &mut FlowCalls) {
        for _ in 0..of.count {
            let Some(name) = self.oldest(of, 0).map(Call::name) else { break };
            self.remove(of, name);
        }
        *of = FlowCalls::new();
    }

    fn row_of(&self, at: u32) -> usize {
        let is_answered = self.slots.get(at as usize).is_some_and(|slot| slot.call.is_answered());
        if is_answered { ANSWERED } else { UNANSWERED }
    }

    fn append(&mut self, of: &mut FlowCalls, at: u32, row: usize) {
        let Some(row) = of.rows.get_mut(row) else { return };
        let older = std::mem::replace(&mut row.newest, at);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = at,
            None => row.oldest = at,
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            (slot.older, slot.newer) = (older, NONE);
        }
    }

    fn take_out(&mut self, of: &mut FlowCalls, at: u32, row: usize) {
        let Some(row) = of.rows.get_mut(row) else { return };
        let Some((older, newer)) = self.slots.get(at as usize).map(|slot| (slot.older, slot.newer)) else {
            return;
        };
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => row.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => row.newest = older,
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
mod tests {
    use super::*;

    fn filled(table: &mut CallTable, names: std::ops::RangeInclusive<u64>) -> FlowCalls {
        let mut of = FlowCalls::new();
        for name in names {
            assert!(table.insert(&mut of, name), "{name}");
        }
        of
    }

    fn order(table: &mut CallTable, mut of: FlowCalls) -> Vec<u64> {
        let mut names = Vec::new();
        while let Some(name) = table.oldest(&of, 0).map(Call::name) {
            names.push(name);
            table.remove(&mut of, name);
        }
        names
    }

    #[test]
    fn a_flow_has_what_it_is_sure_of_and_shares_the_rest() {
        let mut table = CallTable::new(2, 3, 6);
        let mut greedy = filled(&mut table, 1..=6);
        assert!(!table.insert(&mut greedy, 7), "its own limit");
        let mut other = filled(&mut table, 1..=5);
        assert!(!table.insert(&mut other, 6), "nothing shared is left");
        let mut late = FlowCalls::new();
        assert!(!table.insert(&mut late, 1), "more flows than there was memory for");
        table.remove(&mut greedy, 3);
        assert!(table.insert(&mut other, 6));
        assert_eq!(table.len(), 11);
        table.end(&mut greedy);
        table.end(&mut other);
        assert!(table.is_empty() && table.shared == 3 && table.free.len() == 11);
    }

    #[test]
    fn calls_of_two_flows_with_one_name_are_two() {
        let mut table = CallTable::new(2, 0, 4);
        let (mut first, second) = (filled(&mut table, 7..=7), filled(&mut table, 7..=7));
        table.remove(&mut first, 7);
        assert!(table.find(&first, 7).is_none() && table.find(&second, 7).is_some());
    }

    #[test]
    fn who_makes_room_is_the_oldest_unanswered_call_then_the_oldest_answered_one() {
        let mut table = CallTable::new(1, 8, 16);
        let mut of = filled(&mut table, 1..=6);
        table.answer(&mut of, 2, 9);
        table.answer(&mut of, 1, 9);
        table.touch(&mut of, 3);
        assert_eq!(table.oldest(&of, 4).map(Call::name), Some(5), "not the one that needs the room");
        let before = *table.find(&of, 5).unwrap();
        table.answer(&mut of, 5, 9);
        table.restore(&mut of, &before);
        assert_eq!(order(&mut table, of), [4, 6, 3, 5, 2, 1]);
        let alone = filled(&mut table, 8..=8);
        assert!(table.oldest(&alone, 8).is_none());
    }

    /// Against a plain list, with every operation in a thousand orders.
    #[test]
    fn the_table_keeps_what_a_plain_list_keeps() {
        let mut table = CallTable::new(1, 28, 32);
        let (mut of, mut model) = (FlowCalls::new(), Vec::<(u64, bool)>::new());
        let mut random = 7u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = 1 + (random >> 33) % 48;
            let at = model.iter().position(|(known, _)| *known == name);
            match ((random >> 60) % 4, at) {
                (0, None) => {
                    assert_eq!(table.insert(&mut of, name), model.len() < 32);
                    if model.len() < 32 {
                        model.push((name, false));
                    }
                }
                (1, Some(at)) => {
                    table.touch(&mut of, name);
                    let call = model.remove(at);
                    model.push(call);
                }
                (2, Some(at)) => {
                    table.answer(&mut of, name, 1);
                    model.remove(at);
                    model.push((name, true));
                }
                (3, Some(at)) => {
                    table.remove(&mut of, name);
                    model.remove(at);
                }
                _ => {}
            }
            let oldest = model.iter().find(|(_, answered)| !answered).or_else(|| model.first());
            assert_eq!(table.oldest(&of, 0).map(Call::name), oldest.map(|(name, _)| *name));
            assert_eq!(table.len(), model.len());
        }
    }
}
