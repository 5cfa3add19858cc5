//! System calls tried from inside a sandbox, with what the kernel says to each. None of them does
//! anything if it is let through.
#![allow(unsafe_code)]

/// Prints a line for each call: `probe NAME allowed|ERRNO`.
#[cfg(target_arch = "x86_64")]
pub fn print() {
    const X32: i64 = 0x4000_0000;
    let bad = -1i64;
    for (name, number, arguments) in [
        ("getpid", libc::SYS_getpid, [0, 0, 0]),
        ("clone3", libc::SYS_clone3, [0, 0, 0]),
        ("clone with a user namespace", libc::SYS_clone, [libc::CLONE_NEWUSER as i64 | 1 << 40, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUTS as i64, 0, 0]),
        ("setns", libc::SYS_setns, [bad, 0, 0]),
        ("mount", libc::SYS_mount, [0, 0, 0]),
        ("open_tree", libc::SYS_open_tree, [bad, 0, 0]),
        ("bpf", libc::SYS_bpf, [bad, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [bad, 0, 0]),
        ("kexec_load", libc::SYS_kexec_load, [0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [bad, 0, 0]),
        ("personality, a usual one", libc::SYS_personality, [0xffff_ffff, 0, 0]),
        ("personality, another", libc::SYS_personality, [0x0400_0000, 0, 0]),
        ("socket, vsock", libc::SYS_socket, [libc::AF_VSOCK.into(), 0, 0]),
        ("socket, alg", libc::SYS_socket, [libc::AF_ALG.into(), libc::SOCK_SEQPACKET.into(), 0]),
        ("socket, unix", libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0]),
        ("a number that no kernel has", 5000, [0, 0, 0]),
        ("mount of x32", X32 + libc::SYS_mount, [0, 0, 0]),
    ] {
        let [first, second, third] = arguments;
        // SAFETY: numbers and null pointers, which every call here refuses or ignores.
        let result = unsafe { libc::syscall(number, first, second, third, 0, 0) };
        let said = match result {
            -1 => std::io::Error::last_os_error().to_string(),
            _ => "allowed".to_owned(),
        };
        println!("probe {name}: {said}");
    }
    // SAFETY: getppid by the 32-bit entry; it takes no arguments.
    let result = unsafe { call_i386(64) };
    println!("probe getppid of i386: {}", if result >= 0 { "allowed" } else { "refused" });
    // SAFETY: mount with null pointers, which is refused.
    let result = unsafe { call_i386(21) };
    println!("probe mount of i386: {result}");
}

/// A call by the 32-bit entry, without arguments.
#[cfg(target_arch = "x86_64")]
unsafe fn call_i386(number: i32) -> i32 {
    let result: i32;
    // SAFETY: the kernel changes only the registers named; rbx is saved around it.
    unsafe {
        std::arch::asm!(
            "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
            inlateout("eax") number => result, in("ecx") 0, in("edx") 0, in("esi") 0, in("edi") 0,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result
}
