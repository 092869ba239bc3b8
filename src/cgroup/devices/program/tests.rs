//! Compares the program, run by a small interpreter, with the rules evaluated one by one.

use super::*;
use crate::cgroup::devices::{DEFAULTS, MKNOD, READ, WRITE};

/// Runs a program as the kernel does; panics if the verifier would refuse it.
fn run(insns: &[Insn], class: Class, major: u32, minor: u32, access: Access) -> bool {
    let class = if class == Class::Block { 1 } else { 2 };
    let context = [u32::from(access) << 16 | class, major, minor];
    let mut registers: [Option<u64>; 11] = [None; 11];
    let mut at = 0;
    loop {
        let insn = insns[at];
        at += 1;
        let dst = usize::from(insn.dst());
        let value =
            |register: u8| registers[usize::from(register)].expect("register is set before it is read");
        let imm = i64::from(insn.imm) as u64;
        let mut go = |condition: bool| {
            assert!(insn.off >= 0, "only forward");
            at += if condition { insn.off as usize } else { 0 };
        };
        match insn.code {
            LOAD_WORD => registers[dst] = Some(u64::from(context[insn.off as usize / 4])),
            MOV => registers[dst] = Some(imm),
            AND => registers[dst] = Some(value(insn.dst()) & imm),
            SHIFT_RIGHT_BY_REGISTER => {
                let by = value(insn.src());
                assert!(by < 64, "shift of {by} bits is not defined");
                registers[dst] = Some(value(insn.dst()) >> by);
            }
            JUMP => go(true),
            JUMP_EQUAL => go(value(insn.dst()) == imm),
            JUMP_NOT_EQUAL => go(value(insn.dst()) != imm),
            JUMP_ABOVE => go(value(insn.dst()) > imm),
            JUMP_NOT_ABOVE => go(value(insn.dst()) <= imm),
            JUMP_BELOW => go(value(insn.dst()) < imm),
            JUMP_ANY_BIT => go(value(insn.dst()) & imm != 0),
            EXIT => match value(ANSWER) {
                0 => return false,
                1 => return true,
                other => panic!("r0 is {other}"),
            },
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// Evaluates a list of rules directly: for each access, the last matching rule decides.
fn allowed(rules: &[Rule], class: Class, major: u32, minor: u32, access: Access) -> bool {
    [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let last = rules.iter().rev().find(|rule| {
            rule.access & bit != 0
                && rule.class.is_none_or(|named| named == class)
                && rule.major.is_none_or(|named| named == major)
                && rule.minor.is_none_or(|named| named == minor)
        });
        last.is_some_and(|rule| rule.allow)
    })
}

/// Compares both for all devices that the rules name, their neighbours, and some distant ones.
fn compare(rules: &[Rule]) {
    let program = compile(rules).unwrap();
    let near = |numbers: Vec<u32>| {
        let mut all: Vec<u32> = numbers.iter().flat_map(|n| [n.saturating_sub(1), *n, n + 1]).collect();
        all.extend([0, 40, 63, 64, 1000, 4095, (1 << 20) - 1]);
        all.sort_unstable();
        all.dedup();
        all
    };
    let majors = near(rules.iter().filter_map(|rule| rule.major).collect());
    let minors = near(rules.iter().filter_map(|rule| rule.minor).collect());
    for class in [Class::Block, Class::Char] {
        for &major in &majors {
            for &minor in &minors {
                for access in 1..=ALL {
                    let want = allowed(rules, class, major, minor, access);
                    let got = program
                        .as_ref()
                        .is_none_or(|program| run(program.insns(), class, major, minor, access));
                    assert_eq!(
                        got, want,
                        "{class:?} {major}:{minor} access {access} of {rules:?}: {program:?}"
                    );
                }
            }
        }
    }
}

/// xorshift: the same lists on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn rule(&mut self) -> Rule {
        // Few numbers, so that rules overlap; some large ones, to reach the end of the bitmap.
        const NUMBERS: [u32; 12] = [0, 1, 2, 3, 4, 5, 6, 9, 29, 30, 31, 200];
        let class = [None, Some(Class::Block), Some(Class::Char), Some(Class::Char)][self.below(4) as usize];
        let mut number = |wild: u64| (self.below(wild) != 0).then(|| NUMBERS[self.below(12) as usize]);
        let (major, minor) = (number(5), number(4));
        let access = if self.below(2) == 0 { ALL } else { 1 + self.below(7) as Access };
        Rule { allow: self.below(3) != 0, class, major, minor, access }
    }
}

#[test]
fn program_means_the_rules() {
    let all = Rule { allow: true, class: None, major: None, minor: None, access: ALL };
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    compare(&[]);
    compare(&DEFAULTS);
    compare(&[all]);
    for round in 0..600 {
        let mut rules: Vec<Rule> = (0..1 + dice.below(14)).map(|_| dice.rule()).collect();
        match round % 4 {
            0 => rules.extend(DEFAULTS),
            1 => rules.insert(0, all),
            2 => {
                // Many minors of few majors, all with one access: the case for ranges and bitmaps.
                for rule in &mut rules {
                    *rule =
                        Rule { allow: true, class: Some(Class::Char), major: Some(7), access: ALL, ..*rule };
                }
            }
            _ => {}
        }
        compare(&rules);
    }
}

#[test]
fn a_config_without_a_program_is_valid() {
    let all = Rule { allow: true, class: None, major: None, minor: None, access: ALL };
    let none = Rule { allow: false, ..all };
    assert_eq!(compile(&[none, all]), Ok(None));
    assert!(compile(&[all, none]).unwrap().is_some());
}

#[test]
fn programs_are_short() {
    let fuse = Rule {
        allow: true,
        class: Some(Class::Char),
        major: Some(10),
        minor: Some(229),
        access: READ | WRITE,
    };
    let none = Rule { allow: false, class: None, major: None, minor: None, access: ALL };
    let with_fuse: Vec<Rule> = [none, fuse].into_iter().chain(DEFAULTS).collect();
    let table: [(&str, &[Rule], usize); 3] =
        [("nothing", &[], 4), ("defaults", &DEFAULTS, 19), ("defaults and fuse", &with_fuse, 22)];
    for (name, rules, most) in table {
        let program = compile(rules).unwrap().unwrap();
        assert!(program.insns().len() <= most, "{name}: {}: {program:#?}", program.insns().len());
    }
}

#[test]
fn endless_rules_are_refused() {
    let rule = |major, minor, access| Rule {
        allow: true,
        class: Some(Class::Char),
        major,
        minor: Some(minor),
        access,
    };
    let wild = (0..200).map(|n| rule(None, 2 * n, READ));
    let many: Vec<Rule> = wild.chain((0..200).map(|n| rule(Some(n), 1000 + n, WRITE))).collect();
    assert!(compile(&many).unwrap_err().words.contains("too many rules"));
    assert!(compile(&many[..210]).is_ok());
}
