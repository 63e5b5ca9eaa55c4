//! Which slots of a bucket have a tag: all eight compared at once.
//!
//! An entry lies in any slot of its bucket, so a loop that stops at the first match mispredicts. Both forms here look at
//! all slots without a branch: one for any machine, one of eleven instructions for x86-64's own SSE2. AVX2 would save
//! three of them and need a choice at run time, which costs more.

use super::record::{LINE_WORDS, Line};
#[cfg(any(test, not(target_arch = "x86_64"), loom, shuttle, miri))]
use super::sync::{AtomicU64, Ordering};

/// In assembly, for these are loads of words that others write: to the language they are relaxed ones, and each half
/// of a word is whole, being aligned. What is given as text is done to the upper halves before they are compared.
#[cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
macro_rules! look {
    ($line:expr, $wanted:expr $(, $before:literal)*) => {{
        let (line, wanted): (&Line, u32) = ($line, $wanted);
        let hits: u32;
        // SAFETY: reads the 64 bytes of `line`, aligned to 64, and writes registers only; SSE2 belongs to every x86-64. Not
        // `pure`: several looks at a line stay in their order.
        unsafe {
            std::arch::asm!(
                "movd {wanted}, {upper:e}",
                "pshufd {wanted}, {wanted}, 0",
                // The upper halves of slots 0 to 3, then of 4 to 7.
                "movaps {low}, [{line}]",
                "shufps {low}, [{line} + 16], 0xdd",
                "movaps {high}, [{line} + 32]",
                "shufps {high}, [{line} + 48], 0xdd",
                $($before,)*
                "pcmpeqd {low}, {wanted}",
                "pcmpeqd {high}, {wanted}",
                // A byte per slot, then a bit.
                "packssdw {low}, {high}",
                "packsswb {low}, {low}",
                "pmovmskb {hits:e}, {low}",
                line = in(reg) line,
                upper = in(reg) wanted,
                wanted = out(xmm_reg) _,
                low = out(xmm_reg) _,
                high = out(xmm_reg) _,
                hits = lateout(reg) hits,
                options(readonly, nostack, preserves_flags),
            );
        }
        hits & 0xFF
    }};
}

/// One bit per slot whose upper half is `upper`, the first slot's the lowest. A slot that changes meanwhile is seen as
/// it was before or after; what its word says is to be loaded again.
#[inline(always)]
pub(super) fn slots_with(line: &Line, upper: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
    {
        look!(line, upper)
    }
    #[cfg(any(not(target_arch = "x86_64"), loom, shuttle, miri))]
    {
        scalar(line, upper, 0)
    }
}

/// The same, of slots whose upper half is `tag` without its two lowest bits, in one look: who goes from one state to another
/// meanwhile is not missed.
#[inline(always)]
pub(super) fn slots_tagged(line: &Line, tag: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
    {
        look!(line, tag, "psrld {low}, 2", "psrld {high}, 2")
    }
    #[cfg(any(not(target_arch = "x86_64"), loom, shuttle, miri))]
    {
        scalar(line, tag, 2)
    }
}

#[cfg(any(test, not(target_arch = "x86_64"), loom, shuttle, miri))]
fn scalar(line: &Line, wanted: u32, shift: u32) -> u32 {
    let upper = |slot: &AtomicU64| (slot.load(Ordering::Relaxed) >> 32) as u32;
    let bit = |slot: &AtomicU64| u32::from(upper(slot) >> shift == wanted);
    line.words.iter().take(SLOTS).rev().fold(0, |bits, slot| (bits << 1) | bit(slot))
}

/// Slots in use of a bucket's eight; two in a model, to keep it small.
pub(super) const SLOTS: usize = if cfg!(loom) { 2 } else { LINE_WORDS };

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_vector_form_finds_what_the_plain_one_finds(
            words in proptest::array::uniform8(prop_oneof![
                (0_u64..4, any::<u32>()).prop_map(|(upper, lower)| upper << 32 | u64::from(lower)),
                any::<u64>(),
            ]),
            pick in 0_usize..8,
            other in prop_oneof![0_u32..4, any::<u32>()],
        ) {
            let line = Line::default();
            for (slot, word) in line.words.iter().zip(words) {
                slot.store(word, Ordering::Relaxed);
            }
            for upper in [other, (words[pick] >> 32) as u32, 0, u32::MAX, 1 << 31] {
                prop_assert_eq!(slots_with(&line, upper), scalar(&line, upper, 0));
                prop_assert_eq!(slots_tagged(&line, upper >> 2), scalar(&line, upper >> 2, 2));
            }
        }
    }

    #[test]
    fn each_slot_has_its_bit() {
        for position in 0..LINE_WORDS {
            let line = Line::default();
            line.word(position).store(0x8765_4321_0000_0001, Ordering::Relaxed);
            assert_eq!(slots_with(&line, 0x8765_4321), 1 << position);
            assert_eq!(slots_with(&line, 0), 0xFF ^ (1 << position));
            for (state, word) in (0_u64..4).map(|state| (state, 0x8765_4320_0000_0001 | state << 32)) {
                line.word(position).store(word, Ordering::Relaxed);
                assert_eq!(slots_tagged(&line, 0x8765_4320 >> 2), 1 << position, "state {state}");
            }
        }
    }
}
