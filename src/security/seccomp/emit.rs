//! A decision graph and its assembly into classic BPF, with jumps of any length.
//!
//! Nodes are created children first and equal nodes are merged, so a part that two calls (or two
//! architectures) share is emitted once. The program is written from its end, so every target has
//! its place before the jump to it is written.

use super::SockFilter;

/// The kernel's `BPF_MAXINSNS`.
pub(super) const LONGEST: usize = 4096;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALWAYS: u16 = 0x05; // BPF_JMP | BPF_JA

/// The comparison of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test {
    Equal,
    Above,
    AtLeast,
}

impl Test {
    const fn code(self) -> u16 {
        match self {
            Self::Equal => 0x15,   // BPF_JMP | BPF_JEQ | BPF_K
            Self::Above => 0x25,   // BPF_JMP | BPF_JGT | BPF_K
            Self::AtLeast => 0x35, // BPF_JMP | BPF_JGE | BPF_K
        }
    }
}

/// The index of a node in a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// The filter's answer.
    Return(u32),
    /// Reads a word of `struct seccomp_data` into the accumulator.
    Load { offset: u32, next: Id },
    /// Keeps some bits of the accumulator.
    And { mask: u32, next: Id },
    /// Chooses by the accumulator.
    Choose { test: Test, value: u32, yes: Id, no: Id },
}

/// A graph of decisions that end in answers; nodes are only added.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    known: Known,
    /// The answers among `known`, which are few and looked up most often.
    answers: Vec<(u32, Id)>,
}

/// The nodes of a graph by content: a table with open addressing, at most half full.
///
/// A profile of a few hundred calls makes about as many nodes, and each start of a container makes
/// them anew: a map of the standard library takes several times as long.
#[derive(Default)]
struct Known {
    /// Indexes of nodes plus 1; 0: free. The length is a power of two.
    slots: Vec<u32>,
}

impl Known {
    /// The node equal to `node`, which is added to `nodes` if there is none.
    fn find_or_add(&mut self, node: Node, nodes: &mut Vec<Node>) -> Id {
        if self.slots.len() <= 2 * nodes.len() {
            self.grow(nodes);
        }
        let mut at = self.first(node);
        while let Some(slot) = self.slots.get_mut(at) {
            match slot.checked_sub(1) {
                Some(index) if nodes.get(index as usize) == Some(&node) => return Id(index),
                Some(_) => at = (at + 1) & (self.slots.len() - 1),
                None => {
                    let id = Id(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
                    *slot = id.0.saturating_add(1);
                    nodes.push(node);
                    return id;
                }
            }
        }
        Id(u32::MAX)
    }

    fn grow(&mut self, nodes: &[Node]) {
        const FEW: usize = 1024;
        self.slots = vec![0; FEW.max(4 * nodes.len()).next_power_of_two()];
        for (index, node) in (1..).zip(nodes) {
            let mut at = self.first(*node);
            while self.slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & (self.slots.len() - 1);
            }
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = index;
            }
        }
    }

    /// Where the search for a node begins.
    fn first(&self, node: Node) -> usize {
        let words = match node {
            Node::Return(action) => [1, action, 0],
            Node::Load { offset, next } => [2, offset, next.0],
            Node::And { mask, next } => [3, mask, next.0],
            Node::Choose { test, value, yes, no } => [4 + test as u32 + (yes.0 << 3), value, no.0],
        };
        // Knuth's multiplicative hash: its high bits are the better ones.
        let hash = words.iter().fold(0_u64, |hash, word| {
            (hash.rotate_left(5) ^ u64::from(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        (hash >> 32) as usize & (self.slots.len() - 1)
    }
}

impl Graph {
    fn node(&mut self, node: Node) -> Id {
        self.known.find_or_add(node, &mut self.nodes)
    }

    /// A node that answers with `action`.
    pub(super) fn answer(&mut self, action: u32) -> Id {
        if let Some((_, id)) = self.answers.iter().find(|(known, _)| *known == action) {
            return *id;
        }
        let id = self.node(Node::Return(action));
        self.answers.push((action, id));
        id
    }

    /// A node that reads the word at `offset` and goes to `next`.
    pub(super) fn load(&mut self, offset: u32, next: Id) -> Id {
        match self.get(next) {
            // An answer does not need the word.
            Some(Node::Return(_)) => next,
            _ => self.node(Node::Load { offset, next }),
        }
    }

    /// A node that keeps the bits of `mask` and goes to `next`.
    pub(super) fn and(&mut self, mask: u32, next: Id) -> Id {
        if mask == u32::MAX { next } else { self.node(Node::And { mask, next }) }
    }

    /// A node that goes to `yes` or `no`.
    pub(super) fn choose(&mut self, test: Test, value: u32, yes: Id, no: Id) -> Id {
        if yes == no { yes } else { self.node(Node::Choose { test, value, yes, no }) }
    }

    /// Whether the graph has more nodes than any program can hold.
    pub(super) fn too_long(&self) -> bool {
        self.nodes.len() > 4 * LONGEST
    }

    fn get(&self, id: Id) -> Option<Node> {
        self.nodes.get(id.0 as usize).copied()
    }

    /// Which nodes are reachable from `root`. Parents follow their children, so one pass from the
    /// end is enough.
    fn reached(&self, root: Id) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mark = |reached: &mut Vec<bool>, id: Id| {
            if let Some(at) = reached.get_mut(id.0 as usize) {
                *at = true;
            }
        };
        mark(&mut reached, root);
        for (at, node) in self.nodes.iter().enumerate().rev() {
            if reached.get(at) != Some(&true) {
                continue;
            }
            match *node {
                Node::Return(_) => {}
                Node::Load { next, .. } | Node::And { next, .. } => mark(&mut reached, next),
                Node::Choose { yes, no, .. } => {
                    mark(&mut reached, yes);
                    mark(&mut reached, no);
                }
            }
        }
        reached
    }

    /// The program that starts at `root`; `None` if it would exceed the kernel's limit.
    pub(super) fn assemble(&self, root: Id) -> Option<Vec<SockFilter>> {
        let reached = self.reached(root);
        let mut program = Backwards {
            graph: self,
            code: Vec::new(),
            positions: vec![Position::default(); self.nodes.len()],
        };
        for (at, node) in self.nodes.iter().enumerate() {
            if reached.get(at) == Some(&true) {
                program.put(Id(u32::try_from(at).ok()?), *node)?;
            }
            if program.code.len() > LONGEST {
                return None;
            }
        }
        program.enter(root)?;
        program.code.reverse();
        (program.code.len() <= LONGEST).then_some(program.code)
    }
}

/// The position of a node, counted from the program's end.
#[derive(Clone, Copy, Default)]
struct Position {
    /// The node itself.
    own: usize,
    /// The nearest equivalent instruction: the node itself, a copy, or a jump to it.
    near: usize,
}

struct Backwards<'a> {
    graph: &'a Graph,
    code: Vec<SockFilter>,
    positions: Vec<Position>,
}

impl Backwards<'_> {
    /// Maximum distance at which a conditional jump (8 bits) still reaches its target after one
    /// more instruction is inserted.
    const REACH: usize = u8::MAX as usize - 1;

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.code.push(SockFilter { code, jt, jf, k });
    }

    fn position(&self, id: Id) -> Option<Position> {
        self.positions.get(id.0 as usize).copied()
    }

    /// Number of instructions between the next one written and the position `to`.
    fn distance(&self, to: usize) -> usize {
        self.code.len().saturating_sub(to + 1)
    }

    /// Writes an equivalent of `id` at the front, for jumps that cannot reach it.
    fn repeat(&mut self, id: Id) -> Option<()> {
        let own = self.position(id)?.own;
        match self.graph.get(id)? {
            Node::Return(action) => self.push(RETURN, 0, 0, action),
            _ => self.push(ALWAYS, 0, 0, u32::try_from(self.distance(own)).ok()?),
        }
        let near = self.code.len() - 1;
        self.positions.get_mut(id.0 as usize)?.near = near;
        Some(())
    }

    /// Ensures that the next instruction written falls through to `id`.
    fn enter(&mut self, id: Id) -> Option<()> {
        if self.distance(self.position(id)?.own) > 0 { self.repeat(id) } else { Some(()) }
    }

    fn put(&mut self, id: Id, node: Node) -> Option<()> {
        match node {
            Node::Return(action) => self.push(RETURN, 0, 0, action),
            Node::Load { offset, next } => {
                self.enter(next)?;
                self.push(LOAD, 0, 0, offset);
            }
            Node::And { mask, next } => {
                self.enter(next)?;
                self.push(AND, 0, 0, mask);
            }
            Node::Choose { test, value, yes, no } => {
                for target in [yes, no] {
                    if self.distance(self.position(target)?.near) > Self::REACH {
                        self.repeat(target)?;
                    }
                }
                let skip = |id| Some(u8::try_from(self.distance(self.position(id)?.near)).ok());
                let (yes, no) = (skip(yes)??, skip(no)??);
                self.push(test.code(), yes, no, value);
            }
        }
        let own = self.code.len() - 1;
        *self.positions.get_mut(id.0 as usize)? = Position { own, near: own };
        Some(())
    }
}
