//! The filter: who may open a flow. Ordered rules; the first that matches decides.
//!
//! Stateful: only a packet of no session is judged, so a rule costs a flow's first packet and nothing
//! after, and the answers to an admitted flow need no rule. ICMP errors pass with the session they are about.
//!
//! A rule sees the packet as it arrives, before translation: inbound, its destination is the external endpoint of
//! a mapping or forward. `out_interface` is where the packet would leave after translation: towards
//! the host behind the mapping if the destination is a pool's address. Where that is unknown (no
//! route, no mapping), rules with an `out_interface` do not match; such a packet goes nowhere anyway.
//!
//! ```text
//! packet of no session          first matching rule   becomes
//! outbound (internal arrival)   none, allow           a session, by NAT rule, hairpin or route
//! inbound to a pool address     none, allow           a session if an expectation, a mapping under its
//!                                                     filtering or a forward admits it, else no_mapping
//! inbound to another address    allow                 a session without translation, to internal hosts only
//! inbound to another address    none                  no_mapping
//! to algate's own address       none, allow           local delivery
//! any                           deny                  filter_deny, in silence
//! any                           reject                filter_reject; TCP: a reset, else ICMP 3/13
//! ```
//!
//! So deny and reject come before everything that would admit a new flow: they protect forwards,
//! mappings with endpoint-independent filtering, and what an ALG expects. Allow makes no translation and
//! widens no mapping's filtering; it exempts from later rules, and admits what needs no translation.
//! Rules never end a session that is there.
//!
//! A rule's prefixes mean the same addresses in every tenant; its interfaces tell tenants apart.
//!
//! What a packet claims to come from is checked before any rule ([`source`]).
//!
//! Not done: rules on TCP flags, DSCP or length; IPv6.

mod classifier;
pub mod reject;
pub mod source;

use algate_config::{Config, FilterAction, FilterDirection, FilterRule, Side};

use crate::counters::Counter;
use crate::filter::classifier::{Classifier, Pattern};
use crate::ids::{InterfaceId, WorkerId};
use crate::packet::parse::Ipv4View;
use crate::packet::{ICMP_BYTES, PROTOCOL_ICMP};

/// The rules of a configuration, compiled, with their hit counters.
#[derive(Debug)]
pub struct Filter {
    classifier: Classifier,
    actions: Box<[FilterAction]>,
    /// By thread, then by rule: each counter has one writer.
    hits: Box<[Box<[Counter]>]>,
    looks_at_out_interface: bool,
}

/// What the rules look at in a packet, as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opener {
    /// Where it arrived.
    pub in_interface: InterfaceId,
    /// Where it would leave, where that is known.
    pub out_interface: Option<InterfaceId>,
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Source port, if the protocol has one; rules look at those of TCP and UDP only.
    pub source_port: u16,
    /// Destination port; as above.
    pub destination_port: u16,
    /// ICMP type; 0 for other protocols.
    pub icmp_type: u8,
}

impl Opener {
    /// Of a parsed packet whose first segment is `head`; where it would leave is not yet known.
    #[must_use]
    pub fn new(head: &[u8], view: &Ipv4View, in_interface: InterfaceId) -> Self {
        let l4 = usize::from(view.l4);
        let icmp = head.get(l4..l4 + ICMP_BYTES).filter(|_| view.protocol == PROTOCOL_ICMP);
        Self {
            in_interface,
            out_interface: None,
            source: view.src,
            destination: view.dst,
            protocol: view.protocol,
            source_port: view.src_port,
            destination_port: view.dst_port,
            icmp_type: icmp.and_then(|icmp| icmp.first()).copied().unwrap_or_default(),
        }
    }
}

impl Filter {
    /// Compiles the rules of `config` for `threads` threads.
    #[must_use]
    pub fn new(config: &Config, threads: usize) -> Self {
        let rules = &config.filter;
        let sides: Vec<Side> = config.interfaces.iter().map(|interface| interface.side).collect();
        let patterns: Vec<Pattern> = rules.iter().map(|rule| pattern(rule, &sides)).collect();
        let counters = || rules.iter().map(|_| Counter::default()).collect();
        Self {
            classifier: Classifier::new(&patterns),
            actions: rules.iter().map(|rule| rule.action).collect(),
            hits: (0..threads).map(|_| counters()).collect(),
            looks_at_out_interface: rules.iter().any(|rule| rule.out_interface.is_some()),
        }
    }

    /// Whether there are rules at all.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether [`Opener::out_interface`] matters to any rule.
    #[must_use]
    pub fn looks_at_out_interface(&self) -> bool {
        self.looks_at_out_interface
    }

    /// What the first matching rule says, counted for `thread`. `None`: no rule matches. For a flow's
    /// first packet.
    pub fn judge(&self, thread: WorkerId, opener: &Opener) -> Option<FilterAction> {
        let rule = self.first_match(opener)?;
        if let Some(counter) = self.hits.get(usize::from(thread.0)).and_then(|hits| hits.get(rule)) {
            counter.add(1);
        }
        self.actions.get(rule).copied()
    }

    /// Packets of all threads that `rule` (its place in the configuration) decided about.
    #[must_use]
    pub fn hits(&self, rule: usize) -> u64 {
        self.hits.iter().filter_map(|hits| hits.get(rule)).map(Counter::value).sum()
    }

    /// Memory of the compiled rules, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.classifier.bytes()
    }

    fn first_match(&self, opener: &Opener) -> Option<usize> {
        self.classifier.first_match(&[
            opener.source,
            opener.destination,
            opener.source_port.into(),
            opener.destination_port.into(),
            kind(opener.protocol, opener.icmp_type),
            opener.in_interface.0.into(),
            opener.out_interface.map_or(UNKNOWN, |interface| interface.0.into()),
        ])
    }
}

/// The rule's ranges, field by field in the order of [`Filter::first_match`].
fn pattern(rule: &FilterRule, sides: &[Side]) -> Pattern {
    let prefixes = |list: &[ipnet::Ipv4Net]| {
        list.iter().map(|net| (u32::from(net.network()), u32::from(net.broadcast()))).collect()
    };
    let ports = |list: &[(u16, u16)]| list.iter().map(|&(low, high)| (low.into(), high.into())).collect();
    let one = |value: u32| (value, value);
    let of_interface = |index: usize| one(u32::try_from(index).unwrap_or(UNKNOWN));
    let kinds = match (rule.protocol, rule.icmp_types.as_slice()) {
        (None, _) => Vec::new(),
        (Some(PROTOCOL_ICMP), []) => vec![(kind(PROTOCOL_ICMP, 0), kind(PROTOCOL_ICMP, u8::MAX))],
        (Some(protocol), []) => vec![one(kind(protocol, 0))],
        (Some(protocol), types) => types.iter().map(|number| one(kind(protocol, *number))).collect(),
    };
    let in_interfaces = match (rule.in_interface, rule.direction) {
        (Some(index), _) => vec![of_interface(index)],
        (None, None) => Vec::new(),
        (None, Some(direction)) => {
            let wanted = match direction {
                FilterDirection::Inbound => Side::External,
                FilterDirection::Outbound => Side::Internal,
            };
            let of_side = (0..sides.len()).filter(|index| sides.get(*index) == Some(&wanted));
            // Without an interface of that side nothing matches, rather than everything.
            let none = sides.contains(&wanted).then_some(()).map_or(Some(one(NOWHERE)), |()| None);
            of_side.map(of_interface).chain(none).collect()
        }
    };
    let fields = [
        prefixes(&rule.source),
        prefixes(&rule.destination),
        ports(&rule.source_ports),
        ports(&rule.destination_ports),
        kinds,
        in_interfaces,
        rule.out_interface.map(of_interface).into_iter().collect(),
    ];
    Pattern { fields }
}

/// Protocol and, for ICMP, type in one value.
fn kind(protocol: u8, icmp_type: u8) -> u32 {
    if protocol == PROTOCOL_ICMP { 256 + u32::from(icmp_type) } else { protocol.into() }
}

/// No rule names this as its outgoing interface.
const UNKNOWN: u32 = u32::MAX;
/// No packet arrives here.
const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests;
