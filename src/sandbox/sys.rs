//! The system calls of this room that the compiler cannot check: making the child, and what the
//! child does until it executes. Everything marked *child* is one or a few raw system calls on
//! data that is there already: no allocation, no lock, no `errno`, no panic.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::child::Prepared;

/// clone3's CLONE_* flags that this room uses.
pub(super) const NEW_CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;

const STACK: usize = 256 * 1024;
const PAGE: usize = 4096;

/// A stack for the child, with a guard page below it.
pub(super) struct Stack(NonNull<u8>);

impl Stack {
    /// Maps a fresh stack; its pages cost memory only once they are used.
    pub(super) fn new() -> io::Result<Self> {
        let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::STACK);
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let start = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), STACK, read_write, private)? };
        // SAFETY: the first page of the mapping made above, which nothing uses yet.
        unsafe { rustix::mm::mprotect(start, PAGE, MprotectFlags::empty())? };
        Ok(Self(NonNull::new(start.cast()).expect("mmap never maps the null page here")))
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; the child has executed or exited.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), STACK) };
    }
}

/// Makes the child in new namespaces (`flags`: CLONE_NEW*), in `cgroup` (a cgroup2 directory) if
/// given, and returns once it has executed or exited: its pid and pidfd.
///
/// The calling thread stands still meanwhile, as the child shares its memory (CLONE_VM,
/// CLONE_VFORK); it must have all signals blocked.
pub(super) fn clone_child(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    stack: &Stack,
    prepared: &Prepared,
) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all fields are plain numbers, zero means "unused".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    // No signal at its end: where SIGCHLD is ignored, the kernel would throw its status away.
    arguments.exit_signal = 0;
    arguments.stack = stack.0.as_ptr() as u64;
    arguments.stack_size = STACK as u64;
    if let Some(cgroup) = cgroup {
        // CLONE_INTO_CGROUP, which libc has as too small a number.
        arguments.flags |= 1 << 33;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the child runs `child_main` on its own stack, reads only `prepared`, which outlives
    // the call because the caller waits in it, and never returns.
    let result = unsafe { clone3(&arguments, child_main, prepared) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result as i32));
    }
    // SAFETY: the kernel has put a fresh descriptor there.
    Ok((result as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

extern "C" fn child_main(prepared: &Prepared) -> ! {
    match super::child::run(prepared) {}
}

#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    arguments: &libc::clone_args,
    entry: extern "C" fn(&Prepared) -> !,
    prepared: &Prepared,
) -> isize {
    let result: isize;
    // SAFETY: on the child's side `rsp` is the top of the new stack (page-aligned, so the call is
    // aligned as the ABI wants) and control never leaves the block; on the parent's side only the
    // registers named change.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") prepared,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn clone3(
    arguments: &libc::clone_args,
    entry: extern "C" fn(&Prepared) -> !,
    prepared: &Prepared,
) -> isize {
    let result: isize;
    // SAFETY: as for x86-64.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            inlateout("x0") arguments as *const _ as isize => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x20") prepared,
            in("x21") entry,
        );
    }
    result
}

/// One system call, without `errno`.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(number: i64, arguments: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel changes only the registers named.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if result < 0 { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as usize) }
}

/// One system call, without `errno`.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(number: i64, arguments: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: as for x86-64.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    if result < 0 { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as usize) }
}

/// Strings in the form that execve wants: a list of pointers with a null at its end.
pub(super) struct StringList {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers point into the strings that the value owns and never changes.
unsafe impl Send for StringList {}
// SAFETY: as above.
unsafe impl Sync for StringList {}

impl StringList {
    /// The list of `strings`.
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr());
        let pointers = pointers.chain(std::iter::once(std::ptr::null())).collect();
        Self { pointers, _strings: strings }
    }
}

/// *Child.* Executes the program behind `program`; returns only on failure.
pub(super) fn execute(program: BorrowedFd<'_>, argv: &StringList, envp: &StringList) -> Errno {
    let arguments = [
        program.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        argv.pointers.as_ptr() as usize,
        envp.pointers.as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        0,
    ];
    // SAFETY: both lists end with a null and hold strings that end with one.
    match unsafe { syscall(libc::SYS_execveat, arguments) } {
        Ok(_) => Errno::IO,
        Err(errno) => errno,
    }
}

/// *Child.* Ends the process.
pub(super) fn exit(code: i32) -> Infallible {
    loop {
        // SAFETY: ends this process only; with CLONE_VM the parent's memory stays.
        let _ = unsafe { syscall(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

/// Every signal is blocked in the calling thread as long as this lives.
pub(super) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    pub(super) fn new() -> Self {
        // SAFETY: local sets, filled before they are used; only this thread's mask changes.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
                (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self(before)
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set that the thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// *Child.* Gives every signal its default action; the table is the child's own.
pub(super) fn reset_signals() {
    // The kernel's struct sigaction: handler (SIG_DFL = 0), flags, restorer, mask.
    let default = [0u64; 4];
    for signal in 1..=64usize {
        // SIGKILL and SIGSTOP refuse; that is the default already.
        let arguments = [signal, default.as_ptr() as usize, 0, size_of::<u64>(), 0, 0];
        // SAFETY: a valid action of the kernel's layout; no old action is asked for.
        let _ = unsafe { syscall(libc::SYS_rt_sigaction, arguments) };
    }
}

/// *Child.* Lets every signal in again.
pub(super) fn unblock_signals() {
    let none = 0u64;
    let arguments = [libc::SIG_SETMASK as usize, &raw const none as usize, 0, size_of::<u64>(), 0, 0];
    // SAFETY: a valid empty set of the kernel's size.
    let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, arguments) };
}

/// *Child.* Closes one of its own descriptors. The number stays in the parent's table.
pub(super) fn close(fd: BorrowedFd<'_>) {
    // SAFETY: the child's table is a copy; nobody in the child uses the number again.
    let _ = unsafe { syscall(libc::SYS_close, [fd.as_raw_fd() as usize, 0, 0, 0, 0, 0]) };
}

/// *Child.* Makes `number` another name of `fd`, open across execve.
pub(super) fn duplicate(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    let arguments = [fd.as_raw_fd() as usize, number as usize, 0, 0, 0, 0];
    // SAFETY: the child's table is a copy, so what `number` was for the parent stays.
    unsafe { syscall(libc::SYS_dup3, arguments) }.map(drop)
}

/// *Child.* Marks every descriptor from `first` on to be closed by execve.
pub(super) fn close_from(first: u32) -> Result<(), Errno> {
    let arguments = [first as usize, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0];
    // SAFETY: no memory is touched.
    unsafe { syscall(libc::SYS_close_range, arguments) }.map(drop)
}

/// *Child.* Leaves namespaces (CLONE_NEW*) for new ones.
pub(super) fn unshare(flags: u64) -> Result<(), Errno> {
    // SAFETY: only namespace flags come here; descriptors and memory stay shared as they are.
    unsafe { syscall(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// *Child.* A new, empty session keyring, so that the caller's keys are out of reach.
pub(super) fn join_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { syscall(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]) }.map(drop)
}

/// *Child.* Installs a seccomp filter in this thread.
pub(super) fn install_filter(program: &[libc::sock_filter], flags: u64) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let arguments =
        [libc::SECCOMP_SET_MODE_FILTER as usize, flags as usize, &raw const program as usize, 0, 0, 0];
    // SAFETY: the kernel copies the program, of the length given, before the call returns.
    unsafe { syscall(libc::SYS_seccomp, arguments) }.map(drop)
}

/// *Child.* Sets the flag IFF_UP of the loopback interface of a new network namespace.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: plain numbers, zero is a valid value of every field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    let arguments =
        [socket.as_raw_fd() as usize, libc::SIOCSIFFLAGS as usize, &raw const request as usize, 0, 0, 0];
    // SAFETY: a complete request of the kernel's layout.
    unsafe { syscall(libc::SYS_ioctl, arguments) }.map(drop)
}

/// What [`mount_setattr`] changes: mount_setattr(2), `struct mount_attr`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    /// MOUNT_ATTR_* to set.
    pub set: u64,
    /// MOUNT_ATTR_* to clear.
    pub clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE or 0.
    pub propagation: u64,
}

/// Changes the mount at `path` under `fd` (the mount of `fd` itself if empty) and with `recursive`
/// those below it. Safe for the child.
pub(super) fn mount_setattr(
    fd: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    attributes: Attributes,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 } | libc::AT_EMPTY_PATH;
    let arguments = [
        fd.as_raw_fd() as usize,
        path.as_ptr() as usize,
        flags as usize,
        &raw const attributes as usize,
        size_of::<libc::mount_attr>(),
        0,
    ];
    // SAFETY: a string that ends with a null and a structure of the length given.
    unsafe { syscall(libc::SYS_mount_setattr, arguments) }.map(drop)
}

/// The real-time clock of descriptors: whether `process` (a pidfd) has ended. Safe for the child.
pub(super) fn has_ended(process: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let zero = [0u64; 2];
    let arguments = [&raw mut poll as usize, 1, zero.as_ptr() as usize, 0, size_of::<u64>(), 0];
    // SAFETY: one pollfd and a valid timeout of zero; no signal mask.
    matches!(unsafe { syscall(libc::SYS_ppoll, arguments) }, Ok(ready) if ready > 0)
}

/// The number of the terminal behind a controlling side: its name in devpts (TIOCGPTN).
pub(super) fn terminal_number(controlling: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number = 0u32;
    let arguments =
        [controlling.as_raw_fd() as usize, libc::TIOCGPTN as usize, &raw mut number as usize, 0, 0, 0];
    // SAFETY: room for the one number that this request gives.
    unsafe { syscall(libc::SYS_ioctl, arguments) }?;
    Ok(number)
}

/// Sends a signal of any number to the process behind a pidfd.
pub(super) fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let arguments = [process.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0];
    // SAFETY: no memory is touched; without siginfo the kernel fills it in.
    unsafe { syscall(libc::SYS_pidfd_send_signal, arguments) }.map(drop)
}

/// Gives the calling thread a mount namespace (and working directory) of its own.
pub(super) fn own_mount_namespace() -> io::Result<()> {
    Ok(unshare((libc::CLONE_NEWNS | libc::CLONE_FS) as u64)?)
}

/// The bpf(2) commands for device filters.
pub(super) mod bpf {
    use super::*;

    /// `union bpf_attr` as far as BPF_PROG_LOAD needs it.
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }

    /// `union bpf_attr` as far as BPF_PROG_ATTACH needs it.
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }

    /// `union bpf_attr` as far as BPF_PROG_QUERY needs it.
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }

    const DEVICE: u32 = 6;

    fn call<T>(command: usize, attribute: &T) -> io::Result<usize> {
        let arguments = [command, &raw const *attribute as usize, size_of::<T>(), 0, 0, 0];
        // SAFETY: an attribute of the length given whose pointers the callers below keep alive.
        Ok(unsafe { syscall(libc::SYS_bpf, arguments) }?)
    }

    /// Loads a program for BPF_PROG_TYPE_CGROUP_DEVICE; each instruction is 8 bytes.
    pub(in crate::sandbox) fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
        const PROG_LOAD: usize = 5;
        const CGROUP_DEVICE: u32 = 15;
        let attribute = Load {
            kind: CGROUP_DEVICE,
            count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
        };
        let fd = call(PROG_LOAD, &attribute)?;
        // SAFETY: the kernel has just made this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }

    /// Attaches a device program to a cgroup2 directory.
    pub(in crate::sandbox) fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
        const PROG_ATTACH: usize = 8;
        const ALLOW_MULTI: u32 = 2;
        let attribute = Attach {
            target: cgroup.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            kind: DEVICE,
            flags: ALLOW_MULTI,
        };
        call(PROG_ATTACH, &attribute).map(drop)
    }

    /// How many device programs are attached to a cgroup2 directory itself.
    pub(in crate::sandbox) fn attached(cgroup: BorrowedFd<'_>) -> io::Result<u32> {
        const PROG_QUERY: usize = 16;
        let mut attribute = Query {
            target: cgroup.as_raw_fd() as u32,
            kind: DEVICE,
            query_flags: 0,
            attach_flags: 0,
            ids: 0,
            count: 0,
            padding: 0,
        };
        let arguments = [PROG_QUERY, &raw mut attribute as usize, size_of::<Query>(), 0, 0, 0];
        // SAFETY: an attribute of the length given, which the kernel writes the count to; there is
        // no room for ids, and none are asked for.
        unsafe { syscall(libc::SYS_bpf, arguments) }?;
        Ok(attribute.count)
    }
}
