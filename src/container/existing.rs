//! A container that exists: the first step of every command but `create`.

use std::time::{Duration, Instant};

use super::ContainerId;
use super::folder::Folder;
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::Settings;
use super::state::Status;
use crate::error::{Error, Kind, Result};
use crate::plan::{Ask, passed};

/// Its directory and its record.
pub struct Existing {
    /// Where it is kept.
    pub folder: Folder,
    /// What is noted of it.
    pub record: Record,
}

impl Existing {
    /// Reads it, without the lock. `Kind::NotFound`: there is none, or its creation has only just begun.
    pub fn open(settings: &Settings, id: &ContainerId) -> Result<Self> {
        Self::read(Folder::open(settings, id)?)
    }

    /// Waits for the other commands that change the container, then reads it; they wait until the folder is closed.
    ///
    /// `Kind::State`: it is being created. Its creator has the lock for as long as that takes, and may be waiting for a hook that
    /// runs this very command.
    pub fn lock(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let folder = Folder::open(settings, id)?;
        let mut pause = Pause::new();
        while !folder.try_lock()? {
            if folder.read()?.is_none_or(|record| record.is_being_created()) {
                return Err(Error::new(Kind::State, "container not running: it is still being created"));
            }
            if !folder.is_current()? {
                break;
            }
            pause.sleep();
        }
        if !folder.is_current()? {
            return Err(Error::new(Kind::NotFound, format!("container does not exist: {id}")));
        }
        Self::read(folder)
    }

    fn read(folder: Folder) -> Result<Self> {
        let record = folder.read()?;
        // Between the making of the directory and the first word in it.
        let record = record.ok_or_else(|| {
            let words = format!("container does not exist: {} (it is just being created)", folder.id());
            Error::new(Kind::NotFound, words)
        })?;
        Ok(Self { folder, record })
    }

    /// Its status now.
    pub fn status(&self) -> Result<Status> {
        Status::of(&self.record, &self.folder)
    }

    /// What a plan asks of its caller when it is made anew for this container, and nobody passes anything on.
    pub fn ask(&self) -> Ask<'_> {
        Ask {
            id: &self.record.id,
            bundle: &self.record.bundle,
            no_pivot: false,
            new_keyring: false,
            passed: &passed::NOTHING,
        }
    }

    /// Its process, while it is created, running or paused; else an error that engines know by its words.
    pub fn init(&self) -> Result<ProcessId> {
        // Less than `status` asks: exec comes by here thousands of times an hour.
        let init = match self.record.phase {
            Phase::Created => self.record.init.filter(ProcessId::is_alive),
            Phase::Creating if self.record.creator.is_alive() => {
                return Err(Error::new(Kind::State, "the container is still being created"));
            }
            Phase::Creating => None,
        };
        init.ok_or_else(|| Error::new(Kind::State, "container not running"))
    }
}

/// Sleeps between two looks at something that tells nobody of its change: from 1 ms, doubled up to 16.
pub struct Pause {
    next: Duration,
    began: Instant,
}

impl Pause {
    /// Begins now.
    pub fn new() -> Self {
        Self { next: Duration::from_millis(1), began: Instant::now() }
    }

    /// One sleep.
    pub fn sleep(&mut self) {
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(16));
    }

    /// The time since it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
