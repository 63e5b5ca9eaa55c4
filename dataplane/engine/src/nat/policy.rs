//! What the configuration says about a new flow: which rule covers it, and what that asks for.
//!
//! The first rule that covers a flow counts. A host with a port forward of its own leaves from the address that
//! the world knows it by, whatever pool its rule names. A host with a static address is asked for in
//! [`crate::nat::statics`] before.

use algate_config::{Config, FilteringBehavior, Forward, MappingBehavior, NatAction, NatRule, RuleProtocol};
use ipnet::Ipv4Net;

use crate::ids::TenantId;
use crate::nat::key::{Endpoint, FlowKey, Host};
use crate::nat::mapping::{Filtering, Scope};
use crate::nat::ports::{PortPools, PortSpace};

/// The rules, ready to be asked.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Whether a rule sends flows elsewhere (twice NAT).
    has_rewrites: bool,
    /// The scope of all mappings, where no rule or forward has another one.
    only_scope: Option<Scope>,
    /// The protocols that a rule may cover, by number.
    named: Box<[bool]>,
    /// A forward's only server, with its external address and that one's pool; ascending.
    forwarded: Vec<(Host, Home)>,
}

/// A rule, with its prefixes ready to be compared.
#[derive(Debug)]
struct Rule {
    config: NatRule,
    internal: Prefix,
    destination: Prefix,
}

#[derive(Debug, Clone, Copy)]
struct Prefix {
    network: u32,
    mask: u32,
}

impl Prefix {
    fn new(net: Ipv4Net) -> Self {
        Self { network: net.network().into(), mask: net.netmask().into() }
    }

    const fn holds(self, address: u32) -> bool {
        address & self.mask == self.network
    }
}

/// The external address that a host's forward gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The address.
    pub address: u32,
    /// Its pool.
    pub pool: usize,
}

/// What is done with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It passes as it is.
    None,
    /// Its source has an external address of its own; the port stays.
    Static(u32),
    /// Its source is translated.
    Translate(Translating),
}

/// How a source is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translating {
    /// To an address of this pool.
    pub pool: usize,
    /// To this address of it.
    pub address: Option<u32>,
    /// By a mapping that serves these flows.
    pub scope: Scope,
    /// Who may use that from outside.
    pub filtering: Filtering,
}

impl Policy {
    /// The rules and forwards of `config`.
    #[must_use]
    pub fn new(config: &Config, ports: &PortPools) -> Self {
        let mut forwarded: Vec<(Host, Home)> = Vec::new();
        for Forward { servers, external, tenant, .. } in &config.nat.forwards {
            let [server] = servers.as_slice() else { continue };
            let address = u32::from(*external.ip());
            let internal = Host { tenant: TenantId(*tenant), address: u32::from(*server.internal.ip()) };
            let is_known = forwarded.iter().any(|(known, _)| *known == internal);
            if let Some((pool, _)) = ports.place_of(address).filter(|_| !is_known) {
                forwarded.push((internal, Home { address, pool }));
            }
        }
        forwarded.sort_unstable_by_key(|(host, _)| *host);
        let rules = &config.nat.rules;
        let is_named = |protocol: u8| {
            let names = |rule: &NatRule| rule.protocol.map(RuleProtocol::number) == Some(protocol);
            PortSpace::of_protocol(protocol).is_some() || rules.iter().any(names)
        };
        let has_rewrites = rules.iter().any(|rule| rule.destination_to.is_some());
        let named = (0..=u8::MAX).map(is_named).collect();
        let only_scope = only_scope(rules).filter(|_| forwarded.is_empty());
        let rule = |config: &NatRule| Rule {
            internal: Prefix::new(config.internal),
            destination: Prefix::new(config.destination),
            config: config.clone(),
        };
        Self { named, has_rewrites, only_scope, rules: rules.iter().map(rule).collect(), forwarded }
    }

    /// Whether a rule may cover flows of `protocol`; other than TCP, UDP and ICMP it must be named.
    #[must_use]
    pub fn names(&self, protocol: u8) -> bool {
        self.named.get(usize::from(protocol)).copied().unwrap_or_default()
    }

    /// What is done with an outbound flow, `key` as its first packet arrives. `None`: no rule covers it.
    #[inline]
    #[must_use]
    pub fn treatment(&self, key: FlowKey) -> Option<Treatment> {
        let home = self.home(key.source().host());
        let rule = self.rule(key);
        match (rule, home) {
            (Some(NatRule { action: NatAction::None, .. }), _) => Some(Treatment::None),
            (None, None) => None,
            (Some(NatRule { action: NatAction::Translate(pool), mapping, filtering, .. }), home) => {
                let pool = home.map_or(*pool, |home| home.pool);
                let filtering = filtering_of(*filtering);
                let scope = match mapping {
                    MappingBehavior::EndpointIndependent => Scope::Pool { pool: pool as u16, filtering },
                    MappingBehavior::AddressAndPortDependent => {
                        Scope::Remote(rule.and_then(|rule| rewritten(rule, key)).unwrap_or(key.destination()))
                    }
                };
                let address = home.map(|home| home.address);
                Some(Treatment::Translate(Translating { pool, address, scope, filtering }))
            }
            (None, Some(_)) if PortSpace::of_protocol(key.protocol()).is_none() => None,
            (None, Some(home)) => Some(Treatment::Translate(Translating::reserved(home))),
        }
    }

    /// The scope of the mapping that an outbound flow will have, if any: a guess that costs little where all have the
    /// same, to fetch ahead by.
    #[inline]
    #[must_use]
    pub fn likely_scope(&self, key: FlowKey) -> Option<Scope> {
        self.only_scope.or_else(|| match self.treatment(key)? {
            Treatment::Translate(translating) => Some(translating.scope),
            Treatment::None | Treatment::Static(_) => None,
        })
    }

    /// Where an outbound flow goes in place of where it was sent (twice NAT). `None`: its rule leaves that.
    #[inline]
    #[must_use]
    pub fn destination(&self, key: FlowKey) -> Option<Endpoint> {
        if !self.has_rewrites {
            return None;
        }
        rewritten(self.rule(key)?, key)
    }

    /// Whether packets to `address` may go elsewhere by some rule.
    #[must_use]
    pub fn rewrites(&self, address: u32) -> bool {
        self.rules.iter().any(|rule| rule.config.destination_to.is_some() && rule.destination.holds(address))
    }

    /// The first rule that covers a flow.
    #[inline]
    fn rule(&self, key: FlowKey) -> Option<&NatRule> {
        self.rules.iter().find(|rule| rule.covers(key)).map(|rule| &rule.config)
    }

    /// The external address of a host with a forward of its own.
    #[inline]
    #[must_use]
    pub fn home(&self, host: Host) -> Option<Home> {
        let at = self.forwarded.binary_search_by_key(&host, |(host, _)| *host).ok()?;
        self.forwarded.get(at).map(|(_, home)| *home)
    }
}

impl Translating {
    /// Of an endpoint that a forward or an ALG reserves on an external address.
    #[must_use]
    pub const fn reserved(home: Home) -> Self {
        Self {
            pool: home.pool,
            address: Some(home.address),
            scope: reserved_scope(home.pool),
            filtering: Filtering::EndpointIndependent,
        }
    }
}

/// The scope of what forwards and ALGs reserve.
#[must_use]
pub const fn reserved_scope(pool: usize) -> Scope {
    // The configuration bounds the addresses of all pools, and with them the pools, to 16,384.
    Scope::Pool { pool: pool as u16, filtering: Filtering::EndpointIndependent }
}

/// The scope that the mappings of all `rules` have. `None`: there are several, or one for each remote endpoint.
fn only_scope(rules: &[NatRule]) -> Option<Scope> {
    let mut scopes = rules.iter().filter_map(|rule| match (rule.action, rule.mapping) {
        (NatAction::None, _) => None,
        (NatAction::Translate(pool), MappingBehavior::EndpointIndependent) => {
            Some(Some(Scope::Pool { pool: pool as u16, filtering: filtering_of(rule.filtering) }))
        }
        (NatAction::Translate(_), MappingBehavior::AddressAndPortDependent) => Some(None),
    });
    let first = scopes.next()?;
    first.filter(|_| scopes.all(|scope| scope == first))
}

const fn filtering_of(filtering: FilteringBehavior) -> Filtering {
    match filtering {
        FilteringBehavior::EndpointIndependent => Filtering::EndpointIndependent,
        FilteringBehavior::AddressDependent => Filtering::AddressDependent,
        FilteringBehavior::AddressAndPortDependent => Filtering::AddressAndPortDependent,
    }
}

/// The same place in the other prefix; the port stays.
fn rewritten(rule: &NatRule, key: FlowKey) -> Option<Endpoint> {
    let Endpoint { address, l4_port, .. } = key.destination();
    let to = rule.destination_to?;
    Some(Endpoint::new(u32::from(to.network()) | (address & u32::from(to.hostmask())), l4_port))
}

impl Rule {
    #[inline]
    fn covers(&self, key: FlowKey) -> bool {
        let Endpoint { address, l4_port, .. } = key.destination();
        let covers_protocol = || match self.config.protocol {
            None => PortSpace::of_protocol(key.protocol()).is_some(),
            Some(named) => named.number() == key.protocol(),
        };
        let covers_port = || {
            self.config.destination_l4_ports.is_none_or(|(low, high)| {
                RuleProtocol::of_number(key.protocol()).has_ports() && (low..=high).contains(&l4_port)
            })
        };
        self.internal.holds(key.source().address)
            && self.destination.holds(address)
            && self.config.tenant.is_none_or(|tenant| TenantId(tenant) == key.tenant())
            && covers_protocol()
            && covers_port()
    }
}
