//! Whole workers over one engine with tiny tables, under random schedules (shuttle): each atomic step of the shared state
//! may be followed by another thread's.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test -p algate-engine --test engine shuttle_` runs them. Schedules and what the threads
//! do come from [`SEED`], so that a run can be repeated; a failure prints its schedule, for `shuttle::replay`. The
//! ledger of [`Net`] judges each execution: every port is some mapping's, every session its subscriber's, and
//! nothing is left after all timeouts, slots included. Debug assertions find what is given back twice.
//!
//! All orderings count as `SeqCst` here; weaker ones are the matter of the loom models. Counters, neighbours and the
//! rings of records run in one step each.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use algate_config::{Assignment, Config, FilteringBehavior, Hold, IcmpRefusal, MappingBehavior, PortBlocks};
use algate_engine::ids::{NicPortId, WorkerId};
use algate_engine::nat::NatWorker;
use algate_engine::nat::expectation::Expectation;
use algate_engine::nat::key::{Endpoint, FlowKey};
use algate_engine::packet::vec_frame::{VecFrame, VecIo};
use algate_engine::table::hash::HashKey;
use algate_engine::table::quiescence::Quiescence;
use algate_engine::time::{Instant, Tick};
use algate_engine::worker::Worker;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};

use crate::common::packets::{ACK, FIN, RST, SYN, Seen, at, tcp_between, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};

#[test]
fn shuttle_workers_that_open_the_same_flows_agree_on_every_translation() {
    check(|| {
        let mut site = Site::new(2, "", |_| {});
        let mut seen = site.run(|thread| {
            let mut seen = Vec::new();
            for _ in 0..4 {
                let host = HOSTS[thread.below(HOSTS.len())];
                // A packet that meets a mapping half made by a sleeping thread, twice, is lost.
                for out in thread.send(INSIDE, &udp_between(host, REMOTE, b"out")) {
                    seen.push((host, out.source));
                    let back = thread.send(OUTSIDE, &udp_between(REMOTE, out.source, b"back"));
                    assert_eq!(back.iter().map(|back| back.destination).collect::<Vec<_>>(), [host]);
                }
            }
            seen
        });
        assert!(seen.len() >= 4, "only {}", seen.len());
        seen.extend(
            HOSTS.map(|host| (host, site.net.one(INSIDE, &udp_between(host, REMOTE, b"late")).source)),
        );
        let pairs: HashSet<_> = seen.into_iter().collect();
        let externals: HashSet<_> = pairs.iter().map(|(_, external)| external).collect();
        assert_eq!((pairs.len(), externals.len()), (HOSTS.len(), HOSTS.len()), "{pairs:?}");
    });
}

#[test]
fn shuttle_nothing_is_lost_while_flows_open_answer_and_expire() {
    check(|| cycles(|_| {}));
}

#[test]
fn shuttle_nothing_is_lost_with_filtering_by_address() {
    check(|| cycles(|config| config.nat.rules[0].filtering = FilteringBehavior::AddressDependent));
}

#[test]
fn shuttle_nothing_is_lost_with_mappings_for_one_remote_each() {
    check(|| cycles(|config| config.nat.rules[0].mapping = MappingBehavior::AddressAndPortDependent));
}

#[test]
fn shuttle_nothing_is_lost_while_port_blocks_change_hands() {
    check(|| {
        cycles(|config| {
            let (idle_hold, assignment) = (Duration::ZERO, Assignment::Dynamic);
            config.nat.pools[0].blocks = Some(PortBlocks { ports: 2, per_host: 2, idle_hold, assignment });
        });
    });
}

#[test]
fn shuttle_expectations_admit_as_many_as_promised_while_they_are_withdrawn() {
    check(expectations);
}

/// Three workers, tables of six, a pool of eight ports: they open flows, answer them, come in from elsewhere, and let time
/// pass, each when it likes.
fn cycles(change: impl FnOnce(&mut Config)) {
    let mut site = Site::new(3, FORWARDS, change);
    site.run(|thread| -> Vec<()> {
        let mut known = vec![FORWARD];
        for _ in 0..5 {
            let host = HOSTS[thread.below(HOSTS.len())];
            let remote = [REMOTE, OTHER_REMOTE][thread.below(2)];
            let external = known[thread.below(known.len())];
            let flags = [SYN, ACK, FIN | ACK, RST][thread.below(4)];
            let sent = match thread.below(8) {
                0 | 1 => thread.send(INSIDE, &udp_between(host, remote, b"out")),
                2 => thread.send(INSIDE, &tcp_between(host, remote, flags, b"")),
                3 => thread.send(INSIDE, &udp_between(host, external, b"hairpin")),
                4 => thread.send(OUTSIDE, &udp_between(remote, external, b"in")),
                5 => thread.send(OUTSIDE, &tcp_between(remote, external, flags | ACK, b"")),
                6 => thread.send(OUTSIDE, &udp_between(remote, FORWARD, b"in")),
                _ => {
                    thread.pass(Duration::from_secs(310));
                    Vec::new()
                }
            };
            known.extend(sent.iter().filter(|seen| seen.nic_port == OUTSIDE).map(|seen| seen.source));
        }
        Vec::new()
    });
}

/// One thread promises a flow, or two, and withdraws some of it; peers come at the same time, and the parent may end.
fn expectations() {
    let mut site = Site::new(3, "", |_| {});
    let client = at("10.0.0.2:4000");
    let external = site.net.one(INSIDE, &tcp_between(client, SERVER, SYN, b"")).source;
    site.net.one(OUTSIDE, &tcp_between(SERVER, external, SYN | ACK, b""));
    let announced: Arc<Mutex<Vec<(SocketAddrV4, u32)>>> = Arc::default();
    let promised = Arc::clone(&announced);
    let retired: Arc<Mutex<Option<NatWorker>>> = Arc::default();
    let keeper = Arc::clone(&retired);
    let admitted = site.run(move |thread| {
        let mut admitted = Vec::new();
        if thread.number > 0 {
            for l4_port in 0..3 {
                let to = promised.lock().unwrap().last().copied();
                let Some((to, _)) = to else {
                    shuttle::thread::yield_now();
                    continue;
                };
                let from = SocketAddrV4::new(
                    *SERVER.ip(),
                    3000 + 10 * u16::try_from(thread.number).unwrap() + l4_port,
                );
                let seen = thread.send(OUTSIDE, &tcp_between(from, to, SYN, b""));
                assert!(seen.iter().all(|seen| seen.destination == DATA));
                admitted.extend(seen.iter().map(|_| to));
                if thread.below(6) == 0 {
                    thread.send(INSIDE, &tcp_between(client, SERVER, RST, b""));
                    thread.pass(Duration::from_secs(250));
                }
            }
            return admitted;
        }
        let engine = Arc::clone(&thread.engine);
        let events = engine.events.recorder(WorkerId(0)).unwrap();
        let mut owner = NatWorker::new(
            7,
            8,
            &HashKey::from_seed([9; 4]),
            Hold { time: Duration::ZERO, ports: 0 },
            events,
        );
        for _ in 0..2 {
            let now = thread.now();
            let key = FlowKey::new(6, client.into(), SERVER.into());
            let Some((session, _)) = engine.nat.sessions.find(engine.nat.sessions.hash(key), key) else {
                break;
            };
            let parent = engine.nat.sessions.handle(&session);
            let address = u32::from(*external.ip());
            let Ok((endpoint, mapping)) = engine.nat.reserve(&mut owner, 6, DATA.into(), address, now) else {
                continue;
            };
            let uses = 1 + u32::try_from(thread.below(2)).unwrap();
            let promise = Expectation {
                protocol: 6,
                announced: endpoint,
                target: DATA.into(),
                peer: Some(Endpoint { l4_port: 0, ..SERVER.into() }),
                uses,
                expires: Tick::of(now).plus(Duration::from_secs(60)),
                parent,
                mapping: Some(mapping),
            };
            if let Ok(handle) = engine.nat.promise(&mut owner, &promise) {
                promised.lock().unwrap().push((endpoint.into(), uses));
                thread.poll();
                if thread.below(2) == 0 {
                    engine.nat.withdraw(&mut owner, handle);
                }
            }
            thread.poll();
        }
        *keeper.lock().unwrap() = Some(owner);
        admitted
    });
    for to in admitted.iter().collect::<HashSet<_>>() {
        let promised =
            announced.lock().unwrap().iter().filter(|(at, _)| at == to).map(|(_, uses)| *uses).sum::<u32>();
        let came = admitted.iter().filter(|at| *at == to).count();
        assert!(came <= promised as usize, "{came} came in, {promised} were promised");
    }
    // All threads are done: nobody holds what the owner retired.
    let mut owner = retired.lock().unwrap().take().unwrap();
    while owner.retired() > 0 {
        site.net.engine.nat.reclaim(&mut owner, &Quiescence::new(0), site.net.now);
    }
}

/// Runs `body` under random schedules, and under those that interrupt seldom but at the worst moments.
fn check(body: impl Fn() + Send + Sync + Copy + 'static) {
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = STACK_BYTES;
        config.max_steps = shuttle::MaxSteps::None;
        config.silence_warnings = true;
        config
    };
    shuttle::Runner::new(RandomScheduler::new_from_seed(SEED, RANDOM_SCHEDULES), config()).run(body);
    shuttle::Runner::new(PctScheduler::new_from_seed(SEED, PREEMPTIONS, SELDOM_SCHEDULES), config())
        .run(body);
}

/// A [`Net`] whose workers run in threads.
struct Site {
    net: Net,
    clock: Arc<AtomicU64>,
}

/// One of them: a worker with a wire of its own.
struct Thread {
    number: usize,
    engine: Arc<algate_engine::engine::Engine>,
    worker: Worker<VecFrame>,
    io: VecIo,
    clock: Arc<AtomicU64>,
    transmitted: u64,
}

impl Site {
    /// So many workers; tables of six, one address with eight ports, and `toml`.
    fn new(workers: usize, toml: &str, change: impl FnOnce(&mut Config)) -> Self {
        let mut net = Net::with(toml, |config| {
            config.workers.cores = (1..=workers).collect();
            config.tables.sessions = 6;
            config.tables.mappings = 6;
            config.tables.subscribers = 3;
            config.tables.expectations = 3;
            config.tables.alg_flows = 0;
            config.timeouts.arp = Duration::from_secs(30 * 86_400);
            config.nat.hold.time = Duration::ZERO;
            config.icmp.refusal = IcmpRefusal::None;
            let pool = &mut config.nat.pools[0];
            pool.ranges[0].1 = pool.ranges[0].0;
            pool.l4_ports = (3000, 3007);
            change(config);
        });
        // Everyone's MAC address is known, and nothing else.
        for host in ["10.0.0.2:1", "10.0.0.3:1"].map(at) {
            let out = net.one(INSIDE, &udp_between(host, REMOTE, b""));
            assert_eq!(net.one(OUTSIDE, &udp_between(REMOTE, out.source, b"")).destination, host);
        }
        net.advance(Duration::from_secs(310));
        let clock = Arc::new(AtomicU64::new(net.now.as_nanos()));
        Self { net, clock }
    }

    /// Does `act` in a thread for each worker; what they all return.
    fn run<T: Send + 'static>(
        &mut self,
        act: impl Fn(&mut Thread) -> Vec<T> + Send + Sync + 'static,
    ) -> Vec<T> {
        let act = Arc::new(act);
        self.clock.store(self.net.now.as_nanos(), Ordering::Relaxed);
        let workers = std::mem::take(&mut self.net.workers).into_iter().enumerate();
        let threads: Vec<_> = workers
            .map(|(number, worker)| {
                let (engine, clock, act) =
                    (Arc::clone(&self.net.engine), Arc::clone(&self.clock), Arc::clone(&act));
                shuttle::thread::spawn(move || {
                    let mut thread =
                        Thread { number, engine, worker, io: VecIo::default(), clock, transmitted: 0 };
                    let done = act(&mut thread);
                    // Who is done holds nobody up.
                    thread.worker.pause();
                    (thread.worker, thread.transmitted, done)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            let (worker, transmitted, done) = thread.join().unwrap();
            worker.resume();
            self.net.workers.push(worker);
            self.net.transmitted += transmitted;
            all.extend(done);
        }
        self.net.now = Instant::from_nanos(self.clock.load(Ordering::Relaxed));
        all
    }
}

impl Thread {
    /// Puts a frame on a wire; the packets that come out at once.
    fn send(&mut self, nic_port: u16, frame: &[u8]) -> Vec<Seen> {
        let now = self.now();
        let mut burst = vec![VecFrame::from_bytes(frame)];
        self.worker.receive(&mut self.io, now, NicPortId(nic_port), &mut burst);
        let sent = self.io.take().into_iter().map(|(wire, frame)| Seen::new(wire.0, &frame.bytes()));
        let seen: Vec<_> = sent.inspect(Seen::verify).collect();
        self.transmitted += seen.len() as u64;
        self.poll();
        seen
    }

    fn poll(&mut self) {
        let now = self.now();
        self.worker.poll(&mut self.io, now);
        assert_eq!(self.io.take().len(), 0, "what is sent is sent at once");
    }

    /// Lets time pass, for all threads, with some turns of this one.
    fn pass(&mut self, by: Duration) {
        for _ in 0..3 {
            let step = u64::try_from(by.as_nanos() / 3).unwrap();
            self.clock.fetch_add(step, Ordering::Relaxed);
            self.poll();
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.load(Ordering::Relaxed))
    }

    /// A random number below `end`, of the schedule's seed.
    fn below(&self, end: usize) -> usize {
        thread_rng().gen_range(0..end)
    }
}

const FORWARDS: &str = r#"
[[nat.forward]]
protocol = "udp"
external = "203.0.113.10:3007"
internal = "10.0.0.3:53"
"#;

const HOSTS: [SocketAddrV4; 3] = [
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5000),
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5001),
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 3), 5000),
];
const REMOTE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 53);
const OTHER_REMOTE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 2), 53);
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 2121);
const DATA: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 4001);
const FORWARD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 10), 3007);

const SEED: u64 = 20_250_101;
const RANDOM_SCHEDULES: usize = 200;
const SELDOM_SCHEDULES: usize = 100;
const PREEMPTIONS: usize = 8;
const STACK_BYTES: usize = 1 << 21;
