//! What the ALG stage tells: notices become lines of the log, changed messages become the audit.
//!
//! Done by the main thread between its other duties. A line names the rule or the ALG and the two ends, never a byte of a
//! message; the same kind of line comes once a second at most, and then says how many it stands for. The audit keeps
//! the last messages of the sessions heard of last; what it shows has its control characters escaped.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

use algate_alg::{ProtocolId, Ruling, Verdict};
use algate_config::{AlgAction, AlgName, AlgRule, Config, FilterDirection};
use algate_engine::alg_stage::oversight::Oversight;
use algate_engine::alg_stage::records::{Exchange, Notice, What};
use algate_engine::table::slots::Handle;
use algate_engine::time::Instant;
use log::Level;

use crate::report::{AlgAuditRow, AlgRuleRow, tenant_of};

/// The log's and the audit's memory.
#[derive(Debug)]
pub struct AlgWatch {
    rules: Vec<AlgRule>,
    /// By rule, then by kind and protocol.
    lines: Vec<Line>,
    /// The session heard of last is the last one.
    flows: VecDeque<(Handle, VecDeque<Exchange>)>,
    most_flows: usize,
}

/// How often one kind of line was written.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    written: Option<Instant>,
    suppressed: u64,
}

impl AlgWatch {
    /// Nothing heard yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let rules = config.alg.rules.clone();
        let lines = vec![Line::default(); rules.len() + KINDS * ProtocolId::ALL.len()];
        Self { rules, lines, flows: VecDeque::new(), most_flows: config.alg.audit_flows }
    }

    /// Takes what waits.
    pub fn take(&mut self, oversight: &Oversight) {
        let Self { rules, lines, flows, most_flows } = self;
        oversight.records.drain(
            |notice| write(&notice, rules, lines),
            |exchange| keep(exchange.clone(), flows, *most_flows),
        );
    }

    /// The last changed messages, session by session, the one heard of last at the end.
    #[must_use]
    pub fn audit_rows(&self, now: Instant, limit: usize) -> Vec<AlgAuditRow> {
        let all = self.flows.iter().map(|(_, exchanges)| exchanges.len()).sum::<usize>();
        let exchanges = self.flows.iter().flat_map(|(_, exchanges)| exchanges);
        exchanges.skip(all.saturating_sub(limit)).map(|exchange| audit_row(exchange, now)).collect()
    }

    /// The rules, with how often each has decided.
    #[must_use]
    pub fn rule_rows(&self, oversight: &Oversight, limit: usize) -> Vec<AlgRuleRow> {
        let texts = |list: &[String]| list.to_vec();
        let row = |(place, rule): (usize, &AlgRule)| AlgRuleRow {
            name: rule.name.clone(),
            action: action_text(rule.action).to_owned(),
            hits: oversight.hits(place),
            alg: rule.alg.map(|alg| alg_text(alg).to_owned()),
            command: texts(&rule.commands),
            argument: texts(&rule.arguments),
            file_type: texts(&rule.file_types),
            user: texts(&rule.users),
            internal: rule.internal.iter().map(ToString::to_string).collect(),
            peer: rule.peer.iter().map(ToString::to_string).collect(),
            direction: rule.direction.map(|direction| direction_text(direction).to_owned()),
            tenant: rule.tenant,
            rate_per_second: rule.rate_per_second,
        };
        self.rules.iter().enumerate().take(limit).map(row).collect()
    }
}

/// Writes a line, or counts it for the next one of its kind.
fn write(notice: &Notice, rules: &[AlgRule], lines: &mut [Line]) {
    let (place, level, event, remedy) = match notice.what {
        What::Rule { rule, .. } | What::Masked { rule } => {
            let place = usize::from(rule);
            let is_alarm = rules.get(place).is_some_and(|rule| rule.alarm);
            (place, if is_alarm { Level::Warn } else { Level::Info }, "alg rule matched", "")
        }
        What::Panicked => (kind(0, notice, rules), Level::Warn, "alg panicked: a message passed unread", ""),
        What::FlowOff => (kind(1, notice, rules), Level::Warn, "alg panicked again: session not read", ""),
        What::WorkBudget => {
            (kind(2, notice, rules), Level::Warn, "alg work budget used: session not read", "")
        }
        What::RecheckFailed => (
            kind(3, notice, rules),
            Level::Warn,
            "alg recheck failed: a rewritten message would not read back, it was left as it came",
            "",
        ),
        What::AlgOff => (
            kind(4, notice, rules),
            Level::Error,
            "alg switched off: it panicked too often",
            " until=restart",
        ),
    };
    let Some(line) = lines.get_mut(place) else { return };
    if line.written.is_some_and(|written| notice.at.since(written) < LINE_PERIOD) {
        line.suppressed += 1;
        return;
    }
    let suppressed = std::mem::take(&mut line.suppressed);
    line.written = Some(notice.at);
    let rule = match notice.what {
        What::Rule { rule, ruling } => {
            let name = rules.get(usize::from(rule)).map_or("", |rule| &rule.name);
            format!(" rule={name} ruling={}", ruling_text(ruling))
        }
        What::Masked { rule } => {
            format!(" rule={} ruling=mask", rules.get(usize::from(rule)).map_or("", |rule| &rule.name))
        }
        _ => String::new(),
    };
    let (internal, peer) = (SocketAddrV4::from(notice.internal), SocketAddrV4::from(notice.peer));
    let tenant =
        tenant_of(notice.internal.tenant).map(|tenant| format!(" tenant={tenant}")).unwrap_or_default();
    log::log!(
        level,
        "{event} alg={}{rule} internal={internal}{tenant} peer={peer} suppressed={suppressed}{remedy}",
        notice.protocol.name()
    );
}

fn kind(kind: usize, notice: &Notice, rules: &[AlgRule]) -> usize {
    rules.len() + kind * ProtocolId::ALL.len() + usize::from(notice.protocol.number())
}

fn keep(exchange: Exchange, flows: &mut VecDeque<(Handle, VecDeque<Exchange>)>, most: usize) {
    let known = flows.iter().position(|(session, _)| *session == exchange.session);
    let (_, mut exchanges) = match known.and_then(|at| flows.remove(at)) {
        Some(flow) => flow,
        None => (exchange.session, VecDeque::with_capacity(MESSAGES)),
    };
    if exchanges.len() == MESSAGES {
        exchanges.pop_front();
    }
    let session = exchange.session;
    exchanges.push_back(exchange);
    while flows.len() >= most.max(1) {
        flows.pop_front();
    }
    flows.push_back((session, exchanges));
}

fn audit_row(exchange: &Exchange, now: Instant) -> AlgAuditRow {
    AlgAuditRow {
        alg: exchange.protocol.name().to_owned(),
        tenant: tenant_of(exchange.internal.tenant),
        internal: exchange.internal.into(),
        peer: exchange.peer.into(),
        direction: exchange.direction_text().to_owned(),
        age_seconds: now.since(exchange.at).as_secs(),
        verdict: verdict_text(exchange.verdict).to_owned(),
        shadow: exchange.is_shadow,
        before: exchange.before.escape_ascii().to_string(),
        after: exchange.after.escape_ascii().to_string(),
    }
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Rewrite => "rewrite",
        Verdict::Remove => "remove",
        Verdict::Opaque => "opaque",
        Verdict::Detach => "detach",
        Verdict::Terminate => "terminate",
    }
}

fn ruling_text(ruling: Ruling) -> &'static str {
    match ruling {
        Ruling::Allow => "allow",
        Ruling::Deny => "deny",
        Ruling::Drop => "drop",
    }
}

fn action_text(action: AlgAction) -> &'static str {
    match action {
        AlgAction::Allow => "allow",
        AlgAction::Deny => "deny",
        AlgAction::Drop => "drop",
        AlgAction::Mask => "mask",
    }
}

fn alg_text(alg: AlgName) -> &'static str {
    match alg {
        AlgName::Ftp => "ftp",
        AlgName::Tftp => "tftp",
        AlgName::Sip => "sip",
        AlgName::Rtsp => "rtsp",
        AlgName::Irc => "irc",
        AlgName::Pptp => "pptp",
    }
}

fn direction_text(direction: FilterDirection) -> &'static str {
    match direction {
        FilterDirection::Inbound => "inbound",
        FilterDirection::Outbound => "outbound",
    }
}

/// Messages that the audit keeps of one session.
const MESSAGES: usize = 8;
/// Kinds of notices beside those of rules.
const KINDS: usize = 5;
/// Between two lines of one kind.
const LINE_PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use algate_engine::nat::key::Endpoint;

    use super::*;

    fn exchange(session: u32, text: &[u8]) -> Exchange {
        Exchange {
            at: Instant::from_nanos(1_000_000_000),
            session: Handle { index: session, generation: 1 },
            protocol: ProtocolId::Ftp,
            internal: Endpoint::new(0x0a00_0002, 4_000),
            peer: Endpoint::new(0xc633_6401, 21),
            is_outbound: true,
            verdict: Verdict::Rewrite,
            is_shadow: false,
            before: text.to_vec(),
            after: text.to_vec(),
        }
    }

    #[test]
    fn the_audit_keeps_the_last_messages_of_the_sessions_heard_of_last() {
        let mut flows = VecDeque::new();
        for session in [1, 2, 1, 3] {
            (0..6_u8).for_each(|number| keep(exchange(session, &[b'0' + number]), &mut flows, 2));
        }
        let kept: Vec<_> =
            flows.iter().map(|(session, exchanges)| (session.index, exchanges.len())).collect();
        assert_eq!(kept, [(1, MESSAGES), (3, 6)]);
        let newest = flows[0].1.back().map(|exchange| exchange.before.clone());
        assert_eq!(newest, Some(b"5".to_vec()));
    }

    #[test]
    fn s_30_control_characters_are_escaped() {
        let row = audit_row(&exchange(1, b"PORT 1\r\n\x1b[2J\xff"), Instant::from_nanos(3_000_000_000));
        assert_eq!((row.before.as_str(), row.age_seconds), ("PORT 1\\r\\n\\x1b[2J\\xff", 2));
    }

    #[test]
    fn s_30_a_flood_of_notices_is_one_line_a_second() {
        let mut lines = vec![Line::default(); KINDS * ProtocolId::ALL.len()];
        let notice = |ms: u64| Notice {
            at: Instant::from_nanos(ms * 1_000_000),
            what: What::Panicked,
            protocol: ProtocolId::Sip,
            internal: Endpoint::new(1, 1),
            peer: Endpoint::new(2, 2),
        };
        (0..900).for_each(|ms| write(&notice(1_000 + ms), &[], &mut lines));
        let place = kind(0, &notice(0), &[]);
        assert_eq!(
            (lines[place].suppressed, lines.iter().filter(|line| line.written.is_some()).count()),
            (899, 1)
        );
        write(&notice(2_000), &[], &mut lines);
        assert_eq!(lines[place].suppressed, 0);
    }

    #[test]
    fn every_kind_of_every_alg_has_a_line_of_its_own() {
        let mut lines = vec![Line::default(); KINDS * ProtocolId::ALL.len()];
        let kinds =
            [What::Panicked, What::FlowOff, What::WorkBudget, What::RecheckFailed, What::AlgOff].into_iter();
        for (what, protocol) in kinds.flat_map(|what| ProtocolId::ALL.map(|protocol| (what, protocol))) {
            let (internal, peer) = (Endpoint::new(1, 1), Endpoint::new(2, 2));
            write(&Notice { at: Instant::from_nanos(1), what, protocol, internal, peer }, &[], &mut lines);
        }
        assert!(lines.iter().all(|line| line.written.is_some() && line.suppressed == 0));
    }
}
