//! An existing container: the first step of every command except `create`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::ContainerId;
use super::directory::Directory;
use super::pid::ProcessId;
use super::record::{Phase, Record};
use super::request::Settings;
use super::state::Status;
use crate::error::{Error, Kind, Result};
use crate::plan::{Ask, passed};

/// Its directory and its record.
pub(crate) struct Existing {
    /// Its directory.
    pub directory: Directory,
    /// Its record.
    pub record: Record,
}

impl Existing {
    /// Reads it without the lock. `Kind::NotFound`: there is none, or its creation has only just
    /// begun.
    pub(crate) fn open(settings: &Settings, id: &ContainerId) -> Result<Self> {
        Self::read(Directory::open(settings, id)?)
    }

    /// Waits for other commands that change the container, then reads it. Other commands wait until
    /// the returned value is dropped.
    ///
    /// `Kind::State`: it is being created. Its creator holds the lock all that time, and may be
    /// waiting for a hook that runs this very command.
    pub(crate) fn lock(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let directory = Directory::open(settings, id)?;
        let mut pause = Pause::new();
        while !directory.try_lock()? {
            if directory.read()?.is_none_or(|record| record.is_being_created()) {
                return Err(Error::new(Kind::State, "container not running: it is still being created"));
            }
            if !directory.is_current()? {
                break;
            }
            pause.sleep();
        }
        if !directory.is_current()? {
            return Err(Error::new(Kind::NotFound, format!("container does not exist: {id}")));
        }
        Self::read(directory)
    }

    /// Reads the record of an open directory, as [`Existing::open`].
    pub(super) fn read(directory: Directory) -> Result<Self> {
        let record = directory.read()?;
        // Between mkdir and the first write.
        let record = record.ok_or_else(|| {
            let words = format!("container does not exist: {} (it is just being created)", directory.id());
            Error::new(Kind::NotFound, words)
        })?;
        Ok(Self { directory, record })
    }

    /// Its status now.
    pub(crate) fn status(&self) -> Result<Status> {
        Status::of(&self.record, &self.directory)
    }

    /// The inputs of a plan that is built again for this container, without passed descriptors.
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask {
            id: &self.record.id,
            bundle: &self.record.bundle,
            no_pivot: false,
            new_keyring: false,
            passed: &passed::NOTHING,
        }
    }

    /// Its process, if created, running or paused; otherwise an error with a message that engines
    /// recognize.
    pub(crate) fn init(&self) -> Result<ProcessId> {
        self.created()?.filter(ProcessId::is_alive).ok_or_else(not_running)
    }

    /// As [`Existing::init`], with a pidfd of it. Cheaper: exec calls this thousands of times an
    /// hour.
    pub(crate) fn init_with_pidfd(&self) -> Result<(ProcessId, OwnedFd)> {
        let init = self.created()?.ok_or_else(not_running)?;
        Ok((init, init.pidfd()?.ok_or_else(not_running)?))
    }

    /// The process of a container whose creation is done, whether it lives or not.
    fn created(&self) -> Result<Option<ProcessId>> {
        match self.record.phase {
            Phase::Created => Ok(self.record.init),
            Phase::Creating if self.record.creator.is_alive() => {
                Err(Error::new(Kind::State, "the container is still being created"))
            }
            Phase::Creating => Ok(None),
        }
    }
}

fn not_running() -> Error {
    Error::new(Kind::State, "container not running")
}

/// Sleeps between polls of something that sends no notification: from 1 ms, doubled up to 16.
pub(crate) struct Pause {
    next: Duration,
    began: Instant,
}

impl Pause {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self { next: Duration::from_millis(1), began: Instant::now() }
    }

    /// Sleeps once.
    pub(crate) fn sleep(&mut self) {
        std::thread::sleep(self.next);
        self.next = (self.next * 2).min(Duration::from_millis(16));
    }

    /// The time since [`Pause::new`].
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
