//! Port forwards: which server a flow from outside goes to, and in whose name.
//!
//! A forward to one server is a mapping for each of its ports ([`Nat::install`]), so that the server
//! itself leaves by the forwarded endpoint. A forward to several servers has ports and no mappings: which
//! server gets a flow is computed when it begins, and the session remembers. What such a server sends of
//! its own accord goes by its rule, like any host's.
//!
//! The choice is rendezvous hashing under the key of the start: every server has a score for the client, and
//! the highest one wins. No table is kept, all workers agree, weights hold, and when a server is taken
//! out of the configuration only its own clients move. Scores depend on the servers' addresses and not on
//! their ports, so forwards of several services to the same servers send a client to the same one. The
//! key is new at each start, and with it the choices.
//!
//! Not done: asking servers whether they live.

use algate_config::{Affinity, Forward as ForwardConfig};

use crate::drop_reason::DropReason;
use crate::ids::{InterfaceId, TenantId};
use crate::nat::key::{Endpoint, FlowKey};
use crate::nat::mapping::{self, Filtering, Hold, Mapping};
use crate::nat::policy::reserved_scope;
use crate::nat::ports::PortSpace;
use crate::nat::session::{Facing, Session};
use crate::nat::slow_path::Source;
use crate::nat::{Nat, NatWorker, Opener, Refusal};
use crate::table::hash::HashKey;

/// The port forwards of the configuration.
#[derive(Debug)]
pub struct Forwards {
    /// Ascending by protocol and first endpoint; disjoint.
    list: Vec<Forward>,
    key: HashKey,
}

/// Ports in a row, of one protocol.
#[derive(Debug)]
struct Forward {
    protocol: u8,
    first: Endpoint,
    last_port: u16,
    servers: Box<[Server]>,
    affinity: Affinity,
    masquerades: bool,
}

#[derive(Debug)]
struct Server {
    first: Endpoint,
    weight: f64,
    /// The hash of its address, and of how many servers before it have the same one.
    salt: u64,
}

impl Forwards {
    /// Of the configured ones, which are disjoint.
    #[must_use]
    pub fn new(config: &[ForwardConfig], key: &HashKey) -> Self {
        let of = |forward: &ForwardConfig, protocol| Forward {
            protocol,
            first: forward.external.into(),
            last_port: forward.external.port().saturating_add(forward.ports - 1),
            servers: servers(forward, key),
            affinity: forward.affinity,
            masquerades: forward.masquerade,
        };
        let each = |forward| ForwardConfig::protocols(forward).map(move |protocol| of(forward, protocol));
        let mut list: Vec<Forward> = config.iter().flat_map(each).collect();
        list.sort_unstable_by_key(|forward| (forward.protocol, forward.first));
        Self { list, key: key.clone() }
    }

    /// The server for a first packet, where several share a forward. A binary search, and for each server
    /// a hash and a logarithm.
    #[must_use]
    pub fn server(&self, key: FlowKey) -> Option<Endpoint> {
        let (client, to) = (key.source(), key.destination());
        let forward = self.of(key.protocol(), to).filter(|forward| forward.servers.len() > 1)?;
        let client = match forward.affinity {
            Affinity::Source => u64::from(client.address),
            Affinity::None => client.to_u64(),
        };
        let client = self.key.hash1(client);
        let score = |server: &Server| score(mix(client.wrapping_add(server.salt)), server.weight);
        let best = forward.servers.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
        let offset = to.l4_port - forward.first.l4_port;
        Some(Endpoint { l4_port: best.first.l4_port.wrapping_add(offset), ..best.first })
    }

    /// Whether the server behind an external endpoint sees algate in place of its clients.
    #[must_use]
    pub fn masquerades(&self, protocol: u8, external: Endpoint) -> bool {
        self.of(protocol, external).is_some_and(|forward| forward.masquerades)
    }

    fn of(&self, protocol: u8, external: Endpoint) -> Option<&Forward> {
        let after = self.list.partition_point(|other| (other.protocol, other.first) <= (protocol, external));
        let forward = self.list.get(after.checked_sub(1)?)?;
        let is_in = forward.protocol == protocol
            && forward.first.address == external.address
            && external.l4_port <= forward.last_port;
        is_in.then_some(forward)
    }
}

impl Nat {
    /// Mappings that the forwards of a configuration take for themselves.
    #[must_use]
    pub fn forward_mappings(config: &[ForwardConfig]) -> usize {
        let mapped = config.iter().filter(|forward| forward.servers.len() == 1);
        mapped.map(|forward| usize::from(forward.ports) * forward.protocol.protocols().len()).sum()
    }

    /// Takes the ports of a forward. To one server, each is a mapping that is never released.
    pub(super) fn install(&self, forward: &ForwardConfig) {
        for protocol in forward.protocols() {
            let Some(space) = PortSpace::of_protocol(protocol) else { continue };
            for offset in 0..forward.ports {
                let at = |first| {
                    let first = Endpoint::from(first);
                    Endpoint { l4_port: first.l4_port.wrapping_add(offset), ..first }
                };
                let external = at(forward.external);
                // The configuration has been checked: the port is in a pool and named once.
                let _was_free = self.ports.take_exact(external.address, space, external.l4_port);
                if let [server] = forward.servers.as_slice() {
                    let internal = at(server.internal).in_tenant(TenantId(forward.tenant));
                    self.install_mapping(protocol, internal, external);
                }
            }
        }
    }

    fn install_mapping(&self, protocol: u8, internal: Endpoint, external: Endpoint) {
        let mapping = Mapping {
            protocol,
            internal,
            external,
            filtering: Filtering::EndpointIndependent,
            scope: reserved_scope(self.ports.place_of(external.address).map_or(0, |(pool, _)| pool)),
            subscriber: None,
        };
        if let Err(mapping::CreateError::Exists(_)) = self.mappings.create(&mapping, |_| {}) {
            self.mappings.create_external_only(&mapping);
        }
    }

    /// Whether the server that `key` leads to sees algate in place of the client: its forward says so, or
    /// the control session does that the flow belongs to.
    pub(super) fn is_masqueraded(&self, key: FlowKey, parent: Option<Session<'_>>) -> bool {
        let is_parent = |parent: Session<'_>| {
            let forward = parent.external_key();
            parent.facing(algate_alg::Direction::Original) == Facing::External
                && self.forwards.masquerades(forward.protocol(), forward.destination())
        };
        self.forwards.masquerades(key.protocol(), key.destination()) || parent.is_some_and(is_parent)
    }

    /// The endpoint of algate's own, on `interface`, that `server` will see in place of the client that sends `opener`: by
    /// which an ALG has announced it, or one taken by the session that uses it, with this server alone.
    ///
    /// # Errors
    /// None was found: the server has very many clients.
    pub(super) fn masquerade(
        &self,
        worker: &mut NatWorker,
        opener: &Opener<'_>,
        server: Endpoint,
        interface: InterfaceId,
    ) -> Result<Source, Refusal> {
        let (protocol, client) = (opener.key.protocol(), opener.key.source());
        let own = opener.router.interfaces.of(interface).and_then(|own| own.address_towards(server.address));
        let address = own.ok_or(Refusal::Drop(DropReason::NoRoute))?;
        if let Some((endpoint, mapping)) = self.hold_own(worker, protocol, client, address) {
            return Ok(Source { endpoint, mapping: Some(mapping), hold: Hold::Firm });
        }
        for _ in 0..MASQUERADE_ATTEMPTS {
            let l4_port = MASQUERADE_PORTS | (worker.random.draw() as u16);
            let candidate = Endpoint::new(address, l4_port);
            let reply = FlowKey::new(protocol, server, candidate);
            if self.find(self.sessions.hash(reply), reply).is_none() {
                return Ok(Source::unmapped(candidate));
            }
        }
        Err(Refusal::Drop(DropReason::PoolExhausted))
    }
}

fn servers(forward: &ForwardConfig, key: &HashKey) -> Box<[Server]> {
    let mut servers: Vec<Server> = Vec::with_capacity(forward.servers.len());
    let tenant = TenantId(forward.tenant);
    for server in &forward.servers {
        let first = Endpoint::from(server.internal).in_tenant(tenant);
        let earlier = servers.iter().filter(|other| other.first.address == first.address).count();
        let salt = key.hash1(Endpoint::new(first.address, earlier as u16).to_u64());
        servers.push(Server { first, weight: f64::from(server.weight), salt });
    }
    servers.into()
}

/// Makes the scores of several servers for one client independent, which the table hash alone does not:
/// it is one multiplication (the finalizer of SplitMix64).
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// An exponential variable of rate `weight`, negated in order: the chance to have the highest score of all
/// is the weight's part of all weights.
fn score(hash: u64, weight: f64) -> f64 {
    // Between 0 and 1, never either.
    let uniform = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    uniform.ln() / weight
}

/// The upper half of all ports: nothing of algate's own listens there.
const MASQUERADE_PORTS: u16 = 0x8000;
const MASQUERADE_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use algate_config::{Server as ServerConfig, Transport};

    use super::*;

    fn forwards(servers: &[(&str, u16)], affinity: Affinity) -> Forwards {
        let server = |(internal, weight): &(&str, u16)| ServerConfig {
            internal: internal.parse().expect("an endpoint"),
            weight: *weight,
        };
        let config = ForwardConfig {
            protocol: Transport::Tcp,
            external: "203.0.113.10:8000".parse().expect("an endpoint"),
            ports: 10,
            servers: servers.iter().map(server).collect(),
            tenant: 0,
            affinity,
            masquerade: false,
        };
        Forwards::new(&[config], &HashKey::from_seed([1, 2, 3, 4]))
    }

    fn choose(forwards: &Forwards, client: u32, l4_port: u16, to: u16) -> Endpoint {
        let to = Endpoint::new(0xcb00_710a, to);
        let key = FlowKey::new(6, Endpoint::new(client, l4_port), to);
        forwards.server(key).expect("there are servers")
    }

    const CLIENTS: u32 = 20_000;

    #[test]
    fn weights_are_the_servers_parts_of_the_clients() {
        let forwards = forwards(
            &[("10.0.0.9:80", 5), ("10.0.0.10:80", 3), ("10.0.0.10:81", 1), ("10.0.0.11:80", 1)],
            Affinity::Source,
        );
        let mut counts = std::collections::BTreeMap::new();
        for client in 0..CLIENTS {
            *counts.entry(choose(&forwards, 0xc633_0000 + client, 4000, 8000)).or_insert(0_u32) += 1;
        }
        let counts: Vec<u32> = counts.into_values().collect();
        for (count, tenths) in counts.iter().zip([5, 3, 1, 1]) {
            let expected = CLIENTS / 10 * tenths;
            assert!(count.abs_diff(expected) < expected / 10, "{counts:?}");
        }
    }

    #[test]
    fn only_the_clients_of_a_server_that_leaves_move() {
        let three = [("10.0.0.9:80", 1), ("10.0.0.10:80", 2), ("10.0.0.11:80", 1)];
        let (before, after) = (forwards(&three, Affinity::Source), forwards(&three[..2], Affinity::Source));
        for client in 0..CLIENTS {
            let [old, new] = [&before, &after].map(|forwards| choose(forwards, client, 4000, 8000));
            assert!(old == new || old.address == 0x0a00_000b);
        }
    }

    #[test]
    fn affinity_is_to_the_server_and_ports_keep_their_place() {
        let forwards = forwards(&[("10.0.0.9:80", 1), ("10.0.0.10:180", 1)], Affinity::Source);
        for client in 0..200 {
            let first = choose(&forwards, client, 4000, 8000);
            let other = choose(&forwards, client, 4999, 8009);
            assert_eq!(other, Endpoint { l4_port: first.l4_port + 9, ..first });
        }
    }

    #[test]
    fn without_affinity_a_client_reaches_every_server() {
        let forwards = forwards(&[("10.0.0.9:80", 1), ("10.0.0.10:80", 1)], Affinity::None);
        let chosen = (1..100).map(|l4_port| choose(&forwards, 7, l4_port, 8000).address);
        assert_eq!(chosen.collect::<std::collections::BTreeSet<_>>().len(), 2);
        // And each flow keeps its own.
        assert_eq!(choose(&forwards, 7, 1, 8000), choose(&forwards, 7, 1, 8000));
    }

    #[test]
    fn nothing_beside_the_ports_is_forwarded() {
        let forwards = forwards(&[("10.0.0.9:80", 1), ("10.0.0.10:80", 1)], Affinity::None);
        let from = Endpoint::new(7, 7);
        for (protocol, address, l4_port) in [
            (6, 0xcb00_710a, 7999),
            (6, 0xcb00_710a, 8010),
            (17, 0xcb00_710a, 8000),
            (6, 0xcb00_7109, 8000),
            (6, 0xcb00_710b, 8000),
        ] {
            let to = Endpoint::new(address, l4_port);
            assert_eq!(forwards.server(FlowKey::new(protocol, from, to)), None, "{protocol} {to}");
        }
    }
}
