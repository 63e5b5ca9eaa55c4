//! What a request is answered: the decisions of RFC 6887 sections 11 to 15, for NAT-PMP, too.
//!
//! ```text
//! asked               there is an entry                  there is none
//! MAP, lifetime > 0   same nonce: renewed                made
//! MAP, lifetime 0     same nonce: ended                  success: nothing to end
//! PEER                same nonce: renewed, never cut     made
//! any                 other nonce: NOT_AUTHORIZED
//! ```
//!
//! Lifetimes are raised and cut to what the configuration allows. A renewed mapping keeps its external
//! endpoint. A PEER entry keeps the mapping behind the session; it makes no session of its own, and a
//! mapping that it makes is open to all peers, as any that the host opens by sending is. A mapping whose entry has
//! ended lives on, with the filtering of its rule, while sessions that the host has answered use it.
//!
//! [`PcpServer`] is one worker's: its budget of requests, and the announcements it has still to send.

use std::time::Duration;

use algate_config::Pcp as Config;

use crate::drop_reason::DropReason;
use crate::nat::explicit::{AcquireError, suits};
use crate::nat::key::{Endpoint, Host};
use crate::nat::{Nat, NatWorker};
use crate::packet::{PROTOCOL_TCP, PROTOCOL_UDP};
use crate::pcp::message::{
    self, Filter, MAX_BYTES, MAX_FILTERS, Nonce, Operation, Options, ParseError, Request, Response,
    ResultCode, Target,
};
use crate::pcp::natpmp;
use crate::pcp::table::{CreateError, Entry, EntryKey};
use crate::router::icmp::TokenBucket;
use crate::table::hash::HashKey;
use crate::time::{Instant, Tick};

/// One worker's part of the server.
#[derive(Debug)]
pub struct PcpServer {
    config: Config,
    key: HashKey,
    all: TokenBucket,
    /// By hash of the source: a host shares its budget with few others.
    sources: Box<[TokenBucket]>,
    announcements: u32,
    next_announcement: Instant,
}

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address, as the packet has it, in the tenant of the interface by which that came.
    pub host: Host,
    /// Time of the burst.
    pub now: Instant,
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// A PCP request.
    Pcp(ResultCode),
    /// A NAT-PMP request.
    NatPmp,
}

/// What a client has got.
struct Grant {
    external: Option<Endpoint>,
    lifetime_seconds: u32,
}

/// Why it has got nothing.
enum Denial {
    Result(ResultCode),
    /// It is not answered: another worker is at it.
    Busy,
}

impl PcpServer {
    /// With a full budget. Takes all its memory here.
    #[must_use]
    pub fn new(config: &Config, key: &HashKey, now: Instant) -> Self {
        let rate = config.requests_per_second;
        let of_source = TokenBucket::new(rate.div_ceil(SOURCE_SHARE), now);
        Self {
            config: config.clone(),
            key: key.clone(),
            all: TokenBucket::new(rate, now),
            sources: vec![of_source; SOURCE_BUCKETS].into(),
            announcements: 0,
            next_announcement: now,
        }
    }

    /// Whether a request of `client` is within the budget. What a host is refused costs the others nothing.
    pub fn allows(&mut self, Client { host, now }: Client) -> bool {
        let bucket = self.key.hash1(host.to_u64()) as usize % SOURCE_BUCKETS;
        self.sources.get_mut(bucket).is_some_and(|bucket| bucket.take(now)) && self.all.take(now)
    }

    /// Announces the epoch from now on, ten times (RFC 6887 section 14.1.2), where the server is enabled.
    pub fn begin_announcing(&mut self, now: Instant) {
        self.announcements = if self.config.enabled { ANNOUNCEMENTS } else { 0 };
        self.next_announcement = now;
    }

    /// Whether an announcement is due.
    #[must_use]
    pub fn is_announcement_due(&self, now: Instant) -> bool {
        self.announcements > 0 && now >= self.next_announcement
    }

    /// Writes the announcement that is due, and returns its length.
    pub fn announcement(&mut self, nat: &Nat, now: Instant, out: &mut [u8; MAX_BYTES]) -> usize {
        // 250 ms at first, twice as long each time.
        let wait = FIRST_INTERVAL * (1 << ANNOUNCEMENTS.saturating_sub(self.announcements).min(16));
        self.announcements = self.announcements.saturating_sub(1);
        self.next_announcement = now.plus(wait);
        let epoch_seconds = nat.explicit.epoch_seconds(now);
        let response =
            Response { result: ResultCode::Success, lifetime_seconds: 0, epoch_seconds, external: None };
        response.emit(&[message::VERSION, 0], out)
    }

    /// Does what `request` asks and writes the answer into `out`. Returns its length.
    ///
    /// # Errors
    /// Why it is not answered.
    pub fn answer(
        &mut self,
        nat: &Nat,
        worker: &mut NatWorker,
        client: Client,
        request: &[u8],
        out: &mut [u8; MAX_BYTES],
    ) -> Result<(usize, Answered), DropReason> {
        let mut call = Call { config: &self.config, nat, worker, client };
        if self.config.nat_pmp && request.first() == Some(&natpmp::VERSION) {
            return call.nat_pmp(request, out).map(|length| (length, Answered::NatPmp));
        }
        let outcome = match message::parse(request, client.host.address) {
            Ok(request) => call.serve(&request),
            Err(ParseError::Refused(result)) => Err(Denial::Result(result)),
            Err(ParseError::Silence) => return Err(DropReason::PcpMalformed),
        };
        let epoch_seconds = nat.explicit.epoch_seconds(client.now);
        let response = match outcome {
            Ok(Grant { external, lifetime_seconds }) => {
                Response { result: ResultCode::Success, lifetime_seconds, epoch_seconds, external }
            }
            Err(Denial::Result(result)) => {
                Response { result, lifetime_seconds: 0, epoch_seconds, external: None }
            }
            Err(Denial::Busy) => return Err(DropReason::PcpBusy),
        };
        Ok((response.emit(request, out), Answered::Pcp(response.result)))
    }
}

/// One request and all it needs.
struct Call<'a> {
    config: &'a Config,
    nat: &'a Nat,
    worker: &'a mut NatWorker,
    client: Client,
}

impl Call<'_> {
    fn serve(&mut self, request: &Request) -> Result<Grant, Denial> {
        match request.operation {
            Operation::Announce => Ok(Grant { external: None, lifetime_seconds: 0 }),
            Operation::Map(target) => self.map(&target, request.lifetime_seconds, &request.options),
            Operation::Peer(target, peer) => self.peer(&target, peer, request.lifetime_seconds),
        }
    }

    fn map(&mut self, target: &Target, lifetime: u32, options: &Options) -> Result<Grant, Denial> {
        let is_known = [PROTOCOL_TCP, PROTOCOL_UDP].contains(&target.protocol);
        let is_wildcard = target.protocol == 0 || target.internal_port == 0;
        if lifetime == 0 && (is_known || is_wildcard) {
            return self.delete(target);
        }
        // Mapping all ports would take the external address from everybody else (section 11.1).
        if !is_known || is_wildcard {
            return Err(Denial::Result(ResultCode::UnsuppProtocol));
        }
        let key = self.key(target, None);
        match self.nat.explicit.find(&key) {
            Some(slot) => self.renew(slot, target, lifetime, options),
            None => self.create(key, target, lifetime, options),
        }
    }

    fn peer(&mut self, target: &Target, peer: Endpoint, lifetime: u32) -> Result<Grant, Denial> {
        if ![PROTOCOL_TCP, PROTOCOL_UDP].contains(&target.protocol) {
            return Err(Denial::Result(ResultCode::UnsuppProtocol));
        }
        // Another client's MAP for the same endpoint protects this one (section 12.3).
        if let Some(slot) = self.nat.explicit.find(&self.key(target, None)) {
            self.check_nonce(slot, target.nonce)?;
        }
        let key = self.key(target, Some(peer));
        match self.nat.explicit.find(&key) {
            Some(slot) => self.renew(slot, target, lifetime, &Options::default()),
            None => self.create(key, target, lifetime, &Options::default()),
        }
    }

    fn create(
        &mut self,
        key: EntryKey,
        target: &Target,
        lifetime: u32,
        options: &Options,
    ) -> Result<Grant, Denial> {
        let (insists, suggested, now) = (options.prefer_failure, target.suggested, self.client.now);
        let acquired =
            self.nat.acquire_explicit(self.worker, target.protocol, key.internal, suggested, insists, now);
        let (mapping, external) = acquired.map_err(|error| match error {
            AcquireError::NoAddress => Denial::Result(ResultCode::NotAuthorized),
            AcquireError::OtherExternal => Denial::Result(ResultCode::CannotProvideExternal),
            AcquireError::Exhausted => Denial::Result(ResultCode::NoResources),
            AcquireError::Quota => Denial::Result(ResultCode::UserExQuota),
            AcquireError::Raced => Denial::Busy,
        })?;
        let (lifetime_seconds, expires) = self.lifetime(lifetime);
        let entry = Entry { key, nonce: target.nonce, mapping, expires };
        match self.nat.explicit.create(&entry, options.filters()) {
            Ok(_) => Ok(Grant { external: Some(external), lifetime_seconds }),
            Err(error) => {
                self.nat.release_explicit(self.worker, mapping);
                Err(match error {
                    CreateError::Full => Denial::Result(ResultCode::NoResources),
                    CreateError::Quota => Denial::Result(ResultCode::UserExQuota),
                    CreateError::Exists => Denial::Busy,
                })
            }
        }
    }

    fn renew(
        &mut self,
        slot: u32,
        target: &Target,
        lifetime: u32,
        options: &Options,
    ) -> Result<Grant, Denial> {
        let entry = self.check_nonce(slot, target.nonce)?;
        let external = self.nat.mappings.mapping(entry.mapping).map(|mapping| mapping.external);
        let external = external.ok_or(Denial::Busy)?;
        if options.prefer_failure && !suits(target.suggested, external) {
            return Err(Denial::Result(ResultCode::CannotProvideExternal));
        }
        let explicit = &self.nat.explicit;
        let claim = explicit.claim(slot).ok_or(Denial::Busy)?;
        let (filters, count) = combined(explicit.filters(slot), options);
        if count > MAX_FILTERS {
            explicit.unclaim(claim);
            return Err(Denial::Result(ResultCode::ExcessiveRemotePeers));
        }
        explicit.write_filters(slot, filters.into_iter().take(count));
        let (mut lifetime_seconds, mut expires) = self.lifetime(lifetime);
        if entry.key.peer.is_some() && entry.expires > expires {
            // PEER prolongs and never shortens (section 12.3).
            expires = entry.expires;
            let left = expires.since(Tick::of(self.client.now)).as_secs();
            lifetime_seconds = u32::try_from(left).unwrap_or(u32::MAX);
        }
        explicit.settle(claim, expires);
        Ok(Grant { external: Some(external), lifetime_seconds })
    }

    /// Ends the mapping, or with a wildcard all mappings of the client's with this nonce (section 15.1).
    fn delete(&mut self, target: &Target) -> Result<Grant, Denial> {
        let deleted = Grant { external: None, lifetime_seconds: 0 };
        if target.protocol != 0 && target.internal_port != 0 {
            if let Some(slot) = self.nat.explicit.find(&self.key(target, None)) {
                self.check_nonce(slot, target.nonce)?;
                self.end(slot)?;
            }
            return Ok(deleted);
        }
        let explicit = &self.nat.explicit;
        for slot in explicit.owned_by(self.client.host) {
            let is_meant = explicit.entry(slot).is_some_and(|entry| {
                entry.key.peer.is_none()
                    && entry.nonce == target.nonce
                    && (target.protocol == 0 || target.protocol == entry.key.protocol)
                    && explicit.find(&entry.key) == Some(slot)
            });
            if is_meant {
                self.end(slot)?;
            }
        }
        Ok(deleted)
    }

    fn end(&mut self, slot: u32) -> Result<(), Denial> {
        let claim = self.nat.explicit.claim(slot).ok_or(Denial::Busy)?;
        self.nat.end_explicit(self.worker, claim);
        Ok(())
    }

    fn check_nonce(&self, slot: u32, nonce: Nonce) -> Result<Entry, Denial> {
        let entry = self.nat.explicit.entry(slot).ok_or(Denial::Busy)?;
        if entry.nonce == nonce { Ok(entry) } else { Err(Denial::Result(ResultCode::NotAuthorized)) }
    }

    /// The lifetime that is granted, and when it ends.
    fn lifetime(&self, asked: u32) -> (u32, Tick) {
        let asked = Duration::from_secs(u64::from(asked));
        let granted = asked.clamp(self.config.min_lifetime, self.config.max_lifetime);
        (u32::try_from(granted.as_secs()).unwrap_or(u32::MAX), Tick::of(self.client.now).plus(granted))
    }

    fn key(&self, target: &Target, peer: Option<Endpoint>) -> EntryKey {
        let Host { tenant, address } = self.client.host;
        let internal = Endpoint { tenant, address, l4_port: target.internal_port };
        EntryKey { protocol: target.protocol, internal, peer }
    }

    fn nat_pmp(&mut self, request: &[u8], out: &mut [u8; MAX_BYTES]) -> Result<usize, DropReason> {
        use natpmp::{Answer, Request, ResultCode as Code};
        let opcode = request.get(1).copied().unwrap_or(0);
        let (result, answer) = match natpmp::parse(request).ok_or(DropReason::PcpMalformed)? {
            Request::Unknown => (Code::UnsupportedOpcode, Answer::Nothing),
            Request::Address => match self.nat.address_for(self.worker, self.client.host) {
                Some(address) => (Code::Success, Answer::Address(address)),
                None => (Code::NotAuthorized, Answer::Address(0)),
            },
            Request::Map { protocol, internal_port, suggested_port, lifetime_seconds } => {
                let suggested = Endpoint::new(0, suggested_port);
                let target = Target { nonce: Nonce::default(), protocol, internal_port, suggested };
                let outcome = match self.map(&target, lifetime_seconds, &Options::default()) {
                    Err(Denial::Busy) => return Err(DropReason::PcpBusy),
                    Err(Denial::Result(result)) => Err(nat_pmp_code(result)),
                    Ok(grant) => Ok(grant),
                };
                let answer = |external: Option<Endpoint>, lifetime_seconds| {
                    let external_port = external.map_or(0, |external| external.l4_port);
                    Answer::Map { internal_port, external_port, lifetime_seconds }
                };
                match outcome {
                    Ok(grant) => (Code::Success, answer(grant.external, grant.lifetime_seconds)),
                    Err(code) => (code, answer(None, 0)),
                }
            }
        };
        let epoch_seconds = self.nat.explicit.epoch_seconds(self.client.now);
        Ok(natpmp::emit(opcode, result, epoch_seconds, answer, out))
    }
}

/// The filters of a mapping after a request: those it has, unless the request clears them, then the new
/// ones that it has not. The count may exceed what fits.
fn combined(present: impl Iterator<Item = Filter>, options: &Options) -> ([Filter; MAX_FILTERS], usize) {
    let mut filters = [Filter::default(); MAX_FILTERS];
    let mut count = 0;
    for filter in present.filter(|_| !options.clears_filters).chain(options.filters()) {
        if filters.iter().take(count).any(|other| *other == filter) {
            continue;
        }
        if let Some(free) = filters.get_mut(count) {
            *free = filter;
        }
        count += 1;
    }
    (filters, count)
}

/// RFC 6886 knows fewer reasons.
const fn nat_pmp_code(result: ResultCode) -> natpmp::ResultCode {
    match result {
        ResultCode::NotAuthorized | ResultCode::UnsuppProtocol => natpmp::ResultCode::NotAuthorized,
        _ => natpmp::ResultCode::OutOfResources,
    }
}

/// One host may have a quarter of all requests.
const SOURCE_SHARE: u32 = 4;
const SOURCE_BUCKETS: usize = 256;
const ANNOUNCEMENTS: u32 = 10;
const FIRST_INTERVAL: Duration = Duration::from_millis(250);
