//! The OCI form of a filter to the kernel's classic BPF (kernel documentation,
//! userspace-api/seccomp_filter; seccomp(2)).

use std::collections::BTreeMap;

use libc::sock_filter;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use super::profile::native;
use super::table::{self, X32_BIT};
use crate::sandbox::child::Filter;
use crate::sandbox::error::SandboxError;

// The instructions used: linux/bpf_common.h.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

// struct seccomp_data: number, architecture, instruction pointer, six arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// SECCOMP_RET_KILL_THREAD: for a call of an architecture that the filter does not list.
const KILL: u32 = 0;
const ERRNO: u32 = 0x0005_0000;
/// What the kernel takes at most (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// What becomes of one system call: the alternatives in order, then the default.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fate {
    /// Conditions that all have to hold, and the action then.
    alternatives: Vec<(Vec<LinuxSeccompArg>, u32)>,
    otherwise: u32,
}

impl Fate {
    fn plain(action: u32) -> Self {
        Self { alternatives: Vec::new(), otherwise: action }
    }
}

/// Compiles `profile`. Rules for one call are alternatives, the first that fits decides; names
/// that an architecture does not have are left out.
pub(in crate::sandbox) fn compile(profile: &LinuxSeccomp) -> Result<Filter, SandboxError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut listed: Vec<Arch> = profile.architectures().clone().unwrap_or_default();
    let native = native().ok_or_else(|| SandboxError::Unsupported("seccomp on this architecture".into()))?;
    for arch in &mut listed {
        if *arch == Arch::ScmpArchNative {
            *arch = native;
        }
    }
    if !listed.contains(&native) {
        listed.insert(0, native);
    }
    let mut program = vec![load(ARCHITECTURE)];
    // x32 calls come with the architecture of x86-64 and a bit in the number.
    for arch in listed.iter().filter(|arch| **arch != Arch::ScmpArchX32) {
        let Some(audit) = audit(*arch) else { continue };
        let x32 = *arch == Arch::ScmpArchX86_64 && listed.contains(&Arch::ScmpArchX32);
        let mut ranges = ranges(profile, *arch, default, 0)?;
        if *arch == Arch::ScmpArchX86_64 {
            if x32 {
                ranges.extend(self::ranges(profile, Arch::ScmpArchX32, default, X32_BIT)?);
            } else {
                ranges.push((X32_BIT, Fate::plain(KILL)));
            }
        }
        merge(&mut ranges);
        let mut section = vec![load(NUMBER)];
        section.extend(tree(&ranges));
        program.push(jump(JUMP_EQUAL, audit, 1, 0));
        program.push(always(section.len()));
        program.extend(section);
    }
    program.push(done(KILL));
    if program.len() > LONGEST {
        let length = program.len();
        return Err(SandboxError::Seccomp(format!("{length} instructions, the kernel takes {LONGEST}")));
    }
    Ok(Filter { program, flags: flags(profile) })
}

/// AUDIT_ARCH_* of linux/audit.h: the ELF machine with bits for 64-bit and little-endian.
pub(super) fn audit(arch: Arch) -> Option<u32> {
    match arch {
        Arch::ScmpArchX86_64 | Arch::ScmpArchX32 => Some(0xc000_003e),
        Arch::ScmpArchX86 => Some(0x4000_0003),
        Arch::ScmpArchAarch64 => Some(0xc000_00b7),
        Arch::ScmpArchArm => Some(0x4000_0028),
        _ => None,
    }
}

fn flags(profile: &LinuxSeccomp) -> u64 {
    // Without a wish: no slower memory accesses for the sake of the filter, as runc does.
    let Some(flags) = profile.flags() else { return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW };
    let bit = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // There is one thread, and nobody to notify.
        _ => 0,
    };
    flags.iter().map(bit).fold(0, |all, flag| all | flag)
}

pub(super) fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SandboxError> {
    match action {
        LinuxSeccompAction::ScmpActNotify => {
            Err(SandboxError::Unsupported("the seccomp action SCMP_ACT_NOTIFY".into()))
        }
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
            if errno.is_some_and(|e| e > 0xffff) =>
        {
            Err(SandboxError::Seccomp("an errnoRet above 65535".into()))
        }
        other => Ok(other.as_u32(errno)),
    }
}

/// The fate of every number from `first` on, as the first number of each range.
fn ranges(
    profile: &LinuxSeccomp,
    arch: Arch,
    default: u32,
    first: u32,
) -> Result<Vec<(u32, Fate)>, SandboxError> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        let conditions = rule.args().clone().unwrap_or_default();
        if let Some(bad) = conditions.iter().find(|condition| condition.index() > 5) {
            return Err(SandboxError::Seccomp(format!("a system call has no argument {}", bad.index())));
        }
        for number in rule.names().iter().filter_map(|name| table::number(arch, name)) {
            let fate = fates.entry(number).or_insert_with(|| Fate::plain(default));
            fate.alternatives.push((conditions.clone(), action));
        }
    }
    let mut ranges = vec![(first, Fate::plain(default))];
    for (number, mut fate) in fates {
        // What stands behind an alternative without conditions is never reached.
        if let Some(at) = fate.alternatives.iter().position(|(conditions, _)| conditions.is_empty()) {
            fate.otherwise = fate.alternatives[at].1;
            fate.alternatives.truncate(at);
        }
        ranges.push((number, fate));
        ranges.push((number + 1, Fate::plain(default)));
    }
    if default & 0xffff_0000 == ERRNO {
        let unknown = Fate::plain(ERRNO | libc::ENOSYS as u32);
        ranges.push((table::highest(arch) + 1, unknown));
    }
    ranges.sort_by_key(|(number, _)| *number);
    Ok(ranges)
}

/// Leaves one range where several with the same fate follow each other, and the last where
/// several start at the same number.
fn merge(ranges: &mut Vec<(u32, Fate)>) {
    let mut merged: Vec<(u32, Fate)> = Vec::with_capacity(ranges.len());
    for (number, fate) in ranges.drain(..) {
        if merged.last().is_some_and(|(last, _)| *last == number) {
            merged.pop();
        }
        if merged.last().is_none_or(|(_, last)| *last != fate) {
            merged.push((number, fate));
        }
    }
    *ranges = merged;
}

/// The search tree over `ranges`, with the number loaded; not empty.
fn tree(ranges: &[(u32, Fate)]) -> Vec<sock_filter> {
    if let [(_, fate)] = ranges {
        return leaf(fate);
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (left, right) = (tree(below), tree(above));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    match u8::try_from(left.len()) {
        Ok(distance) => code.push(jump(JUMP_AT_LEAST, above[0].0, distance, 0)),
        // Too far for a conditional jump.
        Err(_) => code.extend([jump(JUMP_AT_LEAST, above[0].0, 0, 1), always(left.len())]),
    }
    code.extend(left);
    code.extend(right);
    code
}

fn leaf(fate: &Fate) -> Vec<sock_filter> {
    let mut code = Vec::new();
    for (conditions, action) in &fate.alternatives {
        let tests: Vec<Test> = conditions.iter().flat_map(tests).collect();
        let length = tests.len() + 1;
        for (at, test) in tests.iter().enumerate() {
            let target = |way: Way| match way {
                Way::Next => 0,
                Way::Skip(count) => count,
                // At most six conditions of five instructions: always near enough.
                Way::Fail => (length - at - 1) as u8,
            };
            code.push(jump(test.code, test.value, target(test.yes), target(test.no)));
        }
        code.push(done(*action));
    }
    code.push(done(fate.otherwise));
    code
}

/// Where a test leads.
#[derive(Clone, Copy)]
enum Way {
    Next,
    Skip(u8),
    Fail,
}

/// One instruction of a condition; loads and masks have no ways.
struct Test {
    code: u16,
    value: u32,
    yes: Way,
    no: Way,
}

/// A 64-bit comparison in 32-bit steps: the high half first.
fn tests(condition: &LinuxSeccompArg) -> Vec<Test> {
    use Way::{Fail, Next, Skip};
    let test = |code, value, yes, no| Test { code, value, yes, no };
    let place = ARGUMENTS + 8 * condition.index() as u32;
    let half = |high: bool| {
        let high = high == cfg!(target_endian = "little");
        test(LOAD, place + if high { 4 } else { 0 }, Next, Next)
    };
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = halves(condition.value());
    match condition.op() {
        LinuxSeccompOperator::ScmpCmpEq => vec![
            half(true),
            test(JUMP_EQUAL, high, Next, Fail),
            half(false),
            test(JUMP_EQUAL, low, Next, Fail),
        ],
        LinuxSeccompOperator::ScmpCmpNe => vec![
            half(true),
            test(JUMP_EQUAL, high, Next, Skip(2)),
            half(false),
            test(JUMP_EQUAL, low, Fail, Next),
        ],
        LinuxSeccompOperator::ScmpCmpGt | LinuxSeccompOperator::ScmpCmpGe => {
            let strict = condition.op() == LinuxSeccompOperator::ScmpCmpGt;
            let last = if strict { JUMP_GREATER } else { JUMP_AT_LEAST };
            vec![
                half(true),
                test(JUMP_GREATER, high, Skip(3), Next),
                test(JUMP_EQUAL, high, Next, Fail),
                half(false),
                test(last, low, Next, Fail),
            ]
        }
        LinuxSeccompOperator::ScmpCmpLt | LinuxSeccompOperator::ScmpCmpLe => {
            let strict = condition.op() == LinuxSeccompOperator::ScmpCmpLt;
            let last = if strict { JUMP_AT_LEAST } else { JUMP_GREATER };
            vec![
                half(true),
                test(JUMP_GREATER, high, Fail, Next),
                test(JUMP_EQUAL, high, Next, Skip(2)),
                half(false),
                test(last, low, Fail, Next),
            ]
        }
        // The value is the mask, what has to be left is the second value, 0 if there is none.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let (wanted_high, wanted_low) = halves(condition.value_two().unwrap_or(0));
            vec![
                half(true),
                test(AND, high, Next, Next),
                test(JUMP_EQUAL, wanted_high, Next, Fail),
                half(false),
                test(AND, low, Next, Next),
                test(JUMP_EQUAL, wanted_low, Next, Fail),
            ]
        }
    }
}

fn jump(code: u16, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code, jt: yes, jf: no, k: value }
}

fn load(offset: u32) -> sock_filter {
    jump(LOAD, offset, 0, 0)
}

fn done(action: u32) -> sock_filter {
    jump(RETURN, action, 0, 0)
}

fn always(distance: usize) -> sock_filter {
    jump(JUMP, distance as u32, 0, 0)
}
