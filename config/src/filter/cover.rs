//! Which packets a rule can match, to find rules that an earlier one leaves nothing to.
//!
//! Only one earlier rule is looked at, not the union of several: what is refused can never match, but
//! not everything that can never match is refused.

use std::ops::RangeInclusive;

use crate::model::{FilterDirection, FilterRule, Side};

/// The packets that a rule matches, in a form to compare.
pub(super) struct Reach {
    direction: Option<FilterDirection>,
    in_interface: Option<usize>,
    out_interface: Option<usize>,
    protocol: Option<u8>,
    /// Disjoint, ascending, not adjacent; as all the following.
    source: Vec<RangeInclusive<u32>>,
    destination: Vec<RangeInclusive<u32>>,
    source_ports: Vec<RangeInclusive<u32>>,
    destination_ports: Vec<RangeInclusive<u32>>,
    icmp_types: Vec<RangeInclusive<u32>>,
}

impl Reach {
    /// Of one rule; `side_of` tells an interface's side.
    pub(super) fn of(rule: &FilterRule, side_of: impl Fn(usize) -> Option<Side>) -> Self {
        let implied = rule.in_interface.and_then(side_of).map(|side| match side {
            Side::Internal => FilterDirection::Outbound,
            Side::External => FilterDirection::Inbound,
        });
        let bounds = |net: &ipnet::Ipv4Net| u32::from(net.network())..=u32::from(net.broadcast());
        let ports = |(low, high): &(u16, u16)| u32::from(*low)..=u32::from(*high);
        Self {
            direction: rule.direction.or(implied),
            in_interface: rule.in_interface,
            out_interface: rule.out_interface,
            protocol: rule.protocol,
            source: union(rule.source.iter().map(bounds), u32::MAX),
            destination: union(rule.destination.iter().map(bounds), u32::MAX),
            source_ports: union(rule.source_ports.iter().map(ports), u16::MAX.into()),
            destination_ports: union(rule.destination_ports.iter().map(ports), u16::MAX.into()),
            icmp_types: union(
                rule.icmp_types.iter().map(|&number| number.into()..=number.into()),
                u8::MAX.into(),
            ),
        }
    }

    /// Whether every packet that `later` matches is matched by this one.
    pub(super) fn covers(&self, later: &Self) -> bool {
        is_same_or_any(self.protocol, later.protocol)
            && is_same_or_any(self.direction, later.direction)
            && is_same_or_any(self.in_interface, later.in_interface)
            && is_same_or_any(self.out_interface, later.out_interface)
            && holds(&self.destination, &later.destination)
            && holds(&self.source, &later.source)
            && holds(&self.destination_ports, &later.destination_ports)
            && holds(&self.source_ports, &later.source_ports)
            && holds(&self.icmp_types, &later.icmp_types)
    }
}

fn is_same_or_any<T: PartialEq>(earlier: Option<T>, later: Option<T>) -> bool {
    earlier.is_none() || earlier == later
}

/// Merges ranges; none at all means every value, 0 to `max`.
fn union(ranges: impl Iterator<Item = RangeInclusive<u32>>, max: u32) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<_> = ranges.collect();
    if ranges.is_empty() {
        ranges.push(0..=max);
    }
    ranges.sort_unstable_by_key(|range| *range.start());
    ranges.dedup_by(|next, last| {
        let is_joined = *next.start() <= last.end().saturating_add(1);
        if is_joined {
            *last = *last.start()..=*last.end().max(next.end());
        }
        is_joined
    });
    ranges
}

/// Whether each range of `inner` lies in one of `outer`, both as [`union`] makes them.
fn holds(outer: &[RangeInclusive<u32>], inner: &[RangeInclusive<u32>]) -> bool {
    inner.iter().all(|range| {
        let after = outer.partition_point(|other| other.start() <= range.start());
        let around = after.checked_sub(1).and_then(|at| outer.get(at));
        around.is_some_and(|other| range.end() <= other.end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_ranges_are_one() {
        let merged = union([20..=29, 0..=9, 10..=19, 40..=u32::MAX, 41..=50].into_iter(), u32::MAX);
        assert_eq!(merged, [0..=29, 40..=u32::MAX]);
        assert_eq!(union(std::iter::empty(), 255), [0..=255]);
    }

    #[test]
    fn a_list_holds_what_lies_in_one_of_its_ranges() {
        let outer = [0..=29, 40..=u32::MAX];
        for (name, inner, expected) in [
            ("inside", vec![5..=29, 40..=40], true),
            ("across a gap", vec![29..=40], false),
            ("in a gap", vec![30..=39], false),
            ("one of two", vec![5..=6, 35..=36], false),
            ("up to the end", vec![u32::MAX..=u32::MAX], true),
        ] {
            assert_eq!(holds(&outer, &inner), expected, "{name}");
        }
    }
}
