//! Lists the descriptors that a child needs, before the clone, so that the child can close all
//! others first.

use std::os::fd::AsRawFd;

use crate::init::remount::{Remount, Work};
use crate::init::{Gate, Nodes, Opened};

impl Opened {
    /// Fills [`Opened::numbers`].
    pub(super) fn list_descriptors(&mut self) {
        // Every field is listed, so that a new one cannot be forgotten.
        #[rustfmt::skip]
        let Opened {
            proc, sync, joined, sources, late, console, gate, hook_output, hook_said, root, succession, nodes: Nodes { hosts, made },
            root_tree, open_files: _, groups_stay: _,
            argv: _, envp: _, hook_state: _, asks: _, unshare: _, later: _, program: _, hold: _, home: _, started: _, listen_pid: _,
            numbers: _, beginning: _,
        } = &*self;
        let fifos = match gate {
            Gate::Sync => [None, None],
            Gate::Fifos { start, result } => [Some(start), Some(result)],
        };
        let namespace = succession.as_ref().and_then(|succession| succession.namespace.as_ref());
        let options = sources
            .iter()
            .chain(late)
            .chain(hook_output)
            .chain(hosts)
            .chain([console, root, root_tree, made, hook_said]);
        let all = [proc, sync].into_iter().chain(joined.iter().map(|join| &join.file));
        let all = all.chain(options.flatten()).chain(fifos.into_iter().flatten()).chain(namespace);
        self.numbers = all.map(|file| file.as_raw_fd() as u32).collect();
    }
}

impl Remount {
    /// Fills [`Remount::numbers`].
    pub(super) fn list_descriptors(&mut self) {
        // Every field is listed, so that a new one cannot be forgotten.
        let Remount { sync, proc, container, pid: _, kinds: _, procfs, root, work, numbers: _, beginning: _ } =
            &*self;
        let (sources, made) = match work {
            Work::Add { sources, made } => (sources.as_slice(), made.as_slice()),
            Work::Remove => Default::default(),
        };
        let namespace = procfs.as_ref().map(|opener| &opener.namespace);
        let all = [sync, proc, container, root].into_iter().chain(namespace);
        let all = all.chain(sources.iter().chain(made).flatten());
        self.numbers = all.map(|file| file.as_raw_fd() as u32).collect();
    }
}
