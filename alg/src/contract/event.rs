//! What an ALG counts.

/// What an ALG counts. One list for all protocols; `show counters` prints [`Event::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// A message left with its addresses translated.
    Rewritten,
    /// A message names an address that is not its sender's own: nothing opened.
    ForeignAddress,
    /// A message names a port below 1024: nothing opened.
    PrivilegedPort,
    /// A message names port 0: nothing opened.
    PortZero,
    /// A line is longer than the limit: passed, not read.
    LineTooLong,
    /// A command of this protocol that does not parse: passed, nothing opened.
    Malformed,
    /// NAT refused the expectation: nothing opened.
    ExpectationRefused,
    /// The session turned opaque (TLS).
    Opaque,
    /// The first bytes were not the protocol's: no longer read.
    Detached,
    /// A message was taken out of the stream.
    Removed,
    /// The dialogue does not allow this message here: passed, nothing opened.
    OutOfPlace,
    /// More commands without a reply than are tracked: no longer read.
    TooManyOutstanding,
    /// Policy refused a message.
    Denied,
    /// A rewritten message did not read back as meant: the original passed.
    RecheckFailed,
    /// Policy hid what an end said about itself.
    Masked,
}

impl Event {
    /// All events, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Rewritten,
        Self::ForeignAddress,
        Self::PrivilegedPort,
        Self::PortZero,
        Self::LineTooLong,
        Self::Malformed,
        Self::ExpectationRefused,
        Self::Opaque,
        Self::Detached,
        Self::Removed,
        Self::OutOfPlace,
        Self::TooManyOutstanding,
        Self::Denied,
        Self::RecheckFailed,
        Self::Masked,
    ];

    /// The name in counters and logs.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Rewritten => "rewritten",
            Self::ForeignAddress => "foreign_address",
            Self::PrivilegedPort => "privileged_port",
            Self::PortZero => "port_zero",
            Self::LineTooLong => "line_too_long",
            Self::Malformed => "malformed",
            Self::ExpectationRefused => "expectation_refused",
            Self::Opaque => "opaque",
            Self::Detached => "detached",
            Self::Removed => "removed",
            Self::OutOfPlace => "out_of_place",
            Self::TooManyOutstanding => "too_many_outstanding",
            Self::Denied => "denied",
            Self::RecheckFailed => "recheck_failed",
            Self::Masked => "masked",
        }
    }
}

/// Counts of [`Event`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    counts: [u64; Event::ALL.len()],
}

impl Events {
    /// Counts one `event`.
    #[inline]
    pub fn count(&mut self, event: Event) {
        if let Some(count) = self.counts.get_mut(event as usize) {
            *count += 1;
        }
    }

    /// How often `event` happened.
    #[inline]
    #[must_use]
    pub fn of(&self, event: Event) -> u64 {
        self.counts.get(event as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_count_and_a_name_of_its_own() {
        let mut events = Events::default();
        for (index, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, index);
            for _ in 0..=index {
                events.count(event);
            }
            assert_eq!(events.of(event), index as u64 + 1);
            assert_eq!(Event::ALL.iter().filter(|other| other.text() == event.text()).count(), 1);
        }
    }
}
