//! Sessions: two workers make one, packets against ageing, and the count of half-open ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use algate_config::{Config, Machine};

use super::{HOST, OTHER_HOST, PUBLIC, REMOTE, key, model, race};
use crate::ids::InterfaceId;
use crate::nat::idle_times::IdleTimes;
use crate::nat::key::{Endpoint, FlowKey};
use crate::nat::session::{Ageing, Capacity, CreateError, Facing, NewSession, Sessions};
use crate::nat::tcp_state::{TcpEvent, TcpState};
use crate::router::egress::NextHop;
use crate::router::neighbor::NeighborRef;
use crate::table::sync::Writers;
use crate::time::{Instant, Tick};

const TCP: u8 = 6;
const UDP: u8 = 17;

fn idle_times() -> IdleTimes {
    let text = "nic_port = [{ name = \"n\", device = { driver = \"null\" } }]\n\
                interface = [{ name = \"l\", nic_port = \"n\", side = \"internal\", addresses = [\"10.0.0.1/24\"] }]";
    let config = Config::parse(text, "t", &Machine::unchecked()).expect("the configuration is right");
    IdleTimes::new(&config.timeouts, None)
}

fn sessions(idle_times: &IdleTimes) -> Arc<Sessions> {
    Arc::new(Sessions::new(Capacity::of_any_kind(2), 2, key(), idle_times.clone(), Writers::Many))
}

fn flow(protocol: u8, internal: Endpoint, external: Endpoint) -> NewSession {
    let hop = NextHop { interface: InterfaceId(0), neighbor: NeighborRef::from_bits(0) };
    let (inside, outside) =
        (FlowKey::new(protocol, internal, REMOTE), FlowKey::new(protocol, REMOTE, external));
    NewSession::between((inside, hop), (outside, hop), 0)
}

/// Makes a session; the slot, or why not, and what is to be retired.
fn create(new: NewSession) -> impl Fn(&Sessions) -> (Result<u32, CreateError>, Option<u32>) {
    move |table| {
        let mut retired = None;
        let made = table.create(&new, Instant::default(), |slot| retired = Some(slot));
        (made.map(|session| session.index()), retired)
    }
}

fn found(table: &Sessions, key: FlowKey) -> Option<u32> {
    table.find(table.hash(key), key).map(|(session, _)| session.index())
}

#[test]
fn loom_two_workers_that_open_one_flow_agree_on_one_session() {
    let idle_times = idle_times();
    model(Some(2), move || {
        let table = sessions(&idle_times);
        let new = flow(UDP, HOST, PUBLIC);
        let (theirs, ours) = race(&table, create(new), create(new));
        match (theirs, ours) {
            ((Ok(made), None), (Err(CreateError::Exists(other)), None))
            | ((Err(CreateError::Exists(other)), None), (Ok(made), None)) => {
                assert_eq!(made, other);
                assert_eq!(
                    [new.internal_key, new.external_key].map(|key| found(&table, key)),
                    [Some(made); 2]
                );
                assert_eq!(table.in_use(), 1);
            }
            both => panic!("{both:?}"),
        }
    });
}

#[test]
fn loom_two_flows_never_share_an_external_key() {
    let idle_times = idle_times();
    model(Some(2), move || {
        let table = sessions(&idle_times);
        let flows = [flow(UDP, HOST, PUBLIC), flow(UDP, OTHER_HOST, PUBLIC)];
        let [first, second] = flows;
        let (theirs, ours) = race(&table, create(first), create(second));
        let (winner, loser, made) = match (theirs.0, ours.0) {
            (Ok(made), Err(CreateError::Exists(other))) if made == other => (first, second, made),
            (Err(CreateError::Exists(other)), Ok(made)) if made == other => (second, first, made),
            both => panic!("{both:?}"),
        };
        assert_eq!(found(&table, winner.external_key), Some(made));
        assert_eq!(
            (found(&table, winner.internal_key), found(&table, loser.internal_key)),
            (Some(made), None)
        );
        assert_eq!(table.in_use(), 1);
    });
}

#[test]
fn loom_a_packet_keeps_a_session_or_finds_it_dying() {
    let idle_times = idle_times();
    model(None, move || {
        let table = sessions(&idle_times);
        let new = flow(UDP, HOST, PUBLIC);
        let (made, _) = create(new)(&table);
        let late = Instant::default().plus(Duration::from_secs(10_000));
        let (is_hit, ageing) = race(
            &table,
            move |table| {
                let hit = table.find(table.hash(new.internal_key), new.internal_key);
                let hit = hit.inspect(|(session, facing)| {
                    table.touch(session, *facing, None, late);
                });
                hit.is_some()
            },
            |table| table.age(0, late),
        );
        let session = table.session(made.expect("there is room")).expect("it is in the table");
        match ageing {
            Ageing::Expired => assert!(!session.is_live(), "no packet brings it back"),
            Ageing::Stays => assert!(is_hit && session.is_live() && session.last_seen() == Tick::of(late)),
        }
        assert_eq!(found(&table, new.internal_key).is_some(), ageing == Ageing::Stays);
    });
}

/// A RST shortens the time while the sweep notes that it need not look for hours.
#[test]
fn loom_the_sweep_comes_in_time_for_a_session_that_a_packet_shortens() {
    let idle_times = idle_times();
    model(None, move || {
        let table = sessions(&idle_times);
        let new = flow(TCP, HOST, PUBLIC);
        create(new)(&table).0.expect("there is room");
        let start = Instant::default();
        let established = table.session(0).expect("it is in the table");
        table.touch(&established, Facing::External, Some(TcpEvent::Syn), start);
        let look = start.plus(Duration::from_secs(1_000));
        let (_, ageing) = race(
            &table,
            move |table| {
                let session = table.session(0).expect("it is in the table");
                table.touch(&session, Facing::Internal, Some(TcpEvent::Rst), look);
            },
            |table| table.age(0, look),
        );
        assert_eq!(ageing, Ageing::Stays);
        let session = table.session(0).expect("it is in the table");
        assert_eq!(session.tcp_state(), Some(TcpState::Transitory));
        let due = look.plus(table.idle_of(&session) + Duration::from_secs(1));
        assert_eq!(table.age(0, due), Ageing::Expired);
    });
}

/// The maker sleeps for so long that its session would be too old before it is found by both keys.
#[test]
fn loom_a_session_is_made_before_it_can_be_too_old() {
    let idle_times = idle_times();
    model(Some(3), move || {
        let table = sessions(&idle_times);
        // Not loom's: it tells only what has happened.
        let is_made = Arc::new(AtomicBool::new(false));
        let was_made = Arc::clone(&is_made);
        let late = Instant::default().plus(Duration::from_secs(10_000));
        race(
            &table,
            move |table| assert!(table.age(0, late) == Ageing::Stays || was_made.load(Ordering::Relaxed)),
            |table| {
                create(flow(UDP, HOST, PUBLIC))(table).0.expect("there is room");
                is_made.store(true, Ordering::Relaxed);
            },
        );
    });
}

#[test]
fn loom_ageing_and_an_alg_end_a_session_once() {
    let idle_times = idle_times();
    model(None, move || {
        let table = sessions(&idle_times);
        create(flow(TCP, HOST, PUBLIC))(&table).0.expect("there is room");
        let late = Instant::default().plus(Duration::from_secs(10_000));
        let (ageing, is_ended) = race(
            &table,
            move |table| table.age(0, late),
            |table| table.end(&table.session(0).expect("it is in the table")),
        );
        assert!(is_ended != (ageing == Ageing::Expired));
        assert_eq!(table.half_open(), 0);
    });
}

/// The session is ended while the answer to its SYN arrives.
#[test]
fn loom_an_answer_and_an_end_uncount_a_half_open_session_once() {
    let idle_times = idle_times();
    model(None, move || {
        let table = sessions(&idle_times);
        create(flow(TCP, HOST, PUBLIC))(&table).0.expect("there is room");
        assert_eq!(table.half_open(), 1);
        race(
            &table,
            |table| {
                let session = table.session(0).expect("it is in the table");
                table.touch(&session, Facing::External, Some(TcpEvent::Syn), Instant::default());
            },
            |table| table.end(&table.session(0).expect("it is in the table")),
        );
        assert_eq!(table.half_open(), 0);
    });
}

/// A reply finds the session by the key that is published first.
#[test]
fn loom_a_session_that_is_answered_at_once_is_counted_and_uncounted() {
    let idle_times = idle_times();
    model(Some(3), move || {
        let table = sessions(&idle_times);
        let new = flow(TCP, HOST, PUBLIC);
        let (most, _) = race(
            &table,
            move |table| {
                if let Some((session, facing)) = table.find(table.hash(new.external_key), new.external_key) {
                    table.touch(&session, facing, Some(TcpEvent::Syn), Instant::default());
                }
                table.half_open()
            },
            |table| create(new)(table).0.expect("there is room"),
        );
        assert!(most <= 1, "{most}");
        let session = table.session(0).expect("it is in the table");
        let is_half_open = session.tcp_state() == Some(TcpState::Init);
        assert_eq!(table.half_open(), u32::from(is_half_open));
    });
}
