//! The first program of every container: a static ELF file of its own, made by `build.rs`, kept
//! in kiln's binary and executed from memory. It executes the command; with `--init` it stays as
//! PID 1, forwards signals and reaps.
//!
//! Why not execute the command at once: until then `/proc/self/exe` inside the container is kiln
//! itself and the process holds descriptors of the host. A command, a `#!` line or an ELF
//! interpreter that names `/proc/self/exe` or `/proc/self/fd/N` would reach them. Here both are
//! gone.
//!
//! Arguments: `[0]` a name, `[1]` `e` (execute) or `i` (stay as init) and the number of
//! candidates in decimal, then the candidates, then the argument list of the command. Descriptor 3
//! is a pipe: `errno` of the failed execve as four bytes, or nothing.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::ptr::null;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const GETPID: usize = 39;
    pub const SETPGID: usize = 109;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const IOCTL: usize = 29;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const FCNTL: usize = 25;
    pub const GETPID: usize = 172;
    pub const SETPGID: usize = 154;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const PRCTL: usize = 167;
    pub const EXIT_GROUP: usize = 94;
}

const PIPE: usize = 3;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;
const SIGCHLD: isize = 17;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x0, sp",
    "bl {start}",
    "brk 1",
    start = sym start,
);

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; only the registers named change.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, in("r8") 0, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: as for x86-64.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c,
             in("x3") d, in("x4") 0, options(nostack));
    }
    result
}

type Strings = *const *const u8;

/// `stack` is what the kernel hands over: argc, argv, a null, envp, a null.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the layout of the initial stack (System V ABI); kiln always gives the arguments
    // described above, so every place read here is there.
    unsafe {
        let argc = *stack;
        let argv = stack.add(1) as Strings;
        let envp = argv.add(argc + 1);
        let order = *argv.add(1);
        let mut candidates = 0usize;
        let mut digit = order.add(1);
        while *digit >= b'0' && *digit <= b'9' {
            candidates = candidates * 10 + (*digit - b'0') as usize;
            digit = digit.add(1);
        }
        let first = argv.add(2);
        if *order == b'i' {
            init(first, candidates, envp)
        }
        execute(first, candidates, envp)
    }
}

/// Executes the first candidate that can be; like execvp, one that may not be executed hides
/// nothing behind it.
unsafe fn execute(first: Strings, candidates: usize, envp: Strings) -> ! {
    // SAFETY: `candidates` strings from `first`, then a list that ends with a null.
    unsafe {
        // F_SETFD, FD_CLOEXEC
        call(number::FCNTL, PIPE, 2, 1, 0);
        let argv = first.add(candidates);
        let mut failure = ENOENT;
        let mut at = 0;
        while at < candidates {
            let error = call(number::EXECVE, *first.add(at) as usize, argv as usize, envp as usize, 0);
            match error {
                ENOENT | ENOTDIR => {}
                EACCES => failure = EACCES,
                other => {
                    failure = other;
                    break;
                }
            }
            at += 1;
        }
        let errno = -failure as u32;
        call(number::WRITE, PIPE, &raw const errno as usize, 4, 0);
        exit(127)
    }
}

unsafe fn exit(code: usize) -> ! {
    loop {
        // SAFETY: ends this process.
        unsafe { call(number::EXIT_GROUP, code, 0, 0, 0) };
    }
}

/// PID 1 with `--init`: the command is its child; its end is the container's end.
unsafe fn init(first: Strings, candidates: usize, envp: Strings) -> ! {
    let (all, none) = (u64::MAX, 0u64);
    // SAFETY: signal sets of the kernel's eight bytes; plain numbers everywhere else.
    unsafe {
        // PR_SET_NAME; SIG_SETMASK = 2
        call(number::PRCTL, 15, c"docker-init".as_ptr() as usize, 0, 0);
        call(number::RT_SIGPROCMASK, 2, &raw const all as usize, 0, 8);
        let child = call(number::CLONE, SIGCHLD as usize, 0, 0, 0);
        if child < 0 {
            let errno = -child as u32;
            call(number::WRITE, PIPE, &raw const errno as usize, 4, 0);
            exit(127);
        }
        if child == 0 {
            // A group of its own in the foreground of the terminal, if there is one: TIOCSPGRP.
            call(number::SETPGID, 0, 0, 0, 0);
            let group = call(number::GETPID, 0, 0, 0, 0) as i32;
            call(number::IOCTL, 0, 0x5410, &raw const group as usize, 0);
            call(number::RT_SIGPROCMASK, 2, &raw const none as usize, 0, 8);
            execute(first, candidates, envp);
        }
        call(number::CLOSE, PIPE, 0, 0, 0);
        loop {
            let signal = call(number::RT_SIGTIMEDWAIT, &raw const all as usize, 0, 0, 8);
            if signal == SIGCHLD {
                reap(child);
            } else if signal > 0 {
                call(number::KILL, child as usize, signal as usize, 0, 0);
            }
        }
    }
}

/// Reaps whatever has ended; if the command has, ends with its code.
unsafe fn reap(child: isize) {
    loop {
        let mut status = 0u32;
        // SAFETY: room for one status; no usage is asked for. WNOHANG = 1, any child.
        let ended = unsafe { call(number::WAIT4, usize::MAX, &raw mut status as usize, 1, null::<u8>() as usize) };
        if ended <= 0 {
            return;
        }
        if ended == child {
            let code = if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) };
            // SAFETY: ends this process.
            unsafe { exit(code as usize) };
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends this process.
    unsafe { exit(127) }
}
