//! FTP between real TCP stacks where an announcement cannot be opened: the client reads so, the transfer after it works, and
//! neither good nor bad wires leave anything behind or count it twice.

use algate_alg::{Event, ProtocolId};

use crate::common::hosts::{Faults, Lab};
use crate::sim_ftp::{BAD_WIRE, Inside, Outcome, PLACES, Step, dialogue, send};

const GOOD_WIRE: Faults = Faults { lost: 0, repeated: 0, delayed: 0 };

const PIPELINED: &str = "NOOP\r\nPORT 10,0,0,2,12,234\r\nPORT 10,0,0,2,15,161\r\nNOOP\r\n";

/// Good wires and bad ones, wherever the ALG runs.
fn wires() -> impl Iterator<Item = (Faults, u64)> {
    (0..3).map(|seed| (GOOD_WIRE, seed)).chain((3..12).map(|seed| (BAD_WIRE, seed)))
}

fn counted(lab: &Lab, event: Event) -> u64 {
    lab.net.engine.counters().iter().map(|counters| counters.alg.of(ProtocolId::Ftp).of(event)).sum()
}

/// Expectations that were made, over all.
fn promised(lab: &Lab) -> u64 {
    lab.net
        .engine
        .counters()
        .iter()
        .map(|counters| counters.alg.of(ProtocolId::Ftp).expectations.value())
        .sum()
}

#[test]
fn s_02_a_server_without_room_for_its_announcement_has_the_client_told_so() {
    for (faults, seed) in wires() {
        let mut steps = vec![
            Step::Expect("220"),
            send("PASV"),
            Step::Expect("227"),
            // The first one waits, and there is room for one.
            Step::Send("PASV\r\nNOOP\r\n".into(), 4_096),
            Step::Expect("425 Can't open data connection."),
            Step::Expect("200"),
            send("EPSV"),
            Step::Expect("229"),
        ];
        if faults == GOOD_WIRE {
            steps.push(Step::Connect);
        }
        steps.extend(transfer(faults));
        let change = |config: &mut algate_config::Config| {
            PLACES[seed as usize % 3](config);
            config.alg.ftp.gateway.expectations = 1;
        };
        let Outcome { lab, .. } = dialogue(Inside::Server, faults, seed, change, steps);
        let events = [Event::Rewritten, Event::ExpectationRefused, Event::Denied, Event::RecheckFailed];
        assert_eq!(events.map(|event| counted(&lab, event)), [2, 1, 1, 0], "seed {seed}");
        assert_eq!((promised(&lab), open(&lab)), (2, left(faults)), "seed {seed}");
    }
}

#[test]
fn s_01_a_client_whose_port_is_a_services_is_answered_and_the_server_never_asked() {
    for (faults, seed) in wires() {
        let mut steps = vec![
            Step::Expect("220"),
            Step::Listen(4_001),
            Step::Send(PIPELINED.into(), 4_096),
            Step::Expect("200"),
            Step::Expect("504"),
            Step::Expect("200"),
            Step::Expect("200"),
            send("EPRT |1|10.0.0.2|3306|"),
            Step::Expect("504"),
        ];
        steps.extend(transfer(faults));
        let Outcome { heard, lab } = dialogue(Inside::Client, faults, seed, PLACES[seed as usize % 3], steps);
        let end = if faults == GOOD_WIRE { &["NOOP", "RETR file", "QUIT"][..] } else { &["NOOP", "QUIT"] };
        assert!(heard[0] == "NOOP" && heard[1].starts_with("PORT 203,0,113,"), "{heard:?}");
        assert_eq!(&heard[2..], end, "seed {seed}");
        let events = [Event::Rewritten, Event::ExpectationRefused, Event::Removed, Event::Denied];
        assert_eq!(events.map(|event| counted(&lab, event)), [1, 2, 2, 2], "seed {seed}");
        assert_eq!((promised(&lab), open(&lab)), (1, left(faults)), "seed {seed}");
    }
}

/// A transfer and the end of the dialogue; over bad wires the latter alone, for smoltcp may fall silent for ever behind losses of
/// bulk data.
fn transfer(faults: Faults) -> Vec<Step> {
    let mut steps = vec![];
    if faults == GOOD_WIRE {
        steps.extend([send("RETR file"), Step::Expect("150"), Step::Data, Step::Expect("226")]);
    }
    steps.extend([send("QUIT"), Step::Expect("221")]);
    steps
}

/// What is left of one announcement: the data session, or what waits for it.
fn left(faults: Faults) -> (usize, usize) {
    if faults == GOOD_WIRE { (0, 1) } else { (1, 0) }
}

/// Expectations that wait, and data sessions.
fn open(lab: &Lab) -> (usize, usize) {
    let sessions = lab.net.sessions();
    let children = sessions.iter().filter(|row| row.is_child).count();
    (lab.net.engine.expectation_rows(lab.net.now, 9).len(), children)
}
