//! CRC32c, the checksum of SCTP (RFC 9260 section 6.8 and appendix A; Castagnoli's polynomial, reflected).
//!
//! Two things are asked of it here: the sum of a short control packet, and what the sum becomes when four bytes
//! change somewhere in a packet of any length. The second is linear algebra: the sums of two packets of one
//! length differ by the sum of their difference, and zeros behind that only multiply it by a power of x. So a port
//! changes in half a microsecond whatever the packet's length, and a wrong sum stays exactly as wrong as it came. No
//! crate offers that without a matrix per packet; the rest is ten lines.

/// The CRC32c of `parts`, one behind the other. About 2 ns a byte: for control packets.
#[must_use]
pub fn sum(parts: [&[u8]; 2]) -> u32 {
    let step = |register: u32, byte: &u8| {
        let entry = TABLE.get(usize::from(register as u8 ^ byte)).copied().unwrap_or_default();
        (register >> 8) ^ entry
    };
    !parts.into_iter().flatten().fold(u32::MAX, step)
}

/// What the change of four bytes, with `after` bytes behind them, does to a sum: to be added to it by `^`.
#[must_use]
pub fn change(old: [u8; 4], new: [u8; 4], after: u16) -> u32 {
    let difference = u32::from_le_bytes(old) ^ u32::from_le_bytes(new);
    // The difference itself moves the register on by four bytes, then by those behind it.
    let mut power = difference;
    let mut bytes = u32::from(after) + 4;
    for square in POWERS {
        if bytes & 1 != 0 {
            power = multiply(power, square);
        }
        bytes >>= 1;
    }
    power
}

/// The product of two polynomials modulo Castagnoli's; bit 31 is the coefficient of 1.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut b, mut bit) = (0, b, 1 << 31);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 != 0 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

const POLYNOMIAL: u32 = 0x82F6_3B78;

/// What one byte does to an empty register.
const TABLE: [u32; 256] = table();

/// x to the power of 8, 16, 32 ...: what 1, 2, 4 ... zero bytes multiply by.
const POWERS: [u32; 17] = powers();

#[expect(clippy::indexing_slicing, reason = "a bound loop, at compile time")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        // Eight steps of one bit: times x to the power of 8.
        table[byte] = multiply(byte as u32, 1 << 23);
        byte += 1;
    }
    table
}

#[expect(clippy::indexing_slicing, reason = "a bound loop, at compile time")]
const fn powers() -> [u32; 17] {
    let mut powers = [1 << 23; 17];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = multiply(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_3720_appendix_b_4() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, expected) in [
            (&[0; 32][..], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&ascending, [0x4e, 0x79, 0xdd, 0x46]),
            (&descending, [0x5c, 0xdb, 0x3f, 0x11]),
        ] {
            assert_eq!(sum([bytes, &[]]).to_le_bytes(), expected);
        }
        assert_eq!(sum([b"1234", b"56789"]), 0xE306_9283);
    }

    #[test]
    fn a_change_anywhere_is_the_difference_of_two_sums() {
        for length in [4_usize, 5, 12, 100, 1_480, 9_001, 65_515] {
            let mut bytes: Vec<u8> = (0..length).map(|at| (at * 7 + 3) as u8).collect();
            for at in [0, length / 3, length - 4].map(|at| at.min(length - 4)) {
                let before = sum([&bytes, &[]]);
                let old: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
                let new = [0xde, 0xad, at as u8, 0xef];
                bytes[at..at + 4].copy_from_slice(&new);
                let after = u16::try_from(length - at - 4).unwrap();
                assert_eq!(before ^ change(old, new, after), sum([&bytes, &[]]), "{length} bytes, at {at}");
            }
        }
        assert_eq!(change([1, 2, 3, 4], [1, 2, 3, 4], 900), 0);
    }
}
