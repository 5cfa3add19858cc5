//! Which devices a process may use: the spec's device rules as a program for cgroup2 (bpf(2),
//! BPF_PROG_TYPE_CGROUP_DEVICE) or as lines for the devices controller of cgroup v1.
//!
//! Without it the capability to make device nodes, which containers have by default, would be
//! one to read the host's disks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use sha2::{Digest, Sha256};

use super::sys::bpf;

// linux/bpf.h: BPF_DEVCG_ACC_*, BPF_DEVCG_DEV_*.
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

/// Whether the rules forbid anything: the last rule for all devices decides.
pub(super) fn filters(rules: &[LinuxDeviceCgroup]) -> bool {
    let all =
        |rule: &&LinuxDeviceCgroup| kind(rule).is_none() && rule.major().is_none() && rule.minor().is_none();
    rules.iter().rev().find(all).is_some_and(|rule| !rule.allow())
        || rules.iter().any(|rule| !rule.allow() && !all(&rule))
}

fn kind(rule: &LinuxDeviceCgroup) -> Option<u32> {
    match rule.typ() {
        Some(LinuxDeviceType::B) => Some(BLOCK),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
        _ => None,
    }
}

fn access(rule: &LinuxDeviceCgroup) -> u32 {
    let letters = rule.access().as_deref().unwrap_or("rwm");
    let bit = |letter: char, bit: u32| if letters.contains(letter) { bit } else { 0 };
    bit('r', READ) | bit('w', WRITE) | bit('m', MAKE)
}

/// A number that a rule names; none, or a negative one, stands for all.
fn number(number: Option<i64>) -> Option<i32> {
    number.and_then(|number| i32::try_from(number).ok()).filter(|number| *number >= 0)
}

/// A name for the rules: equal rules have one, and so do all that make the same program.
pub(super) fn name(rules: &[LinuxDeviceCgroup]) -> String {
    let mut hash = Sha256::new();
    program(rules).iter().for_each(|instruction| hash.update(instruction.to_le_bytes()));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Attaches the program for `rules` to a cgroup, whose descendants it is for as well.
pub(super) fn attach(cgroup: BorrowedFd<'_>, rules: &[LinuxDeviceCgroup]) -> io::Result<()> {
    bpf::attach(cgroup, bpf::load(&program(rules))?.as_fd())
}

/// Attaches the program unless there is one. Two processes that do so at once attach two equal
/// ones, of which both have to agree.
pub(super) fn ensure(cgroup: BorrowedFd<'_>, rules: &[LinuxDeviceCgroup]) -> io::Result<()> {
    if bpf::attached(cgroup)? == 0 { attach(cgroup, rules) } else { Ok(()) }
}

/// One instruction: `struct bpf_insn`.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    u64::from(code)
        | u64::from(to | from << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(value as u32) << 32
}

// The instructions used: linux/bpf_common.h, linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xbc;
const SET: u8 = 0xb4;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// The program: later rules win, so they come first; the first that fits decides.
///
/// Registers: r2 kind, r3 access, r4 major, r5 minor of the request; r1 is its address.
fn program(rules: &[LinuxDeviceCgroup]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    let mut decided = false;
    for rule in rules.iter().rev() {
        let access = access(rule);
        let mut tests = Vec::new();
        if let Some(kind) = kind(rule) {
            tests.push(Test::Is { register: 2, value: kind as i32 });
        }
        if access != ALL {
            // A request may ask for several: an allowing rule must cover all, a denying one any.
            tests.push(if rule.allow() { Test::AsksNone(!access & ALL) } else { Test::AsksAny(access) });
        }
        if let Some(value) = number(rule.major()) {
            tests.push(Test::Is { register: 4, value });
        }
        if let Some(value) = number(rule.minor()) {
            tests.push(Test::Is { register: 5, value });
        }
        program.extend(block(&tests, rule.allow()));
        if tests.is_empty() {
            decided = true;
            break;
        }
    }
    if !decided {
        // No rule fits: refused.
        program.extend([instruction(SET, 0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    }
    program
}

/// What has to hold for a rule to fit.
enum Test {
    Is {
        register: u8,
        value: i32,
    },
    /// None of these accesses is asked for.
    AsksNone(u32),
    /// At least one of them is.
    AsksAny(u32),
}

/// The code of one rule: where a test fails, it leads behind the block.
fn block(tests: &[Test], allow: bool) -> Vec<u64> {
    let lengths = tests.iter().map(|test| if matches!(test, Test::Is { .. }) { 1 } else { 3 });
    let length = lengths.sum::<usize>() + 2;
    let mut code = Vec::with_capacity(length);
    for test in tests {
        if let Test::AsksNone(mask) | Test::AsksAny(mask) = test {
            code.push(instruction(MOVE, 1, 3, 0, 0));
            code.push(instruction(AND, 1, 0, 0, *mask as i32));
        }
        let behind = (length - code.len() - 1) as i16;
        code.push(match *test {
            Test::Is { register, value } => instruction(JUMP_NOT_EQUAL, register, 0, behind, value),
            Test::AsksNone(_) => instruction(JUMP_NOT_EQUAL, 1, 0, behind, 0),
            Test::AsksAny(_) => instruction(JUMP_EQUAL, 1, 0, behind, 0),
        });
    }
    code.push(instruction(SET, 0, 0, 0, i32::from(allow)));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// The rules as writes to `devices.allow` and `devices.deny`, in order.
pub(super) fn v1(rules: &[LinuxDeviceCgroup]) -> Vec<(String, String)> {
    rules
        .iter()
        .map(|rule| {
            let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
            let letter = match kind(rule) {
                Some(BLOCK) => 'b',
                Some(_) => 'c',
                None => return (file.to_owned(), "a".to_owned()),
            };
            let text =
                |number: Option<i32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
            let (major, minor) = (text(number(rule.major())), text(number(rule.minor())));
            let access = rule.access().as_deref().unwrap_or("rwm");
            (file.to_owned(), format!("{letter} {major}:{minor} {access}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    /// What the program says of a request: an interpreter for the instructions used.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let mut registers = [0u32; 6];
        let mut at = 0;
        loop {
            let word = program[at];
            let (code, to, from) = (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (offset, value) = ((word >> 16) as i16, (word >> 32) as u32);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = [kind | access << 16, major, minor][offset as usize / 4],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                MOVE => registers[to] = registers[from],
                SET => registers[to] = value,
                JUMP_NOT_EQUAL if registers[to] != value => at = at.strict_add_signed(offset.into()),
                JUMP_EQUAL if registers[to] == value => at = at.strict_add_signed(offset.into()),
                JUMP_NOT_EQUAL | JUMP_EQUAL => {}
                EXIT => return registers[0] == 1,
                other => panic!("{other:x}"),
            }
        }
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rules = rules(
            r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "access": "m"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "c", "major": 136, "access": "rw"},
                {"allow": false, "type": "c", "major": 136, "minor": 9, "access": "w"}]"#,
        );
        assert!(filters(&rules));
        let program = program(&rules);
        for (kind, access, major, minor, allowed) in [
            (CHARACTER, READ | WRITE, 1, 3, true),
            (CHARACTER, MAKE, 8, 8, true),
            (CHARACTER, MAKE | READ, 8, 8, false),
            (BLOCK, MAKE, 1, 3, false),
            (BLOCK, READ, 254, 0, false),
            (CHARACTER, READ, 136, 200, true),
            (CHARACTER, READ, 136, 9, true),
            (CHARACTER, READ | WRITE, 136, 9, false),
        ] {
            assert_eq!(run(&program, kind, access, major, minor), allowed, "{kind} {access} {major}:{minor}");
        }
        let lines: Vec<String> =
            v1(&rules).into_iter().map(|(file, line)| format!("{file} {line}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        devices.deny a
        devices.allow c *:* m
        devices.allow c 1:3 rwm
        devices.allow c 136:* rw
        devices.deny c 136:9 w
        ");
    }

    #[test]
    fn all_allowed_needs_no_filter() {
        assert!(!filters(&rules(r#"[{"allow": false}, {"allow": true, "access": "rwm"}]"#)));
        assert!(!filters(&[]));
        assert!(filters(&rules(r#"[{"allow": false}]"#)));
    }
}
