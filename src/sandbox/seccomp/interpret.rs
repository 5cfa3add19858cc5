//! The compiled filter, interpreted as the kernel would, against a plain reading of the JSON.

use std::collections::{BTreeSet, HashMap, HashSet};

use libc::sock_filter;
use oci_spec::runtime::{Arch, Capability, LinuxSeccomp};
use serde_json::Value;

use super::compile::{AND, JUMP, JUMP_AT_LEAST, JUMP_EQUAL, JUMP_GREATER, LOAD, RETURN, audit, compile};
use super::profile::{Circumstances, Profile};
use super::table::{self, CALLS, X32_BIT};
use crate::sandbox::{capabilities, defaults};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const ARCHES: [Arch; 3] = [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];

fn number_of(arch: Arch, name: &str) -> Option<u32> {
    table::rows(&[name.to_owned()]).first().and_then(|row| table::number_of_row(arch, *row))
}

/// What the kernel does with a call: classic BPF over `struct seccomp_data`. Panics where the
/// kernel would refuse the program.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => arch,
        16..64 => {
            let argument = arguments[(offset as usize - 16) / 8];
            if offset % 8 == 4 { (argument >> 32) as u32 } else { argument as u32 }
        }
        other => panic!("a load at {other}"),
    };
    let (mut at, mut register) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let branch = |yes| usize::from(if yes { jt } else { jf });
        match code {
            LOAD => register = word(k),
            AND => register &= k,
            JUMP => at += k as usize,
            JUMP_EQUAL => at += branch(register == k),
            JUMP_GREATER => at += branch(register > k),
            JUMP_AT_LEAST => at += branch(register >= k),
            RETURN => return k,
            other => panic!("the instruction {other:#x}"),
        }
    }
}

/// The JSON read rule by rule, for the conditions' values given.
struct Plain<'a> {
    json: &'a Value,
    capabilities: HashSet<Capability>,
}

impl Plain<'_> {
    fn applies(&self, rule: &Value) -> bool {
        let list = |side: &str, what: &str| -> Vec<String> {
            let texts = rule[side][what].as_array().into_iter().flatten();
            texts.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let has = |name: &String| self.capabilities.contains(&capabilities::by_name(name).unwrap());
        let here = |name: &String| name == "amd64";
        let arches = list("includes", "arches");
        (arches.is_empty() || arches.iter().any(here))
            && list("includes", "caps").iter().all(has)
            && !list("excludes", "arches").iter().any(here)
            && !list("excludes", "caps").iter().any(has)
    }

    fn fits(rule: &Value, arguments: [u64; 6]) -> bool {
        rule["args"].as_array().into_iter().flatten().all(|condition| {
            let argument = arguments[condition["index"].as_u64().unwrap() as usize];
            let value = condition["value"].as_u64().unwrap();
            match condition["op"].as_str().unwrap() {
                "SCMP_CMP_NE" => argument != value,
                "SCMP_CMP_LT" => argument < value,
                "SCMP_CMP_LE" => argument <= value,
                "SCMP_CMP_EQ" => argument == value,
                "SCMP_CMP_GE" => argument >= value,
                "SCMP_CMP_GT" => argument > value,
                "SCMP_CMP_MASKED_EQ" => argument & value == condition["valueTwo"].as_u64().unwrap_or(0),
                other => panic!("{other}"),
            }
        })
    }

    /// The rules for each name.
    fn by_name(&self) -> HashMap<&str, Vec<&Value>> {
        let mut rules: HashMap<&str, Vec<&Value>> = HashMap::new();
        for rule in self.json["syscalls"].as_array().unwrap().iter().filter(|rule| self.applies(rule)) {
            for name in rule["names"].as_array().unwrap() {
                rules.entry(name.as_str().unwrap()).or_default().push(rule);
            }
        }
        rules
    }

    fn action(&self, rules: &[&Value], arguments: [u64; 6]) -> u32 {
        let code = |action: &str, errno: Option<u64>| match action {
            "SCMP_ACT_ALLOW" => ALLOW,
            "SCMP_ACT_ERRNO" => 0x0005_0000 | errno.unwrap_or(1) as u32,
            other => panic!("{other}"),
        };
        match rules.iter().find(|rule| Self::fits(rule, arguments)) {
            Some(rule) => code(rule["action"].as_str().unwrap(), rule["errnoRet"].as_u64()),
            None => {
                let default = self.json["defaultAction"].as_str().unwrap();
                code(default, self.json["defaultErrnoRet"].as_u64())
            }
        }
    }
}

/// Every value that a condition of the profile compares with, its neighbours, the same in the
/// other half of the word, and the ends of the range.
fn boundaries(json: &Value) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, u32::MAX.into(), u64::MAX, 1 << 32, 1 << 63]);
    let rules = json["syscalls"].as_array().unwrap().iter();
    for condition in rules.flat_map(|rule| rule["args"].as_array().into_iter().flatten()) {
        for value in [condition["value"].as_u64(), condition["valueTwo"].as_u64()].into_iter().flatten() {
            let lowest_bit = value & value.wrapping_neg();
            for near in [value, value.wrapping_sub(1), value.wrapping_add(1), lowest_bit, !value] {
                values.extend([near, near | 1 << 32, near << 32, near & 0xffff_ffff]);
            }
        }
    }
    values.into_iter().collect()
}

fn compare(json: &Value, capabilities: HashSet<Capability>) {
    let circumstances =
        Circumstances { capabilities: capabilities.clone(), architecture: "amd64", kernel: (6, 1) };
    let profile = Profile::parse(json.to_string().as_bytes()).unwrap();
    let program = compile(&profile.resolve(&circumstances).unwrap()).unwrap().program;
    let plain = Plain { json, capabilities };
    let rules = plain.by_name();
    let boundaries = boundaries(json);
    for arch in ARCHES {
        let bit = if arch == Arch::ScmpArchX32 { X32_BIT } else { 0 };
        let mut names: HashMap<u32, &str> = HashMap::new();
        for (name, _) in CALLS.iter() {
            names.extend(number_of(arch, name).map(|number| (number, *name)));
        }
        let highest = table::highest(arch);
        for number in bit..highest + 100 {
            let none = Vec::new();
            let rules = names.get(&number).and_then(|name| rules.get(name)).unwrap_or(&none);
            let conditional = rules.iter().any(|rule| rule["args"].is_array());
            let audit = audit(arch).unwrap();
            let check = |arguments| {
                let wanted = if number > highest { ENOSYS } else { plain.action(rules, arguments) };
                let got = run(&program, audit, number, arguments);
                assert_eq!(got, wanted, "{arch} {number} {:?} {arguments:x?}", names.get(&number));
            };
            for first in &boundaries {
                check([*first; 6]);
                if conditional {
                    for second in &boundaries {
                        check([*first, *second, 0, 0, 0, 0]);
                        check([0, 0, *first, *second, *first, *second]);
                    }
                }
            }
        }
    }
}

fn docker() -> Value {
    serde_json::from_str(include_str!("../../../fixtures/sandbox/docker-default-seccomp.json")).unwrap()
}

#[test]
fn the_default_filter_is_the_profile() {
    compare(&docker(), defaults::capabilities());
}

#[test]
fn the_filter_of_all_capabilities_is_the_profile() {
    compare(&docker(), capabilities::ALL.into_iter().collect());
}

#[test]
fn every_comparison_on_every_argument() {
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let mut rules = Vec::new();
    let names = ["read", "write", "close", "poll", "lseek", "mmap", "mprotect"];
    for (at, (operator, name)) in operators.iter().zip(names).enumerate() {
        let condition = |index: usize, value: u64| {
            serde_json::json!({"index": index, "value": value, "valueTwo": value & 0xff00_0000_ff00,
                "op": format!("SCMP_CMP_{operator}")})
        };
        let both = [condition(at % 6, 0x5_0000_0005), condition((at + 1) % 6, 7)];
        rules.push(serde_json::json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": both}));
        let one = [condition(2, 0xffff_0000_ffff)];
        rules.push(
            serde_json::json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": one}),
        );
    }
    let json = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]});
    compare(&json, HashSet::new());
}

fn program(profile: &LinuxSeccomp) -> Vec<sock_filter> {
    compile(profile).unwrap().program
}

#[test]
fn known_cases() {
    let profile = defaults::seccomp(&defaults::capabilities()).unwrap();
    let program = program(&profile);
    let x86_64 = audit(Arch::ScmpArchX86_64).unwrap();
    let call = |number: i64, first: u64| run(&program, x86_64, number as u32, [first, 0, 0, 0, 0, 0]);
    assert_eq!(call(libc::SYS_read, 0), ALLOW);
    assert_eq!(call(libc::SYS_clone3, 0), ENOSYS);
    assert_eq!(call(libc::SYS_mount, 0), EPERM);
    assert_eq!(call(libc::SYS_clone, libc::SIGCHLD as u64), ALLOW);
    assert_eq!(call(libc::SYS_clone, libc::CLONE_NEWUSER as u64), EPERM);
    assert_eq!(call(libc::SYS_socket, libc::AF_ALG as u64), EPERM);
    assert_eq!(call(libc::SYS_socket, libc::AF_INET as u64), ALLOW);
    assert_eq!(call(libc::SYS_socket, libc::AF_VSOCK as u64), EPERM);
    assert_eq!(call(5000, 0), ENOSYS);
    // An architecture that is not listed: the thread is killed.
    assert_eq!(run(&program, 0xc000_00b7, 0, [0; 6]), 0);
    assert!(program.len() < 500, "{} instructions", program.len());
}

#[test]
fn without_x32_its_calls_are_killed() {
    let json = br#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}"#;
    let circumstances = Circumstances::here(HashSet::new());
    let program = program(&Profile::parse(json).unwrap().resolve(&circumstances).unwrap());
    let x86_64 = audit(Arch::ScmpArchX86_64).unwrap();
    assert_eq!(run(&program, x86_64, 0, [0; 6]), ALLOW);
    assert_eq!(run(&program, x86_64, 100_000, [0; 6]), ALLOW);
    assert_eq!(run(&program, x86_64, X32_BIT, [0; 6]), 0);
}

#[test]
fn the_table_is_sorted_and_agrees_with_the_system_headers() {
    assert!(CALLS.is_sorted_by(|(before, _), (after, _)| before < after));
    for (name, number) in [("read", libc::SYS_read), ("clone3", libc::SYS_clone3), ("mseal", 462)] {
        assert_eq!(number_of(Arch::ScmpArchX86_64, name), Some(number as u32));
    }
    let files = [("64", Arch::ScmpArchX86_64), ("32", Arch::ScmpArchX86), ("x32", Arch::ScmpArchX32)];
    for (suffix, arch) in files {
        let path = format!("/usr/include/x86_64-linux-gnu/asm/unistd_{suffix}.h");
        let Ok(header) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: no {path} (package linux-libc-dev)");
            continue;
        };
        for line in header.lines().filter_map(|line| line.strip_prefix("#define __NR_")) {
            let (name, number) = line.split_once(' ').unwrap();
            let number = number.trim_start_matches("(__X32_SYSCALL_BIT + ").trim_end_matches(')');
            let bit = if arch == Arch::ScmpArchX32 { X32_BIT } else { 0 };
            let number = number.parse::<u32>().unwrap() | bit;
            assert_eq!(number_of(arch, name), Some(number), "{arch} {name}");
        }
    }
}
