//! Commands sent and not yet answered, in order.
//!
//! FTP answers commands in the order they were sent (RFC 959 section 5.4), pipelined or not, so a
//! queue is all that matching takes. Memory is part of the value: nothing is allocated.

use crate::contract::ExpectationId;

use super::about::About;
use super::policy::Refusal;

/// The most commands any session can have outstanding.
pub(super) const CAPACITY: usize = 64;

/// A command, as far as its reply matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// PORT or EPRT, with the expectation opened for it, if any.
    Active(Option<ExpectationId>),
    /// PASV
    Pasv,
    /// EPSV
    Epsv,
    /// EPSV ALL
    EpsvAll,
    /// AUTH
    Auth,
    /// USER
    User,
    /// PASS or ACCT
    Login,
    /// A question about the server itself.
    About(About),
    /// One that policy took out: its answer comes from here.
    Refused(Refusal),
    /// Any other.
    Other,
}

/// A queue of [`Awaited`].
#[derive(Debug)]
pub(super) struct Outstanding {
    ring: [Awaited; CAPACITY],
    first: usize,
    length: usize,
    limit: usize,
}

impl Outstanding {
    /// An empty queue for at most `limit` commands (and at most [`CAPACITY`]).
    pub(super) fn new(limit: usize) -> Self {
        Self { ring: [Awaited::Other; CAPACITY], first: 0, length: 0, limit: limit.min(CAPACITY) }
    }

    /// Whether there is no room for another.
    pub(super) fn is_full(&self) -> bool {
        self.length >= self.limit
    }

    /// Adds a command behind the others; it is lost when there is no room.
    pub(super) fn push(&mut self, awaited: Awaited) {
        if self.is_full() {
            return;
        }
        if let Some(slot) = self.ring.get_mut((self.first + self.length) % CAPACITY) {
            *slot = awaited;
            self.length += 1;
        }
    }

    /// Takes the oldest command.
    pub(super) fn pop(&mut self) -> Option<Awaited> {
        if self.length == 0 {
            return None;
        }
        let oldest = self.ring.get(self.first).copied();
        self.first = (self.first + 1) % CAPACITY;
        self.length -= 1;
        oldest
    }

    /// The answers to the oldest commands, as far as those were refused.
    pub(super) fn refused(&self) -> impl Iterator<Item = Refusal> {
        self.iter().map_while(|awaited| match awaited {
            Awaited::Refused(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// What the oldest command that the server was asked wants to know about it.
    pub(super) fn asked_about(&self) -> Option<About> {
        match self.iter().find(|awaited| !matches!(awaited, Awaited::Refused(_)))? {
            Awaited::About(about) => Some(about),
            _ => None,
        }
    }

    /// The commands, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Awaited> {
        self.ring.iter().cycle().skip(self.first).take(self.length).copied()
    }

    /// Whether `awaited` is among them.
    pub(super) fn contains(&self, awaited: Awaited) -> bool {
        self.iter().any(|one| one == awaited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_round_the_end_of_the_ring_and_refuses_beyond_the_limit() {
        let mut queue = Outstanding::new(3);
        for round in 0..2 * CAPACITY as u64 {
            queue.push(Awaited::Active(Some(ExpectationId(round))));
            queue.push(Awaited::Pasv);
            assert!(!queue.is_full());
            queue.push(Awaited::Auth);
            assert!(queue.is_full());
            queue.push(Awaited::Other);
            assert!(queue.contains(Awaited::Auth) && !queue.contains(Awaited::Other));
            assert_eq!(queue.pop(), Some(Awaited::Active(Some(ExpectationId(round)))));
            assert_eq!(queue.iter().collect::<Vec<_>>(), [Awaited::Pasv, Awaited::Auth]);
            assert_eq!(
                (queue.pop(), queue.pop(), queue.pop()),
                (Some(Awaited::Pasv), Some(Awaited::Auth), None)
            );
        }
    }
}
