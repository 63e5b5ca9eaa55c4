//! Which SCTP control chunks count for an association: those that carry the verification tag their receiver chose.
//!
//! RFC 9260 sections 3.1, 5.1 and 8.5. Each end announces a tag in its INIT or INIT ACK, which the other end's packets
//! carry.
//!
//! ```text
//! chunk                  from the internal side         from the external side
//! INIT                   announces its tag              announces its tag while the association opens or closes
//! INIT ACK               announces its tag; carries     must carry the internal tag; announces its own
//!                        the external one
//! COOKIE ECHO            carries the external tag       -
//! ABORT, SHUTDOWN        believed: that host can end    must carry the internal tag, or with the T bit the
//! COMPLETE               its own association anyhow     external one
//! ```
//!
//! A tag that was not seen is unknown, and nothing is refused for its sake. States are TCP's ([`TcpState`]): INIT and
//! INIT ACK count as SYN, the last row as RST, so that what ends wrongly comes back with the next packet.
//!
//! [`TcpState`]: crate::nat::tcp_state::TcpState

use crate::drop_reason::DropReason;
use crate::nat::session::Facing;
use crate::nat::tcp_state::TcpEvent;
use crate::packet::sctp::Chunk;
use crate::table::sync::{AtomicU64, Ordering};

/// The tags that both ends of an association have announced: the internal one in the high half; 0: unknown.
#[derive(Debug, Clone, Copy)]
pub struct Tags<'a>(&'a AtomicU64);

impl<'a> Tags<'a> {
    pub(super) const fn new(word: &'a AtomicU64) -> Self {
        Self(word)
    }

    /// Judges a packet from the side `from` with this first `chunk` and verification `tag`, and notes what it
    /// announces. `may_begin`: the association is being opened or closed.
    ///
    /// # Errors
    /// [`DropReason::SctpBadTag`]: its sender would not send it.
    pub fn judge(
        self,
        from: Facing,
        may_begin: bool,
        chunk: Chunk,
        tag: u32,
    ) -> Result<TcpEvent, DropReason> {
        let is_internal = from == Facing::Internal;
        let event = match chunk {
            // RFC 9260 section 8.5.1 A; a tag of 0 is never announced (section 3.3.2).
            Chunk::Init { tag: announced } if tag != 0 || announced == 0 => {
                return Err(DropReason::SctpBadTag);
            }
            Chunk::Init { tag: announced } => {
                if is_internal || may_begin {
                    self.announce(from, announced);
                }
                TcpEvent::Syn
            }
            Chunk::InitAck { tag: announced } => {
                if announced == 0 || !(is_internal || self.admits(from, tag)) {
                    return Err(DropReason::SctpBadTag);
                }
                self.announce(from, announced);
                if is_internal {
                    self.announce(Facing::External, tag);
                }
                TcpEvent::Syn
            }
            Chunk::CookieEcho => {
                if is_internal {
                    self.announce(Facing::External, tag);
                }
                TcpEvent::Other
            }
            Chunk::End { is_reflected } => {
                let of_whom = if is_reflected { from.opposite() } else { from };
                if !is_internal && !self.admits(of_whom, tag) {
                    return Err(DropReason::SctpBadTag);
                }
                TcpEvent::Rst
            }
            Chunk::Other => TcpEvent::Other,
        };
        Ok(event)
    }

    /// Whether a packet from the side `from` may carry `tag`: the one that its receiver has announced.
    #[must_use]
    pub fn admits(self, from: Facing, tag: u32) -> bool {
        // Relaxed, here and below: the word stands for itself.
        let announced = (self.0.load(Ordering::Relaxed) >> shift_of(from.opposite())) as u32;
        announced == 0 || announced == tag
    }

    fn announce(self, side: Facing, tag: u32) {
        let shift = shift_of(side);
        let with = |word: u64| Some((word & !(u64::from(u32::MAX) << shift)) | (u64::from(tag) << shift));
        let _infallible = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, with);
    }
}

const fn shift_of(side: Facing) -> u32 {
    match side {
        Facing::Internal => 32,
        Facing::External => 0,
    }
}

#[cfg(test)]
mod tests {
    use Facing::{External, Internal};
    use TcpEvent::{Other, Rst, Syn};

    use super::*;

    const END: Chunk = Chunk::End { is_reflected: false };
    const REFLECTED: Chunk = Chunk::End { is_reflected: true };
    const BAD: Result<TcpEvent, DropReason> = Err(DropReason::SctpBadTag);

    #[test]
    fn an_association_is_ended_by_who_knows_its_tags() {
        let word = AtomicU64::new(0);
        let tags = Tags::new(&word);
        for (name, from, may_begin, chunk, tag, expected) in [
            ("INIT with a tag", Internal, true, Chunk::Init { tag: 7 }, 7, BAD),
            ("INIT that announces none", Internal, true, Chunk::Init { tag: 0 }, 0, BAD),
            ("INIT", Internal, true, Chunk::Init { tag: 7 }, 0, Ok(Syn)),
            ("INIT ACK of a stranger", External, true, Chunk::InitAck { tag: 666 }, 8, BAD),
            ("INIT ACK", External, true, Chunk::InitAck { tag: 9 }, 7, Ok(Syn)),
            ("COOKIE ECHO", Internal, false, Chunk::CookieEcho, 9, Ok(Other)),
            ("ABORT with the wrong tag", External, false, END, 9, BAD),
            ("ABORT, T bit, wrong tag", External, false, REFLECTED, 7, BAD),
            ("INIT of a stranger", External, false, Chunk::Init { tag: 666 }, 0, Ok(Syn)),
            ("ABORT, T bit, his tag", External, false, REFLECTED, 666, BAD),
            ("ABORT, T bit", External, false, REFLECTED, 9, Ok(Rst)),
            ("ABORT", External, false, END, 7, Ok(Rst)),
            ("ABORT of the host itself", Internal, false, END, 1, Ok(Rst)),
            ("restart", Internal, false, Chunk::Init { tag: 77 }, 0, Ok(Syn)),
            ("ABORT for the old one", External, false, END, 7, BAD),
            ("ABORT for the new one", External, false, END, 77, Ok(Rst)),
        ] {
            assert_eq!(tags.judge(from, may_begin, chunk, tag), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_tag_refuses_nothing() {
        let word = AtomicU64::new(0);
        assert_eq!(Tags::new(&word).judge(External, false, END, 5), Ok(Rst));
        assert!(Tags::new(&word).admits(Internal, 5));
    }
}
