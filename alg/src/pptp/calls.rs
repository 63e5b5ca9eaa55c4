//! The calls of one control session, and the Call IDs of their two ends.

use std::time::Duration;

use crate::contract::{Context, Direction, ExpectationId};

/// One end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// Its Call ID as it knows it.
    pub(super) own: u16,
    /// Its Call ID as the other end knows it.
    pub(super) announced: u16,
    /// What was opened for it.
    pub(super) expectation: Option<ExpectationId>,
}

/// One call: the end that sends in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Call {
    original: Option<End>,
    reply: Option<End>,
}

/// Names one call; valid until one is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallIndex(usize);

/// Calls at one time, at most [`CAPACITY`].
#[derive(Debug)]
pub(super) struct Calls {
    calls: [Call; CAPACITY],
}

/// Calls of one control session. A client holds one; a concentrator has a session per client.
pub(super) const CAPACITY: usize = 16;

impl Calls {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { calls: [Call { original: None, reply: None }; CAPACITY] }
    }

    /// Adds a call that `direction` has asked for. `false`: there is no room.
    pub(super) fn add(&mut self, direction: Direction, end: End) -> bool {
        let free = self.calls.iter_mut().find(|call| **call == Call::default());
        free.map(|call| *call.end_mut(direction) = Some(end)).is_some()
    }

    /// Whether there is no room for another.
    pub(super) fn is_full(&self) -> bool {
        self.calls.iter().all(|call| *call != Call::default())
    }

    /// The call whose end in `direction` has this Call ID of its own.
    pub(super) fn by_own(&self, direction: Direction, call_id: u16) -> Option<CallIndex> {
        self.position(direction, |end| end.own == call_id)
    }

    /// The call whose end in `direction` is known to the other by this Call ID.
    pub(super) fn by_announced(&self, direction: Direction, call_id: u16) -> Option<CallIndex> {
        self.position(direction, |end| end.announced == call_id)
    }

    /// The end of a call that sends in `direction`.
    pub(super) fn end(&self, index: CallIndex, direction: Direction) -> Option<End> {
        self.calls.get(index.0).and_then(|call| call.end(direction))
    }

    /// The answering end of a call.
    pub(super) fn answer(&mut self, index: CallIndex, direction: Direction, end: End) {
        if let Some(call) = self.calls.get_mut(index.0) {
            *call.end_mut(direction) = Some(end);
        }
    }

    /// Ends a call.
    pub(super) fn close(&mut self, index: CallIndex, cx: &mut Context<'_>) {
        if let Some(call) = self.calls.get_mut(index.0) {
            for expectation in std::mem::take(call).expectations() {
                cx.nat.withdraw(expectation);
            }
        }
    }

    /// Ends all calls.
    pub(super) fn close_all(&mut self, cx: &mut Context<'_>) {
        for index in 0..CAPACITY {
            self.close(CallIndex(index), cx);
        }
    }

    /// Gives all calls `lifetime` more.
    pub(super) fn renew(&self, lifetime: Duration, cx: &mut Context<'_>) {
        for expectation in self.calls.iter().flat_map(Call::expectations) {
            // One that is gone came too late.
            let _ = cx.nat.renew(expectation, lifetime, None);
        }
    }

    fn position(&self, direction: Direction, is_meant: impl Fn(End) -> bool) -> Option<CallIndex> {
        self.calls.iter().position(|call| call.end(direction).is_some_and(&is_meant)).map(CallIndex)
    }
}

impl Call {
    const fn end(&self, direction: Direction) -> Option<End> {
        match direction {
            Direction::Original => self.original,
            Direction::Reply => self.reply,
        }
    }

    const fn end_mut(&mut self, direction: Direction) -> &mut Option<End> {
        match direction {
            Direction::Original => &mut self.original,
            Direction::Reply => &mut self.reply,
        }
    }

    fn expectations(&self) -> impl Iterator<Item = ExpectationId> + use<> {
        [self.original, self.reply].into_iter().flatten().filter_map(|end| end.expectation)
    }
}
