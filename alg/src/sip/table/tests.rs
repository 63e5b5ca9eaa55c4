//! The table against what it promises, and against a plain list.

use super::*;

fn hosts(one: &str, other: &str) -> Hosts {
    let [originator, responder] = [one, other].map(|end| end.parse().unwrap());
    Hosts::of(&SessionEndpoints {
        originator,
        originator_seen: originator,
        responder,
        responder_seen: responder,
    })
}

fn begin(table: &mut CallTable, of: &mut FlowCalls, name: u64) -> bool {
    table.insert(of, hosts("10.0.0.2:5060", "198.51.100.1:5060"), &Call::new(name, CALLER)).is_some()
}

fn oldest(table: &mut CallTable, of: FlowCalls, keep: u64) -> Option<u64> {
    let keep = table.find(of, keep);
    let oldest = table.oldest(of, keep)?;
    table.call(oldest).map(|call| call.name)
}

const CALLER: u32 = 5;

/// A message within the dialogue.
const fn within(name: u64, tags: [u32; 2]) -> Heard {
    Heard { name, tags, is_of_invite: false }
}

fn filled(table: &mut CallTable, names: std::ops::RangeInclusive<u64>) -> FlowCalls {
    let mut of = FlowCalls::new();
    for name in names {
        assert!(begin(table, &mut of, name), "{name}");
    }
    of
}

fn order(table: &mut CallTable, of: FlowCalls) -> Vec<u64> {
    let mut names = Vec::new();
    while let Some(name) = oldest(table, of, 0) {
        names.push(name);
        table.remove(table.find(of, name).unwrap());
    }
    names
}

#[test]
fn a_flow_has_what_it_is_sure_of_and_shares_the_rest() {
    let mut table = CallTable::new(2, 3, 6);
    let mut greedy = filled(&mut table, 1..=6);
    assert!(!begin(&mut table, &mut greedy, 7), "its own limit");
    let mut other = filled(&mut table, 1..=5);
    assert!(!begin(&mut table, &mut other, 6), "nothing shared is left");
    let mut late = FlowCalls::new();
    assert!(!begin(&mut table, &mut late, 1), "more flows than there was memory for");
    table.remove(table.find(greedy, 3).unwrap());
    assert!(begin(&mut table, &mut other, 6));
    assert_eq!(table.len(), 11);
    table.end(&mut greedy);
    table.end(&mut other);
    assert!(table.is_empty() && table.shared == 3 && table.free.len() == 11);
}

#[test]
fn calls_of_two_flows_with_one_name_are_two() {
    let mut table = CallTable::new(2, 0, 4);
    let (first, second) = (filled(&mut table, 7..=7), filled(&mut table, 7..=7));
    table.remove(table.find(first, 7).unwrap());
    assert!(table.find(first, 7).is_none() && table.find(second, 7).is_some());
}

#[test]
fn who_makes_room_is_the_oldest_unanswered_call_then_the_oldest_answered_one() {
    let mut table = CallTable::new(2, 8, 16);
    let of = filled(&mut table, 1..=6);
    table.answer(table.find(of, 2).unwrap(), 9);
    table.answer(table.find(of, 1).unwrap(), 9);
    table.touch(table.find(of, 3).unwrap());
    assert_eq!(oldest(&mut table, of, 4), Some(5), "not the one that needs the room");
    let place = table.find(of, 5).unwrap();
    let before = *table.call(place).unwrap();
    table.answer(table.find(of, 5).unwrap(), 9);
    table.restore(place, &before);
    assert_eq!(order(&mut table, of), [4, 6, 3, 5, 2, 1]);
    let alone = filled(&mut table, 8..=8);
    assert!(oldest(&mut table, alone, 8).is_none());
}

#[test]
fn an_answered_call_goes_with_who_has_both_tags_between_the_same_hosts() {
    let there = hosts("10.0.0.2:5062", "198.51.100.1:5061");
    let back = hosts("198.51.100.1:5070", "10.0.0.2:5062");
    let mut table = CallTable::new(3, 8, 8);
    let mut of = filled(&mut table, 1..=6);
    let mut other = FlowCalls::new();
    table.adopt(&mut other, there, &within(2, [CALLER, 9]));
    assert_eq!(other, FlowCalls::new(), "not answered");
    table.answer(table.find(of, 2).unwrap(), 9);
    for (hosts, tags) in [
        (hosts("10.0.0.3:5060", "198.51.100.1:5060"), [CALLER, 9]),
        (hosts("10.0.0.2:5060", "198.51.100.2:5060"), [CALLER, 9]),
        (there, [CALLER, 8]),
        (there, [9, 9]),
        (there, [0, 9]),
        (there, [CALLER, 0]),
    ] {
        table.adopt(&mut other, hosts, &within(2, tags));
        assert_eq!(other, FlowCalls::new(), "{hosts:?} {tags:?}");
    }
    for (hosts, tags) in [(there, [CALLER, 9]), (back, [9, CALLER])] {
        table.adopt(&mut other, hosts, &within(2, tags));
        assert!(table.find(of, 2).is_none() && table.find(other, 2).is_some());
        assert_eq!((table.len(), table.shared, oldest(&mut table, other, 0)), (6, 7, Some(2)));
        table.end(&mut other);
        assert!(begin(&mut table, &mut of, 2));
        table.answer(table.find(of, 2).unwrap(), 9);
    }
    table.adopt(&mut other, there, &within(2, [9, CALLER]));
    table.adopt(&mut of, there, &within(2, [CALLER, 9]));
    assert!(table.find(of, 2).is_some() && table.find(other, 2).is_none(), "and back");
    table.end(&mut of);
    table.end(&mut other);
    assert!(table.is_empty() && table.by_hosts.is_empty());
    assert_eq!((table.free.len(), table.free_flows.len(), table.shared), (20, 3, 8));
}

#[test]
fn a_call_that_rings_goes_with_who_has_a_tag_of_it_or_answers_its_invite() {
    let there = hosts("10.0.0.2:5062", "198.51.100.1:5061");
    let of_invite = |tags| Heard { is_of_invite: true, ..within(2, tags) };
    let mut table = CallTable::new(2, 8, 8);
    let mut of = filled(&mut table, 1..=3);
    let mut other = FlowCalls::new();
    table.adopt(&mut other, there, &of_invite([CALLER, 9]));
    assert_eq!(other, FlowCalls::new(), "nobody has heard of it yet");
    let ring = |table: &mut CallTable, of| table.ring(table.find(of, 2).unwrap(), 9);
    ring(&mut table, of);
    let refused = [
        (there, within(2, [CALLER, 8])),
        (there, within(2, [CALLER, 0])),
        (there, within(2, [8, CALLER])),
        (there, of_invite([8, 9])),
        (there, of_invite([0, 9])),
        (hosts("10.0.0.3:5060", "198.51.100.1:5060"), of_invite([CALLER, 9])),
        (hosts("10.0.0.2:5060", "198.51.100.2:5060"), within(2, [CALLER, 9])),
    ];
    for (hosts, heard) in refused {
        table.adopt(&mut other, hosts, &heard);
        assert_eq!(other, FlowCalls::new(), "{hosts:?} {heard:?}");
    }
    let taken =
        [within(2, [CALLER, 9]), within(2, [9, CALLER]), of_invite([CALLER, 7]), of_invite([CALLER, 0])];
    for heard in taken {
        table.adopt(&mut other, there, &heard);
        assert!(table.find(of, 2).is_none() && table.find(other, 2).is_some(), "{heard:?}");
        assert_eq!(oldest(&mut table, other, 0), Some(2), "not answered, as it was");
        table.end(&mut other);
        assert!(begin(&mut table, &mut of, 2));
        ring(&mut table, of);
    }
    // Once it is answered, who has only rung is out of it, and answers come by its own flow.
    table.answer(table.find(of, 2).unwrap(), 6);
    for heard in [within(2, [CALLER, 9]), of_invite([CALLER, 9]), of_invite([CALLER, 0])] {
        table.adopt(&mut other, there, &heard);
        assert_eq!(other, FlowCalls::new(), "{heard:?}");
    }
    table.end(&mut of);
    assert!(table.is_empty() && table.by_hosts.is_empty());
}

/// Against a plain list, with every operation in a thousand orders.
#[test]
fn the_table_keeps_what_a_plain_list_keeps() {
    let mut table = CallTable::new(1, 28, 32);
    let (mut of, mut model) = (FlowCalls::new(), Vec::<(u64, bool)>::new());
    let mut random = 7u64;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = 1 + (random >> 33) % 48;
        let at = model.iter().position(|(known, _)| *known == name);
        match ((random >> 60) % 4, at) {
            (0, None) => {
                assert_eq!(begin(&mut table, &mut of, name), model.len() < 32);
                if model.len() < 32 {
                    model.push((name, false));
                }
            }
            (1, Some(at)) => {
                table.touch(table.find(of, name).unwrap());
                let call = model.remove(at);
                model.push(call);
            }
            (2, Some(at)) => {
                table.answer(table.find(of, name).unwrap(), 1);
                model.remove(at);
                model.push((name, true));
            }
            (3, Some(at)) => {
                table.remove(table.find(of, name).unwrap());
                model.remove(at);
            }
            _ => {}
        }
        let wanted = model.iter().find(|(_, answered)| !answered).or_else(|| model.first());
        assert_eq!(oldest(&mut table, of, 0), wanted.map(|(name, _)| *name));
        assert_eq!(table.len(), model.len());
    }
}
