//! Frames that are kept until the rest of their datagram has come: a pool of fixed size, linked into one list per
//! datagram.

use crate::fragment::NONE;
use crate::packet::parse::Ipv4View;

/// A kept fragment.
#[derive(Debug)]
pub struct Kept<F> {
    /// The frame.
    pub frame: F,
    /// Its headers.
    pub view: Ipv4View,
}

/// The kept frames of one datagram, in order of arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };
}

/// All kept frames of a worker.
#[derive(Debug)]
pub(super) struct Pool<F> {
    slots: Box<[Slot<F>]>,
    free: u32,
    in_use: usize,
}

#[derive(Debug)]
struct Slot<F> {
    kept: Option<Kept<F>>,
    /// The next one of the datagram, or the next free one.
    next: u32,
}

impl<F> Pool<F> {
    pub(super) fn new(frames: usize) -> Self {
        let slots = u32::try_from(frames).unwrap_or(NONE - 1);
        let next = |slot| if slot + 1 < slots { slot + 1 } else { NONE };
        Self {
            slots: (0..slots).map(|slot| Slot { kept: None, next: next(slot) }).collect(),
            free: if slots == 0 { NONE } else { 0 },
            in_use: 0,
        }
    }

    pub(super) const fn in_use(&self) -> usize {
        self.in_use
    }

    pub(super) const fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Puts `kept` at the end of `list`.
    ///
    /// # Errors
    ///
    /// Gives it back when the pool is full.
    pub(super) fn push(&mut self, list: &mut List, kept: Kept<F>) -> Result<(), Kept<F>> {
        let at = self.free;
        let Some(slot) = self.slots.get_mut(at as usize) else { return Err(kept) };
        self.free = slot.next;
        *slot = Slot { kept: Some(kept), next: NONE };
        self.in_use += 1;
        match self.slots.get_mut(list.last as usize) {
            Some(last) => last.next = at,
            None => list.first = at,
        }
        list.last = at;
        Ok(())
    }

    /// Takes the first one of `list`.
    pub(super) fn pop(&mut self, list: &mut List) -> Option<Kept<F>> {
        let at = list.first;
        let slot = self.slots.get_mut(at as usize)?;
        let kept = slot.kept.take();
        list.first = slot.next;
        if list.first == NONE {
            list.last = NONE;
        }
        slot.next = self.free;
        self.free = at;
        self.in_use -= 1;
        kept
    }
}
