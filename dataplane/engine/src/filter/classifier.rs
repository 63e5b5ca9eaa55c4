//! First match among thousands of rules, by bit vectors.
//!
//! After Lakshman and Stiliadis (SIGCOMM 1998) with the summaries of Baboescu and Varghese (SIGCOMM 2001).
//! In each field the ends of all rules' ranges cut the values into intervals; each interval has the set of
//! rules that hold there, one bit a rule. A lookup finds the interval of each field by binary search and
//! takes the first rule that is in all sets. Two things keep that cheap:
//!
//! - rules that leave a field open are in every set of it: they are kept once per field, and a
//!   set holds only what is special to its interval, as the words of it that are not zero;
//! - each set has a summary, one bit a word. Words are read only where all summaries have their bit. So
//!   that a word seldom seems to match where none of its rules does, the rules are sorted by which fields
//!   they name, and rules of different kinds share no word.
//!
//! Cost: one binary search per field that any rule names, then at worst one word per field and 64
//! rules. Memory: at worst the square of the rules in bits for each field, in practice some 100
//! bytes a rule.
//!
//! Invariants: the words of a set stand in ascending order of their place, one for each bit of its
//! summary; within a word, and from word to word of one kind, rules stand in their own order.

use hashbrown::HashMap;

/// Fields of a packet that rules look at.
pub(super) const FIELDS: usize = 7;

/// Rules of one classifier.
pub(super) const MAX_RULES: usize = 16_384;

/// A rule: inclusive ranges per field; an empty list leaves the field open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pattern {
    /// In the order of the packet's fields.
    pub(super) fields: [Vec<(u32, u32)>; FIELDS],
}

/// The compiled rules.
#[derive(Debug, Default)]
pub(super) struct Classifier {
    /// Fields that some rule names, the most telling first.
    fields: Vec<Field>,
    /// The rule of each bit; [`NO_RULE`] fills up the last word of a kind.
    rule_of: Vec<u32>,
}

/// One field's sets.
#[derive(Debug)]
struct Field {
    /// Which value of the packet it is.
    number: usize,
    /// First values of the intervals, ascending from 0.
    starts: Vec<u32>,
    /// The set of each interval, in `sets`.
    set_of: Vec<u32>,
    sets: Vec<Set>,
    /// The words of all sets.
    words: Vec<u64>,
    open_summary: Summary,
    /// The rules that leave the field open.
    open: Vec<u64>,
}

/// A set of rules: those of its words that are not zero.
#[derive(Debug, Clone, Copy, Default)]
struct Set {
    summary: Summary,
    first_word: u32,
}

/// One bit for each word that is not zero.
type Summary = [u64; SUMMARY_WORDS];

impl Classifier {
    /// Compiles `patterns`, the first [`MAX_RULES`] of them.
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        let patterns = patterns.get(..MAX_RULES).unwrap_or(patterns);
        let rule_of = sorted_by_kind(patterns);
        let at = |rule: &u32| patterns.get(*rule as usize);
        let placed: Vec<Option<&Pattern>> = rule_of.iter().map(at).collect();
        let mut fields: Vec<Field> = (0..FIELDS)
            .filter(|number| patterns.iter().any(|pattern| !pattern.ranges(*number).is_empty()))
            .map(|number| Field::new(number, &placed))
            .collect();
        fields.sort_by_key(Field::words_per_set);
        Self { fields, rule_of }
    }

    /// The first rule that matches a packet's `values`.
    pub(super) fn first_match(&self, values: &[u32; FIELDS]) -> Option<usize> {
        let mut sets = [Set::default(); FIELDS];
        for (field, set) in self.fields.iter().zip(&mut sets) {
            *set = field.set_at(values.get(field.number).copied().unwrap_or_default());
        }
        let mut best = NO_RULE;
        for part in 0..self.rule_of.len().div_ceil(64 * 64) {
            let mut candidates = u64::MAX;
            for (field, set) in self.fields.iter().zip(&sets) {
                candidates &= bits(&set.summary, part) | bits(&field.open_summary, part);
            }
            while candidates != 0 {
                let place = part * 64 + candidates.trailing_zeros() as usize;
                candidates &= candidates - 1;
                // The first rule of a word comes before its others.
                if self.rule_at(place * 64) < best {
                    let word = self.matching(&sets, place);
                    if word != 0 {
                        best = best.min(self.rule_at(place * 64 + word.trailing_zeros() as usize));
                    }
                }
            }
        }
        (best != NO_RULE).then_some(best as usize)
    }

    /// The rules of word `place` that hold in all sets, one bit each.
    fn matching(&self, sets: &[Set; FIELDS], place: usize) -> u64 {
        let mut word = u64::MAX;
        for (field, set) in self.fields.iter().zip(sets) {
            word &= field.word(set, place);
            if word == 0 {
                break;
            }
        }
        word
    }

    fn rule_at(&self, bit: usize) -> u32 {
        self.rule_of.get(bit).copied().unwrap_or(NO_RULE)
    }

    /// Bytes that the sets take.
    pub(super) fn bytes(&self) -> usize {
        let of = |field: &Field| {
            field.starts.len() * 8
                + field.sets.len() * size_of::<Set>()
                + (field.words.len() + field.open.len()) * 8
        };
        self.fields.iter().map(of).sum()
    }
}

impl Pattern {
    /// The ranges of one field.
    pub(super) fn ranges(&self, number: usize) -> &[(u32, u32)] {
        self.fields.get(number).map_or(&[], Vec::as_slice)
    }
}

impl Field {
    /// `placed`: the pattern of each bit.
    fn new(number: usize, placed: &[Option<&Pattern>]) -> Self {
        let words = placed.len().div_ceil(64);
        let mut open = vec![0; words];
        let mut ends: Vec<(u32, usize)> = Vec::new();
        for (bit, pattern) in placed.iter().enumerate() {
            let Some(pattern) = pattern else { continue };
            if pattern.ranges(number).is_empty() {
                flip(&mut open, bit);
            }
            for (first, last) in union(pattern.ranges(number)) {
                ends.push((first, bit));
                ends.extend(last.checked_add(1).map(|next| (next, bit)));
            }
        }
        ends.sort_unstable();
        let mut field = Self {
            number,
            starts: vec![0],
            set_of: vec![0],
            sets: vec![Set::default()],
            words: Vec::new(),
            open_summary: summary_of(&open),
            open,
        };
        field.sweep(&ends, words);
        field
    }

    /// Goes through the values in ascending order; at each end a rule enters or leaves the set.
    fn sweep(&mut self, ends: &[(u32, usize)], words: usize) {
        let mut current = vec![0; words];
        let mut known: HashMap<Vec<u64>, u32> = HashMap::from([(current.clone(), 0)]);
        for same in ends.chunk_by(|a, b| a.0 == b.0) {
            same.iter().for_each(|(_, bit)| flip(&mut current, *bit));
            let set = match known.get(&current) {
                Some(set) => *set,
                None => {
                    let set = self.sets.len() as u32;
                    let first_word = self.words.len() as u32;
                    self.sets.push(Set { summary: summary_of(&current), first_word });
                    self.words.extend(current.iter().filter(|word| **word != 0));
                    known.insert(current.clone(), set);
                    set
                }
            };
            let start = same.first().map_or(0, |(start, _)| *start);
            if start == 0 {
                self.set_of = vec![set];
            } else if self.set_of.last() != Some(&set) {
                self.starts.push(start);
                self.set_of.push(set);
            }
        }
    }

    /// How much of a set must be read: few words mean that the field tells rules apart.
    fn words_per_set(&self) -> usize {
        self.words.len() / self.sets.len().max(1)
    }

    fn set_at(&self, value: u32) -> Set {
        let after = self.starts.partition_point(|start| *start <= value);
        let set = after.checked_sub(1).and_then(|at| self.set_of.get(at)).copied().unwrap_or_default();
        self.sets.get(set as usize).copied().unwrap_or_default()
    }

    /// The rules of word `place` that hold in `set`.
    fn word(&self, set: &Set, place: usize) -> u64 {
        let open = self.open.get(place).copied().unwrap_or_default();
        let (part, bit) = (place / 64, 1_u64 << (place % 64));
        let summary = bits(&set.summary, part);
        if summary & bit == 0 {
            return open;
        }
        let before: u32 = set.summary.iter().take(part).map(|part| part.count_ones()).sum();
        let rank = before + (summary & (bit - 1)).count_ones();
        open | self.words.get((set.first_word + rank) as usize).copied().unwrap_or_default()
    }
}

/// Which rule has which bit: by the fields of [`KIND_FIELDS`] it names, then in its order; each kind
/// begins a word.
fn sorted_by_kind(patterns: &[Pattern]) -> Vec<u32> {
    let kind_of = |pattern: &Pattern| KIND_FIELDS.map(|number| pattern.ranges(number).is_empty());
    let mut rules: Vec<_> = patterns.iter().map(kind_of).zip(0_u32..).collect();
    rules.sort_unstable();
    let mut rule_of = Vec::new();
    for same in rules.chunk_by(|a, b| a.0 == b.0) {
        rule_of.extend(same.iter().map(|(_, rule)| *rule));
        rule_of.resize(rule_of.len().next_multiple_of(64), NO_RULE);
    }
    rule_of
}

/// Merges overlapping and adjacent ranges, so that a rule enters a set once before it leaves it.
fn union(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let is_joined = next.0 <= last.1.saturating_add(1);
        if is_joined {
            last.1 = last.1.max(next.1);
        }
        is_joined
    });
    ranges
}

fn flip(words: &mut [u64], bit: usize) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word ^= 1 << (bit % 64);
    }
}

fn summary_of(words: &[u64]) -> Summary {
    let mut summary = Summary::default();
    for (place, _) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
        flip(&mut summary, place);
    }
    summary
}

fn bits(summary: &Summary, part: usize) -> u64 {
    summary.get(part).copied().unwrap_or_default()
}

/// The fields that tell rules apart where they are named: addresses and ports, the first four.
const KIND_FIELDS: [usize; 4] = [0, 1, 2, 3];

const NO_RULE: u32 = u32::MAX;

/// Room for [`MAX_RULES`] and for a part of a word for each kind.
const SUMMARY_WORDS: usize = (MAX_RULES + (64 << KIND_FIELDS.len())).div_ceil(64 * 64);
