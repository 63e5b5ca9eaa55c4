//! SIP with several owners of control sessions: all that two hosts say to each other has one, whoever receives it.

use std::net::SocketAddrV4;

use algate_config::Config;

use crate::common::packets::{at, udp, udp_between};
use crate::common::{INSIDE, Net, OUTSIDE};
use crate::sim_sip::{Change, FAR, PROXY, SIP, answer, audio, media_of, register, registered, request, talk};

/// Several workers, and several ALG cores behind two.
const OWNERS: [(&str, Change); 2] = [
    ("three workers", |config| config.workers.cores = vec![1, 2, 3]),
    ("three ALG cores", |config| {
        config.workers.cores = vec![1, 2];
        config.workers.alg_cores = vec![3, 4, 5];
    }),
];

fn site(change: Change) -> Net {
    Net::with(SIP, |config: &mut Config| {
        change(config);
        config.tables.alg_flows = 32;
    })
}

/// `text` from inside, received by worker number `receiver`.
#[track_caller]
fn out(net: &mut Net, receiver: usize, phone: &str, text: &str) -> (SocketAddrV4, String) {
    net.receiver = receiver;
    let out = net.one(INSIDE, &udp(phone, PROXY, text.as_bytes()));
    (out.source, String::from_utf8(out.payload).unwrap())
}

fn owners(net: &Net) -> Vec<usize> {
    net.workers.iter().map(|worker| worker.alg_flows()).collect()
}

/// Each flow of the phone comes by another worker, and its call goes along with every one.
#[test]
fn a_04_a_call_goes_on_whichever_worker_receives_its_flows() {
    for (name, change) in OWNERS {
        for last in 2..10 {
            let mut net = site(change);
            let workers = net.engine.workers();
            let host = format!("10.0.0.{last}");
            let phones: Vec<String> = (0..4).map(|n| format!("{host}:{}", 5_060 + 2 * n)).collect();
            let media = format!("{host}:4000");
            let (seen, _) = out(&mut net, 0, &phones[0], &register(&phones[0], 3_600));
            let ok = registered(&seen.to_string(), 3_600);
            net.one(OUTSIDE, &udp_between(at(PROXY), seen, ok.as_bytes()));
            let invite = request("INVITE", "moved", (PROXY, &seen.to_string()), &audio(FAR));
            net.one(OUTSIDE, &udp_between(at(PROXY), seen, invite.as_bytes()));
            let mut announced = None;
            // It rings at one port, is answered from the next one, and again from another one.
            for (n, (phone, status)) in
                phones.iter().zip(["183 Session Progress", "180 Ringing", "200 OK", "200 OK"]).enumerate()
            {
                let text = answer(status, "moved", (PROXY, phone), &audio(&media));
                let (_, told) = out(&mut net, n % workers, phone, &text);
                let told = media_of(&told);
                assert_eq!(*announced.get_or_insert(told), told, "{name}, {host}, {status}");
            }
            let expected = |net: &Net| net.engine.expectation_rows(net.now, usize::MAX).len();
            assert_eq!(expected(&net), 3, "{name}, {host}");
            talk(&mut net, &media, FAR, announced.unwrap());
            let flows = owners(&net);
            assert_eq!(flows.iter().filter(|flows| **flows > 0).count(), 1, "{name}, {host}: {flows:?}");
            net.receiver = workers - 1;
            let bye = request("BYE", "moved", (PROXY, &seen.to_string()), "");
            net.one(OUTSIDE, &udp_between(at(PROXY), seen, bye.as_bytes()));
            assert_eq!(expected(&net), 1, "{name}, {host}: the registration stays");
        }
    }
}

/// Who owns what does not follow from who receives it, and not all of it is one thread's.
#[test]
fn pairs_of_hosts_are_spread_over_the_owners() {
    for (name, change) in OWNERS {
        let mut net = site(change);
        for last in 2..26 {
            let phone = format!("10.0.0.{last}:5060");
            out(&mut net, 0, &phone, &register(&phone, 3_600));
        }
        let flows = owners(&net);
        assert_eq!(flows.iter().filter(|flows| **flows > 0).count(), 3, "{name}: {flows:?}");
    }
}
