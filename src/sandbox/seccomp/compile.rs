//! The OCI form of a filter to the kernel's classic BPF (kernel documentation,
//! userspace-api/seccomp_filter; seccomp(2)).

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
#[derive(Debug, Clone)]
struct Fate {
    /// Conditions that all have to hold, and the action then.
    alternatives: Vec<(Vec<LinuxSeccompArg>, u32)>,
    otherwise: u32,
    /// Whether an alternative without conditions has been seen: nothing behind it counts.
    closed: bool,
}

/// The fates of all numbers of one architecture.
struct Fates {
    /// The first is the default's; those without alternatives are shared.
    list: Vec<Fate>,
    /// For each number from the first on, its place in `list`.
    of_number: Vec<u16>,
    /// Numbers far above the others (32-bit ARM's own calls).
    apart: Vec<(u32, u16)>,
    first: u32,
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
    let rules = rules(profile)?;
    let mut program = Program::default();
    let mut next = program.done(KILL);
    // x32 calls come with the architecture of x86-64 and a bit in the number.
    for arch in listed.iter().rev().filter(|arch| **arch != Arch::ScmpArchX32) {
        let Some(audit) = audit(*arch) else { continue };
        let mut list = Vec::new();
        let mut ranges = Fates::new(&rules, *arch, default).ranges(&mut list);
        if *arch == Arch::ScmpArchX86_64 {
            if listed.contains(&Arch::ScmpArchX32) {
                ranges.extend(Fates::new(&rules, Arch::ScmpArchX32, default).ranges(&mut list));
            } else {
                ranges.push((X32_BIT, list.len()));
                list.push(Fate::plain(KILL));
            }
        }
        let tree = program.tree(&ranges, &list);
        let section = program.load(NUMBER, tree);
        next = program.jump(JUMP_EQUAL, audit, section, next);
    }
    program.load(ARCHITECTURE, next);
    let program = program.finish();
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

/// A rule of the profile with the rows of its names in the table of calls.
struct Rule {
    rows: Vec<usize>,
    conditions: Vec<LinuxSeccompArg>,
    action: u32,
}

fn rules(profile: &LinuxSeccomp) -> Result<Vec<Rule>, SandboxError> {
    let mut rules = Vec::new();
    for rule in profile.syscalls().iter().flatten() {
        let conditions = rule.args().clone().unwrap_or_default();
        if let Some(bad) = conditions.iter().find(|condition| condition.index() > 5) {
            return Err(SandboxError::Seccomp(format!("a system call has no argument {}", bad.index())));
        }
        let action = action(rule.action(), rule.errno_ret())?;
        rules.push(Rule { rows: table::rows(rule.names()), conditions, action });
    }
    Ok(rules)
}

impl Fate {
    fn plain(action: u32) -> Self {
        Self { alternatives: Vec::new(), otherwise: action, closed: true }
    }
}

impl Fates {
    fn new(rules: &[Rule], arch: Arch, default: u32) -> Self {
        let first = if arch == Arch::ScmpArchX32 { X32_BIT } else { 0 };
        let count = table::highest(arch) - first + 1;
        let list = vec![Fate::plain(default)];
        let mut fates = Self { list, of_number: vec![0; count as usize], apart: Vec::new(), first };
        for rule in rules {
            for row in &rule.rows {
                if let Some(number) = table::number_of_row(arch, *row) {
                    fates.add(number, rule, default);
                }
            }
        }
        if default & 0xffff_0000 == ERRNO {
            // One behind the highest: this and all above are calls that nobody knew.
            let unknown = fates.plain(ERRNO | libc::ENOSYS as u32);
            fates.of_number.push(unknown);
        } else {
            fates.of_number.push(0);
        }
        fates
    }

    fn add(&mut self, number: u32, rule: &Rule, default: u32) {
        let at = (number - self.first) as usize;
        let known = match self.of_number.get(at) {
            Some(known) => *known,
            None => self.apart.iter().find(|(apart, _)| *apart == number).map_or(0, |(_, fate)| *fate),
        };
        if known != 0 {
            let fate = &mut self.list[usize::from(known)];
            if !fate.closed && rule.conditions.is_empty() {
                fate.otherwise = rule.action;
                fate.closed = true;
            } else if !fate.closed {
                fate.alternatives.push((rule.conditions.clone(), rule.action));
            }
            return;
        }
        let fate = if rule.conditions.is_empty() {
            self.plain(rule.action)
        } else {
            let alternatives = vec![(rule.conditions.clone(), rule.action)];
            self.push(Fate { alternatives, otherwise: default, closed: false })
        };
        match self.of_number.get_mut(at) {
            Some(place) => *place = fate,
            None => self.apart.push((number, fate)),
        }
    }

    /// The shared fate of calls with this action whatever their arguments; never the default's
    /// place, which stands for a number without a rule.
    fn plain(&mut self, action: u32) -> u16 {
        let same = |fate: &Fate| fate.closed && fate.alternatives.is_empty() && fate.otherwise == action;
        match self.list.iter().skip(1).position(same) {
            Some(at) => at as u16 + 1,
            None => self.push(Fate::plain(action)),
        }
    }

    fn push(&mut self, fate: Fate) -> u16 {
        self.list.push(fate);
        (self.list.len() - 1) as u16
    }

    /// The first number of each range of one fate, as its place in `list`, to which the fates are
    /// added.
    fn ranges(mut self, list: &mut Vec<Fate>) -> Vec<(u32, usize)> {
        let base = list.len();
        let mut ranges: Vec<(u32, usize)> = Vec::new();
        let mut start = |number: u32, fate: u16| {
            let fate = base + usize::from(fate);
            if ranges.last().is_none_or(|(_, last)| *last != fate) {
                ranges.push((number, fate));
            }
        };
        for (number, fate) in (self.first..).zip(&self.of_number) {
            start(number, *fate);
        }
        let above = self.of_number.last().copied().unwrap_or(0);
        self.apart.sort_unstable();
        for (number, fate) in self.apart {
            start(number, fate);
            start(number + 1, above);
        }
        // Two numbers apart may follow each other: the later start of a number counts.
        ranges.dedup_by(|after, before| {
            let same = after.0 == before.0;
            if same {
                before.1 = after.1;
            }
            same
        });
        list.append(&mut self.list);
        ranges
    }
}

/// A program under construction, from its end to its start: whatever an instruction leads to is
/// there already. A place is the number of instructions behind it, itself included.
#[derive(Default)]
struct Program {
    /// The last instruction first.
    reversed: Vec<sock_filter>,
    /// Places of instructions that return, by action.
    returns: Vec<(u32, usize)>,
}

impl Program {
    fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, value: u32, yes: u8, no: u8) -> usize {
        self.reversed.push(sock_filter { code, jt: yes, jf: no, k: value });
        self.reversed.len()
    }

    /// Ends with `action`.
    fn done(&mut self, action: u32) -> usize {
        let near = self.reversed.len().saturating_sub(200);
        if let Some((_, place)) = self.returns.iter().find(|(known, at)| *known == action && *at > near) {
            return *place;
        }
        let place = self.push(RETURN, action, 0, 0);
        self.returns.retain(|(known, _)| *known != action);
        self.returns.push((action, place));
        place
    }

    /// The place to name in a jump to `place`, at most `spare` instructions from now: itself, or
    /// that of a jump to it, as conditional jumps reach only 255 instructions.
    fn reach(&mut self, place: usize, spare: usize) -> usize {
        let distance = self.reversed.len() - place;
        if distance + spare <= 255 { place } else { self.push(JUMP, distance as u32, 0, 0) }
    }

    fn jump(&mut self, code: u16, value: u32, yes: usize, no: usize) -> usize {
        let yes = self.reach(yes, 1);
        let no = self.reach(no, 0);
        let here = self.reversed.len();
        self.push(code, value, (here - yes) as u8, (here - no) as u8)
    }

    /// Loads a word, then goes on at `next`.
    fn load(&mut self, offset: u32, next: usize) -> usize {
        self.then(LOAD, offset, next)
    }

    /// An instruction that goes on at `next`.
    fn then(&mut self, code: u16, value: u32, next: usize) -> usize {
        let distance = self.reversed.len() - next;
        if distance > 0 {
            self.push(JUMP, distance as u32, 0, 0);
        }
        self.push(code, value, 0, 0)
    }

    /// The search tree over `ranges`, with the number loaded; not empty.
    fn tree(&mut self, ranges: &[(u32, usize)], list: &[Fate]) -> usize {
        if let [(_, fate)] = ranges {
            return self.fate(&list[*fate]);
        }
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let yes = self.tree(above, list);
        let no = self.tree(below, list);
        self.jump(JUMP_AT_LEAST, above[0].0, yes, no)
    }

    fn fate(&mut self, fate: &Fate) -> usize {
        let mut next = self.done(fate.otherwise);
        for (conditions, action) in fate.alternatives.iter().rev() {
            let mut holds = self.done(*action);
            for condition in conditions.iter().rev() {
                holds = self.condition(condition, holds, next);
            }
            next = holds;
        }
        next
    }

    /// A 64-bit comparison in 32-bit steps, the high half first.
    fn condition(&mut self, condition: &LinuxSeccompArg, yes: usize, no: usize) -> usize {
        use LinuxSeccompOperator as Op;
        let place = ARGUMENTS + 8 * condition.index() as u32;
        let little = cfg!(target_endian = "little");
        let (high_at, low_at) = if little { (place + 4, place) } else { (place, place + 4) };
        let halves = |value: u64| ((value >> 32) as u32, value as u32);
        let (high, low) = halves(condition.value());
        match condition.op() {
            Op::ScmpCmpEq | Op::ScmpCmpNe => {
                let (equal, other) = if condition.op() == Op::ScmpCmpEq { (yes, no) } else { (no, yes) };
                let second = self.jump(JUMP_EQUAL, low, equal, other);
                let second = self.load(low_at, second);
                let first = self.jump(JUMP_EQUAL, high, second, other);
                self.load(high_at, first)
            }
            Op::ScmpCmpGt | Op::ScmpCmpGe | Op::ScmpCmpLt | Op::ScmpCmpLe => {
                let (greater, other) = if matches!(condition.op(), Op::ScmpCmpGt | Op::ScmpCmpGe) {
                    (yes, no)
                } else {
                    (no, yes)
                };
                let strict = matches!(condition.op(), Op::ScmpCmpGt | Op::ScmpCmpLe);
                let last = if strict { JUMP_GREATER } else { JUMP_AT_LEAST };
                let third = self.jump(last, low, greater, other);
                let third = self.load(low_at, third);
                let second = self.jump(JUMP_EQUAL, high, third, other);
                let first = self.jump(JUMP_GREATER, high, greater, second);
                self.load(high_at, first)
            }
            // The value is the mask; what has to be left is the second value, 0 if there is none.
            Op::ScmpCmpMaskedEq => {
                let (wanted_high, wanted_low) = halves(condition.value_two().unwrap_or(0));
                let second = self.jump(JUMP_EQUAL, wanted_low, yes, no);
                let second = self.then(AND, low, second);
                let second = self.load(low_at, second);
                let first = self.jump(JUMP_EQUAL, wanted_high, second, no);
                let first = self.then(AND, high, first);
                self.load(high_at, first)
            }
        }
    }
}
