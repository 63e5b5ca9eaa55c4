//! What stands over the ALGs, shared by all threads: whose sessions they read, the operator's rules, what is recorded,
//! and the switch that turns a failing one off.

use algate_alg::{
    Action, Facts, Judgement, Pattern, Prefix, ProtocolId, Question, Rule, Rules, Ruling, Scratch, Subject,
    Way,
};
use algate_config::{AlgAction, AlgName, AlgRule, Config, FilterDirection};
use ipnet::Ipv4Net;

use crate::alg_stage::breaker::Breaker;
use crate::alg_stage::protocols::gateway;
use crate::alg_stage::records::{Notice, Records, What};
use crate::counters::Counter;
use crate::ids::{InterfaceId, WorkerId};
use crate::nat::key::Endpoint;
use crate::nat::session::{Facing, Session};
use crate::time::Instant;

/// Made once from the configuration.
#[derive(Debug)]
pub struct Oversight {
    rules: Rules,
    /// Whether a match is recorded, by rule.
    is_noted: Box<[bool]>,
    /// By thread, then by rule: each counter has one writer.
    hits: Box<[Box<[Counter]>]>,
    scopes: [Scope; ProtocolId::ALL.len()],
    /// Failing ALGs.
    pub breaker: Breaker,
    /// What threads tell the main thread.
    pub records: Records,
}

/// Whose control sessions one ALG reads, and how.
#[derive(Debug)]
struct Scope {
    internal: Box<[Ipv4Net]>,
    tenants: Box<[u16]>,
    interfaces: Box<[InterfaceId]>,
    is_shadow: bool,
}

impl Oversight {
    /// For `threads` threads.
    #[must_use]
    pub fn new(config: &Config, threads: usize) -> Self {
        let rules = &config.alg.rules;
        Self {
            rules: Rules::new(rules.iter().map(compiled).collect()),
            is_noted: rules.iter().map(|rule| rule.log || rule.alarm).collect(),
            hits: (0..threads).map(|_| rules.iter().map(|_| Counter::default()).collect()).collect(),
            scopes: ProtocolId::ALL.map(|protocol| {
                let gateway = gateway(&config.alg, protocol);
                Scope {
                    internal: gateway.internal.clone().into(),
                    tenants: gateway.tenants.clone().into(),
                    interfaces: ids_of(&gateway.interfaces, config),
                    is_shadow: gateway.shadow,
                }
            }),
            breaker: Breaker::default(),
            records: Records::new(
                threads,
                if config.alg.audit_flows > 0 { config.alg.audit_bytes } else { 0 },
            ),
        }
    }

    /// Whether an ALG may begin to read `session`.
    #[must_use]
    pub fn reads(&self, session: &Session<'_>) -> bool {
        let Some(protocol) = session.alg_protocol() else { return false };
        let Some(scope) = self.scopes.get(usize::from(protocol.number())) else { return false };
        let host = session.internal_key().source();
        let address = std::net::Ipv4Addr::from(host.address);
        !self.breaker.is_off(protocol)
            && (scope.internal.is_empty() || scope.internal.iter().any(|net| net.contains(&address)))
            && (scope.tenants.is_empty() || scope.tenants.contains(&host.tenant.0))
            && (scope.interfaces.is_empty()
                // Where what comes from outside leaves.
                || scope.interfaces.contains(&session.next_hop(Facing::External).interface))
    }

    /// Whether the ALG of `protocol` changes nothing.
    #[must_use]
    pub fn is_shadow(&self, protocol: ProtocolId) -> bool {
        self.scopes.get(usize::from(protocol.number())).is_some_and(|scope| scope.is_shadow)
    }

    /// Messages that `rule` (its place in the configuration) has decided about.
    #[must_use]
    pub fn hits(&self, rule: usize) -> u64 {
        self.hits.iter().filter_map(|hits| hits.get(rule)).map(Counter::value).sum()
    }
}

/// One control session in the eyes of its overseer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched<'a> {
    pub(super) oversight: &'a Oversight,
    pub(super) thread: WorkerId,
    pub(super) now: Instant,
    pub(super) facts: Facts,
    pub(super) internal: Endpoint,
    pub(super) peer: Endpoint,
}

impl<'a> Watched<'a> {
    pub(super) fn new(
        oversight: &'a Oversight,
        thread: WorkerId,
        now: Instant,
        protocol: ProtocolId,
        session: &Session<'_>,
    ) -> Self {
        let (internal, peer) = (session.internal_key().source(), session.external_key().source());
        let facts = Facts {
            protocol,
            internal: internal.address.into(),
            peer: peer.address.into(),
            tenant: internal.tenant.0,
            outbound: session.direction(Facing::Internal),
        };
        Self { oversight, thread, now, facts, internal, peer }
    }

    /// Tells the main thread.
    pub(super) fn note(&self, what: What) {
        let Self { now, internal, peer, .. } = *self;
        let notice = Notice { at: now, what, protocol: self.facts.protocol, internal, peer };
        self.oversight.records.note(self.thread, notice);
    }
}

/// [`algate_alg::Policy`] for one call of an ALG.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) watched: Watched<'a>,
    pub(super) scratch: &'a mut Scratch,
}

impl Judge<'_> {
    /// What the first matching rule says, counted and told.
    fn ask(&mut self, subject: &Subject<'_>, question: Question) -> Option<Judgement> {
        let Watched { oversight, thread, now, facts, .. } = self.watched;
        if oversight.rules.is_empty() {
            return None;
        }
        let judgement = oversight.rules.judge(&facts, subject, question, now.as_nanos(), self.scratch)?;
        let hits = oversight.hits.get(usize::from(thread.0));
        if let Some(counter) = hits.and_then(|hits| hits.get(judgement.rule)) {
            counter.add(1);
        }
        if oversight.is_noted.get(judgement.rule) == Some(&true) {
            let rule = u16::try_from(judgement.rule).unwrap_or(u16::MAX);
            self.watched.note(match question {
                Question::Text => What::Masked { rule },
                _ => What::Rule { rule, ruling: judgement.ruling },
            });
        }
        Some(judgement)
    }

    fn decide(&mut self, subject: &Subject<'_>, question: Question) -> Ruling {
        let ruling = self.ask(subject, question).map_or(Ruling::Allow, |judgement| judgement.ruling);
        // What passes must be read as passed, or the ALG loses its place.
        if self.watched.oversight.is_shadow(self.watched.facts.protocol) { Ruling::Allow } else { ruling }
    }
}

impl algate_alg::Policy for Judge<'_> {
    fn judge(&mut self, subject: &Subject<'_>) -> Ruling {
        self.decide(subject, Question::Message)
    }

    fn judge_cut(&mut self, subject: &Subject<'_>) -> Ruling {
        self.decide(subject, Question::Cut)
    }

    fn judge_unreadable(&mut self, subject: &Subject<'_>) -> Ruling {
        self.decide(subject, Question::Unreadable)
    }

    fn may_mask(&self) -> bool {
        self.watched.oversight.rules.may_mask()
    }

    /// In shadow, too: what is hidden from the other end the ALG has read all the same.
    fn masks(&mut self, subject: &Subject<'_>) -> bool {
        self.ask(subject, Question::Text).is_some_and(|judgement| judgement.ruling != Ruling::Allow)
    }
}

/// Interfaces by their place in the configuration, as the router numbers them.
fn ids_of(names: &[String], config: &Config) -> Box<[InterfaceId]> {
    let is_named = |name: &String| names.contains(name);
    (0..)
        .zip(&config.interfaces)
        .filter(|(_, one)| is_named(&one.name))
        .map(|(id, _)| InterfaceId(id))
        .collect()
}

fn compiled(rule: &AlgRule) -> Rule {
    // The configuration takes no longer pattern than fits.
    let patterns = |texts: &[String]| texts.iter().filter_map(|text| Pattern::new(text).ok()).collect();
    let prefixes = |nets: &[Ipv4Net]| {
        nets.iter().map(|net| Prefix { network: net.network(), length: net.prefix_len() }).collect()
    };
    Rule {
        protocol: rule.alg.map(|alg| match alg {
            AlgName::Ftp => ProtocolId::Ftp,
            AlgName::Tftp => ProtocolId::Tftp,
            AlgName::Sip => ProtocolId::Sip,
            AlgName::Rtsp => ProtocolId::Rtsp,
            AlgName::Irc => ProtocolId::Irc,
            AlgName::Pptp => ProtocolId::Pptp,
        }),
        commands: patterns(&rule.commands),
        arguments: patterns(&rule.arguments),
        file_types: patterns(&rule.file_types),
        users: patterns(&rule.users),
        internal: prefixes(&rule.internal),
        peer: prefixes(&rule.peer),
        way: rule.direction.map(|direction| match direction {
            FilterDirection::Inbound => Way::Inbound,
            FilterDirection::Outbound => Way::Outbound,
        }),
        tenant: rule.tenant,
        is_unreadable: rule.unreadable,
        action: match rule.action {
            AlgAction::Allow => Action::Rule(Ruling::Allow),
            AlgAction::Deny => Action::Rule(Ruling::Deny),
            AlgAction::Drop => Action::Rule(Ruling::Drop),
            AlgAction::Mask => Action::Mask,
        },
        rate_per_second: rule.rate_per_second,
    }
}
