//! Compiles a table of device accesses to the smallest eBPF program that decides it.
//!
//! The verifier's time grows with instructions and branches, and every container pays it. The
//! program's order:
//! 1. accesses that every device allows (mknod, by default) are allowed at once;
//! 2. block and character devices each have a section;
//! 3. the majors that differ from the rest, one comparison each, then their minors: ranges, or one
//!    shift of a bitmap;
//! 4. the rest.
//!
//! Input (`struct bpf_cgroup_dev_ctx`): `u32 access_type` (access in the upper half, class in the
//! lower), `u32 major`, `u32 minor`. Output in r0: 1 allows. All jumps go forward, so kernels
//! before 5.3 accept the program too.

use std::collections::BTreeMap;

use super::table::{Row, Table};
use super::{ALL, Access, Class, Rule};
use crate::cgroup::BadLimit;
use crate::sys::bpf::Insn;

// Registers, by their contents.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const REQUEST: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;

// Instruction codes of linux/bpf.h: class | operation | source.
const LOAD_WORD: u8 = 0x61;
const MOV: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT_BY_REGISTER: u8 = 0x7f;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_ABOVE: u8 = 0x25;
const JUMP_ANY_BIT: u8 = 0x45;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_BELOW: u8 = 0xa5;
const JUMP_NOT_ABOVE: u8 = 0xb5;
const EXIT: u8 = 0x95;

// Bits of `access_type`.
const CLASS_BLOCK: i32 = 1;
const ACCESS_SHIFT: u32 = 16;

/// A constant operand is signed and has 32 bits.
const BITMAP_BITS: u32 = 31;

/// A program for a cgroup's device hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<Insn>);

impl Program {
    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.0
    }
}

/// The program for these rules, or `None` when they allow everything.
///
/// Errors when the rules are so many (thousands) that a jump would be too long.
pub fn compile(rules: &[Rule]) -> Result<Option<Program>, BadLimit> {
    let char = Table::new(rules, Class::Char);
    let block = Table::new(rules, Class::Block);
    let floor = char.cells().chain(block.cells()).fold(ALL, |floor, cell| floor & cell);
    if floor == ALL {
        return Ok(None);
    }
    let mut code = Assembler::new(floor);
    code.put(MOV, ANSWER, 0, 1);
    code.put(LOAD_WORD, REQUEST, CONTEXT, 0);
    if floor != 0 {
        let more = code.new_label();
        code.jump(JUMP_ANY_BIT, REQUEST, denied_bits(floor), more);
        code.put(EXIT, 0, 0, 0);
        code.bind(more);
    }
    if char == block {
        code.section(&char);
    } else if let Some(access) = uniform_access(&block) {
        let target = code.target(access);
        code.jump(JUMP_ANY_BIT, REQUEST, CLASS_BLOCK, target);
        code.section(&char);
    } else {
        let target = code.new_label();
        code.jump(JUMP_ANY_BIT, REQUEST, CLASS_BLOCK, target);
        code.section(&char);
        code.bind(target);
        code.section(&block);
    }
    let insns = code.finish().ok_or_else(|| {
        BadLimit::invalid(
            "linux.resources.devices",
            "too many rules for a program; name ranges of devices by their major",
        )
    })?;
    Ok(Some(Program(insns)))
}

/// The access set of the whole class, if it is the same for all its devices.
fn uniform_access(table: &Table) -> Option<Access> {
    (table.majors.is_empty() && table.rest.minors.is_empty()).then_some(table.rest.rest)
}

/// The bits of a request that `access` does not allow.
fn denied_bits(access: Access) -> i32 {
    i32::from(ALL & !access) << ACCESS_SHIFT
}

#[derive(Clone, Copy)]
struct Label(usize);

const DENY: Label = Label(0);
const ALLOW: Label = Label(1);

/// A program under construction, whose jumps still refer to labels.
struct Assembler {
    insns: Vec<Insn>,
    /// (instruction, target of its jump).
    jumps: Vec<(usize, Label)>,
    /// The position of each label, once it is bound.
    labels: Vec<Option<usize>>,
    /// The accesses allowed before the sections; a request that reaches a section asks for more.
    floor: Access,
    /// Shared endings for access sets that are neither all nor nothing.
    partial: BTreeMap<Access, Label>,
}

impl Assembler {
    fn new(floor: Access) -> Self {
        Self {
            insns: Vec::new(),
            jumps: Vec::new(),
            labels: vec![None, None],
            floor,
            partial: BTreeMap::new(),
        }
    }

    fn new_label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn bind(&mut self, label: Label) {
        let here = self.insns.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    fn put(&mut self, code: u8, dst: u8, src: u8, imm: i32) {
        self.insns.push(Insn::new(code, dst, src, 0, imm));
    }

    fn jump(&mut self, code: u8, register: u8, imm: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.put(code, register, 0, imm);
    }

    fn load(&mut self, register: u8, offset: i16) {
        self.insns.push(Insn::new(LOAD_WORD, register, CONTEXT, offset, 0));
    }

    /// The jump target when `access` is the allowed set.
    fn target(&mut self, access: Access) -> Label {
        if access == ALL {
            ALLOW
        } else if access == self.floor || access == 0 {
            DENY
        } else if let Some(label) = self.partial.get(&access) {
            *label
        } else {
            let label = self.new_label();
            self.partial.insert(access, label);
            label
        }
    }

    /// Ends this path through the program with `access` as the allowed set.
    fn end(&mut self, access: Access) {
        match self.target(access) {
            Label(1) => self.put(EXIT, 0, 0, 0),
            label => self.jump(JUMP, 0, 0, label),
        }
    }

    /// Emits the section of one class of devices.
    fn section(&mut self, table: &Table) {
        if let Some(access) = uniform_access(table) {
            return self.end(access);
        }
        let rows = || table.majors.values().chain([&table.rest]);
        if !table.majors.is_empty() {
            self.load(MAJOR, 4);
        }
        if rows().any(|row| !row.minors.is_empty()) {
            self.load(MINOR, 8);
        }
        for (majors, row) in group_equal_majors(&table.majors) {
            if row.minors.is_empty() {
                let target = self.target(row.rest);
                for major in majors {
                    self.jump(JUMP_EQUAL, MAJOR, major as i32, target);
                }
                continue;
            }
            let (body, next) = (self.new_label(), self.new_label());
            let Some((last, others)) = majors.split_last() else { continue };
            for major in others {
                self.jump(JUMP_EQUAL, MAJOR, *major as i32, body);
            }
            self.jump(JUMP_NOT_EQUAL, MAJOR, *last as i32, next);
            self.bind(body);
            self.row(row);
            self.bind(next);
        }
        self.row(&table.rest);
    }

    /// Emits the decision for the devices of one major.
    fn row(&mut self, row: &Row) {
        if let Some(bitmap) = self.bitmap(row) {
            let above = self.target(row.rest);
            self.jump(JUMP_ABOVE, MINOR, 31 - bitmap.leading_zeros() as i32, above);
            self.put(MOV, ANSWER, 0, bitmap as i32);
            self.put(SHIFT_RIGHT_BY_REGISTER, ANSWER, MINOR, 0);
            self.put(AND, ANSWER, 0, 1);
            return self.put(EXIT, 0, 0, 0);
        }
        for (first, last, access) in runs(&row.minors) {
            let target = self.target(access);
            match (first, last - first) {
                (0, 1..) => self.jump(JUMP_NOT_ABOVE, MINOR, last as i32, target),
                (_, 0) => self.jump(JUMP_EQUAL, MINOR, first as i32, target),
                (_, _) => {
                    let below = self.new_label();
                    self.jump(JUMP_BELOW, MINOR, first as i32, below);
                    self.jump(JUMP_NOT_ABOVE, MINOR, last as i32, target);
                    self.bind(below);
                }
            }
        }
        self.end(row.rest);
    }

    /// The minors as a bitmap, if it decides directly: accesses are all or nothing, minors are
    /// small, with more than one run.
    fn bitmap(&mut self, row: &Row) -> Option<u32> {
        let nothing = row.rest == 0 || row.rest == self.floor;
        let fits = row.minors.iter().all(|(minor, access)| *minor < BITMAP_BITS && *access == ALL);
        (nothing && fits && row.minors.len() > 2 && runs(&row.minors).len() > 1)
            .then(|| row.minors.keys().fold(0, |bits, minor| bits | 1 << minor))
    }

    /// Emits the shared endings, then resolves the jumps.
    fn finish(mut self) -> Option<Vec<Insn>> {
        for (access, label) in std::mem::take(&mut self.partial) {
            self.bind(label);
            self.jump(JUMP_ANY_BIT, REQUEST, denied_bits(access), DENY);
            self.put(EXIT, 0, 0, 0);
        }
        // Removes a jump to the next instruction.
        if let Some((at, Label(0))) = self.jumps.last().copied()
            && at + 1 == self.insns.len()
            && self.insns.last().is_some_and(|insn| insn.code == JUMP)
            && !self.labels.contains(&Some(at + 1))
        {
            self.jumps.pop();
            self.insns.pop();
        }
        self.bind(DENY);
        self.put(MOV, ANSWER, 0, 0);
        self.bind(ALLOW);
        self.put(EXIT, 0, 0, 0);
        for (at, label) in self.jumps {
            let to = self.labels.get(label.0).copied().flatten()?;
            self.insns.get_mut(at)?.off = i16::try_from(to.checked_sub(at + 1)?).ok()?;
        }
        Some(self.insns)
    }
}

/// Groups majors with equal rows; rows that ignore the minor come first.
fn group_equal_majors(majors: &BTreeMap<u32, Row>) -> Vec<(Vec<u32>, &Row)> {
    let mut groups: Vec<(Vec<u32>, &Row)> = Vec::new();
    for (major, row) in majors {
        match groups.iter_mut().find(|(_, known)| *known == row) {
            Some((group, _)) => group.push(*major),
            None => groups.push((vec![*major], row)),
        }
    }
    groups.sort_by_key(|(_, row)| !row.minors.is_empty());
    groups
}

/// Neighbouring minors with the same access: (first, last, access).
fn runs(minors: &BTreeMap<u32, Access>) -> Vec<(u32, u32, Access)> {
    let mut runs: Vec<(u32, u32, Access)> = Vec::new();
    for (minor, access) in minors {
        match runs.last_mut() {
            Some((_, last, same)) if *same == *access && last.checked_add(1) == Some(*minor) => {
                *last = *minor
            }
            _ => runs.push((*minor, *minor, *access)),
        }
    }
    runs
}

#[cfg(test)]
mod tests;
