//! Firmware for a machine of QEMU's, which reads from a BAR and says how long that took.

#![allow(unsafe_code, reason = "machine code for another machine")]

use std::arch::global_asm;
use std::fs;
use std::path::Path;

use anyhow::Result;

/// It ends at 4 GiB and at 1 MiB, so that its last 16 bytes are the CPU's first instructions.
const SIZE: usize = 64 << 10;

// SAFETY: the assembly below defines it, of this size, among data that never changes.
unsafe extern "C" {
    /// The assembly's bytes, which are never run here.
    safe static hugebar_lab_firmware: [u8; SIZE];
}

/// Writes it to a file, for QEMU's `-bios`.
pub(crate) fn write(path: &Path) -> Result<()> {
    Ok(fs::write(path, hugebar_lab_firmware)?)
}

// The CPU starts in real mode at 0xfffffff0 and goes on at 0xf0000, where the same is. It goes to long mode, with the first
// 512 GiB mapped at the same addresses by pages of 1 GiB, puts BAR 2 of the function 00:04.0 at 64 GiB, lets the device decode
// memory, and reads from every 2 MiB of the BAR's first 4 GiB, twice. It writes the time-stamp counter's differences to QEMU's
// debug console (port 0x402), for decoding and for each time of reading, and `touched`.
global_asm!(
    r#"
    .pushsection .rodata.hugebar_lab_firmware, "a", @progbits
    .balign 16
    .global hugebar_lab_firmware
hugebar_lab_firmware:
    .set BASE, 0xf0000

    .balign 16
9:  // Descriptors: none, code of 32 bits, data, code of 64 bits.
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
    .quad 0x00af9b000000ffff
8:
    .word 4 * 8 - 1
    .long BASE + 9b - hugebar_lab_firmware

    .code32
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    // Two page tables at 0x1000.
    movl $0x1000, %edi
    movl %edi, %cr3
    xorl %eax, %eax
    movl $0x400, %ecx
    cld
    rep stosl
    movl $0x2003, 0x1000
    movl $0x2000, %edi
    xorl %ecx, %ecx
2:  movl %ecx, %eax
    shll $30, %eax
    orl $0x83, %eax
    stosl
    movl %ecx, %eax
    shrl $2, %eax
    stosl
    incl %ecx
    cmpl $512, %ecx
    jne 2b
    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x18, $(BASE + 3f - hugebar_lab_firmware)

    .code64
3:  movl $0x4000, %esp
    // BAR 2 at 64 GiB, by configuration space (0xcf8 and 0xcfc).
    movl $0x80002018, %eax
    xorl %ebx, %ebx
    call 5f
    movl $0x8000201c, %eax
    movl $0x10, %ebx
    call 5f
    call 7f
    movq %rax, %r12
    movl $0x80002004, %eax
    movl $0x2, %ebx
    call 5f
    call 6f
    call 4f
    call 6f
    call 4f
    call 6f
    movl $(BASE + 9f - hugebar_lab_firmware), %esi
    movl $7, %ecx
    rep outsb
    cli
    hlt
9:  .ascii "touched"

4:  // Reads from every 2 MiB.
    movl $0x10, %ebx
    shlq $32, %rbx
    movl $2048, %ecx
    call 7f
    movq %rax, %r12
2:  movl (%rbx), %eax
    addq $0x200000, %rbx
    decl %ecx
    jnz 2b
    ret

5:  // Writes ebx to the register of configuration space that eax names.
    movw $0xcf8, %dx
    outl %eax, %dx
    movw $0xcfc, %dx
    movl %ebx, %eax
    outl %eax, %dx
    ret

6:  // Prints the time since r12 as 16 hexadecimal digits and a space.
    call 7f
    subq %r12, %rax
    movq %rax, %rbx
    movl $16, %ecx
    movw $0x402, %dx
2:  rolq $4, %rbx
    movl %ebx, %eax
    andb $15, %al
    addb $'0', %al
    cmpb $'9', %al
    jbe 3f
    addb $('a' - '0' - 10), %al
3:  outb %al, %dx
    decl %ecx
    jnz 2b
    movb $' ', %al
    outb %al, %dx
    ret

7:  // The time-stamp counter in rax.
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    ret

    .code16
2:  cli
    lgdtl %cs:(8b - hugebar_lab_firmware)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $8, $(BASE + 1b - hugebar_lab_firmware)
    .org hugebar_lab_firmware + 0xfff0
    ljmpw $0xf000, $(2b - hugebar_lab_firmware)
    .org hugebar_lab_firmware + 0x10000
    .code64
    .popsection
    "#,
    options(att_syntax)
);
