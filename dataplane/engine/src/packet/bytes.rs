//! Big-endian fields at an offset, without a way to panic.

/// The 16-bit field at `offset`, or `None` beyond the end.
#[inline]
pub(crate) fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// The 32-bit field at `offset`, or `None` beyond the end.
#[inline]
pub(crate) fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Sets the 16-bit field at `offset`; beyond the end nothing is written.
#[inline]
pub(crate) fn write_u16(bytes: &mut [u8], offset: usize, value: u16) {
    if let Some(field) = bytes.get_mut(offset..).and_then(|tail| tail.first_chunk_mut()) {
        *field = value.to_be_bytes();
    }
}

/// Sets the 32-bit field at `offset`; beyond the end nothing is written.
#[inline]
pub(crate) fn write_u32(bytes: &mut [u8], offset: usize, value: u32) {
    if let Some(field) = bytes.get_mut(offset..).and_then(|tail| tail.first_chunk_mut()) {
        *field = value.to_be_bytes();
    }
}
