//! Single words of a mapping. `hugebar_mapping_pointer` is faster for registers that are used often.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use hugebar::mem::Word;

use crate::error::call;
use crate::handle;
use crate::map::hugebar_mapping;

fn read<W: Word>(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: Option<&mut MaybeUninit<W>>,
) -> c_int {
    handle::tell(value, mapping, |own| Ok(own.mapping().read(offset)?))
}

fn write<W: Word>(mapping: *const hugebar_mapping, offset: u64, value: W) -> c_int {
    call(|| Ok(handle::get(mapping)?.mapping().write(offset, value)?))
}

/// Reads 8 bits at a region offset.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_read_u8(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: Option<&mut MaybeUninit<u8>>,
) -> c_int {
    read(mapping, offset, value)
}

/// Reads 16 bits at a region offset that is a multiple of 2, by one access.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_read_u16(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: Option<&mut MaybeUninit<u16>>,
) -> c_int {
    read(mapping, offset, value)
}

/// Reads 32 bits at a region offset that is a multiple of 4, by one access.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_read_u32(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: Option<&mut MaybeUninit<u32>>,
) -> c_int {
    read(mapping, offset, value)
}

/// Reads 64 bits at a region offset that is a multiple of 8, by one access.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_read_u64(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    read(mapping, offset, value)
}

/// Writes 8 bits at a region offset.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_write_u8(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: u8,
) -> c_int {
    write(mapping, offset, value)
}

/// Writes 16 bits at a region offset that is a multiple of 2, by one access.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_write_u16(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: u16,
) -> c_int {
    write(mapping, offset, value)
}

/// Writes 32 bits at a region offset that is a multiple of 4, by one access.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_write_u32(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: u32,
) -> c_int {
    write(mapping, offset, value)
}

/// Writes 64 bits at a region offset that is a multiple of 8, by one access.
#[unsafe(no_mangle)]
pub extern "C" fn hugebar_write_u64(
    mapping: *const hugebar_mapping,
    offset: u64,
    value: u64,
) -> c_int {
    write(mapping, offset, value)
}
