//! Where a stream was changed: maps positions between sender and receiver.
//!
//! An edit replaces a run of source positions by a run of target positions; either may be empty (an
//! injection, a removal). Between edits the distance of the two spaces is constant. An edit is forgotten
//! once the receiver has acknowledged its target: positions before the oldest edit kept share one
//! distance, which is exact from the receiver's edge on. The bytes themselves lie in the send buffer.
//!
//! Invariant: edits are in ascending order and do not overlap, in either space.

use super::seq::{Source, Target};

/// One replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) source: Source,
    pub(super) source_length: i64,
    pub(super) target: Target,
    pub(super) target_length: i64,
}

/// The edits of one direction that the receiver has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct EditLog {
    /// Target minus source before the first edit.
    base: i64,
    edits: Vec<Edit>,
}

impl Edit {
    fn source_end(&self) -> Source {
        self.source + self.source_length
    }

    fn target_end(&self) -> Target {
        self.target + self.target_length
    }

    /// Target minus source behind the edit.
    fn shift(&self) -> i64 {
        self.target_end().0.saturating_sub(self.source_end().0)
    }
}

impl EditLog {
    /// Lends memory for edits; the log is empty.
    pub(super) fn lend(&mut self, edits: Vec<Edit>) {
        self.edits = edits;
    }

    /// Gives the memory back; the log is empty.
    pub(super) fn reclaim(&mut self) -> Vec<Edit> {
        std::mem::take(&mut self.edits)
    }

    /// Edits kept.
    pub(super) fn len(&self) -> usize {
        self.edits.len()
    }

    /// Room for more edits.
    pub(super) fn room(&self) -> usize {
        self.edits.capacity() - self.edits.len()
    }

    /// Adds an edit behind all others. The caller has asked for [`EditLog::room`].
    pub(super) fn push(&mut self, edit: Edit) {
        if self.room() > 0 {
            self.edits.push(edit);
        }
    }

    /// Forgets the edits whose target lies wholly before `acked`.
    pub(super) fn prune(&mut self, acked: Target) {
        let done = self.edits.iter().take_while(|edit| edit.target_end() <= acked).count();
        if let Some(last) = self.edits.drain(..done).next_back() {
            self.base = last.shift();
        }
    }

    /// Where the target of everything from `source` on begins: inside an edit, at its start.
    pub(super) fn target_from(&self, source: Source) -> Target {
        let mut shift = self.base;
        for edit in &self.edits {
            if source <= edit.source {
                break;
            }
            if source < edit.source_end() {
                return edit.target;
            }
            shift = edit.shift();
        }
        Target(source.0) + shift
    }

    /// Where the target of everything up to `source` ends: inside an edit, at its end; injections at
    /// `source` are included.
    pub(super) fn target_until(&self, source: Source) -> Target {
        let mut shift = self.base;
        for edit in &self.edits {
            if source < edit.source || (source == edit.source && edit.source_length > 0) {
                break;
            }
            if source < edit.source_end() {
                return edit.target_end();
            }
            shift = edit.shift();
        }
        Target(source.0) + shift
    }

    /// What an acknowledgement of everything before `target` acknowledges: inside an edit, up to its
    /// start; at its end, all of it. A removal at `target` counts as delivered.
    pub(super) fn source_until(&self, target: Target) -> Source {
        let mut shift = self.base;
        for edit in &self.edits {
            if target < edit.target {
                break;
            }
            if target < edit.target_end() {
                return edit.source;
            }
            shift = edit.shift();
        }
        Source(target.0) - shift
    }

    /// The first source position that lies wholly at or behind `target`: the left edge of a SACK block.
    pub(super) fn source_from(&self, target: Target) -> Source {
        let mut shift = self.base;
        for edit in &self.edits {
            if target <= edit.target && edit.target_length > 0 || target < edit.target {
                break;
            }
            if target < edit.target_end() {
                return edit.source_end();
            }
            shift = edit.shift();
        }
        Source(target.0) - shift
    }

    /// Whether bytes without a source of their own lie at or behind `target`.
    pub(super) fn has_injection_behind(&self, target: Target) -> bool {
        self.edits.iter().any(|edit| edit.source_length == 0 && edit.target_end() > target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source `..10`, `10..14` grown to `10..20`, `14..30` to `20..36`, `30..40` removed at 36,
    /// injection `36..41` at source 40, then shift 1.
    fn log() -> EditLog {
        let mut log = EditLog::default();
        log.lend(Vec::with_capacity(3));
        let edit = |source, source_length, target, target_length| Edit {
            source: Source(source),
            source_length,
            target: Target(target),
            target_length,
        };
        log.push(edit(10, 4, 10, 10));
        log.push(edit(30, 10, 36, 0));
        log.push(edit(40, 0, 36, 5));
        log
    }

    #[test]
    fn maps_positions_around_and_inside_edits() {
        let log = log();
        // source, target from, target until
        for (source, from, until) in [
            (9, 9, 9),
            (10, 10, 10),
            (11, 10, 20),
            (14, 20, 20),
            (15, 21, 21),
            (30, 36, 36),
            (31, 36, 36),
            (40, 36, 41),
            (41, 42, 42),
        ] {
            assert_eq!(log.target_from(Source(source)), Target(from), "from {source}");
            assert_eq!(log.target_until(Source(source)), Target(until), "until {source}");
        }
    }

    #[test]
    fn maps_acknowledgements_and_left_edges() {
        let log = log();
        // target, acknowledged source, left edge
        for (target, until, from) in [
            (9, 9, 9),
            (10, 10, 10),
            (11, 10, 14),
            (19, 10, 14),
            (20, 14, 14),
            (35, 29, 29),
            (36, 40, 40),
            (37, 40, 40),
            (40, 40, 40),
            (41, 40, 40),
            (42, 41, 41),
        ] {
            assert_eq!(log.source_until(Target(target)), Source(until), "until {target}");
            assert_eq!(log.source_from(Target(target)), Source(from), "from {target}");
        }
    }

    #[test]
    fn forgetting_acknowledged_edits_keeps_the_shift() {
        let mut log = log();
        log.prune(Target(19));
        assert_eq!(log.len(), 3);
        log.prune(Target(36));
        assert_eq!(log.len(), 1);
        assert!(log.has_injection_behind(Target(40)));
        assert!(!log.has_injection_behind(Target(41)));
        log.prune(Target(41));
        assert_eq!((log.len(), log.target_from(Source(50))), (0, Target(51)));
    }
}
