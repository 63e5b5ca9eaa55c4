//! Keyed hash of fixed-width keys: folded 64x64 -> 128 bit multiplies.
//!
//! The key is drawn at start and never leaves the process, so nobody outside can compute which flows
//! share a bucket. A CRC would be no defence: it is linear, what collides under one seed collides
//! under all. SipHash would be one, at 80..150 ns a key.
//!
//! This is not a cryptographic hash: who can read hashes, or measure single lookups to the nanosecond,
//! may learn about the key. Hashes therefore never leave the process either.

/// The secret of one table, or of all.
#[derive(Clone)]
pub struct HashKey {
    words: [u64; 4],
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashKey").finish_non_exhaustive()
    }
}

impl HashKey {
    /// A key from 256 random bits.
    #[must_use]
    pub const fn from_seed(seed: [u64; 4]) -> Self {
        // The constants keep a poor seed, such as all zeroes, from being a degenerate key. The last
        // word is a multiplier of every hash and must not be zero.
        Self {
            words: [
                seed[0] ^ 0x243f_6a88_85a3_08d3,
                seed[1] ^ 0x1319_8a2e_0370_7344,
                seed[2] ^ 0xa409_3822_299f_31d0,
                seed[3] | 1,
            ],
        }
    }

    /// Hash of a 16-byte key.
    #[inline]
    #[must_use]
    pub const fn hash2(&self, a: u64, b: u64) -> u64 {
        let [k0, k1, k2, k3] = self.words;
        fold(fold(a ^ k0, b ^ k1) ^ k2, k3)
    }

    /// Hash of an 8-byte key.
    #[inline]
    #[must_use]
    pub const fn hash1(&self, a: u64) -> u64 {
        self.hash2(a, 0)
    }
}

/// Both halves of the 128-bit product, xored: each input bit reaches each output bit.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}
