//! A container that exists: what every command but `create` begins with.

use super::ContainerId;
use super::pid::ProcessId;
use super::record::{Folder, Phase, Record};
use super::request::Settings;
use super::state::Status;
use crate::error::{Error, Kind, Result};
use crate::plan::Ask;

/// Its folder and its record.
pub struct Existing {
    /// Where it is kept.
    pub folder: Folder,
    /// What is noted of it.
    pub record: Record,
}

impl Existing {
    /// Reads it. `Kind::NotFound`: there is none, or its creation has only just begun.
    pub fn open(settings: &Settings, id: &ContainerId) -> Result<Self> {
        let folder = Folder::open(settings, id)?;
        let record = folder.read()?;
        // Between the making of the folder and the first word in it.
        let record = record.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("container does not exist: {id} (it is just being created)"))
        })?;
        Ok(Self { folder, record })
    }

    /// Where it is in its life, now.
    pub fn status(&self) -> Status {
        Status::of(&self.record, &self.folder)
    }

    /// What a plan asks of its caller when it is made anew for this container, and nobody passes anything on.
    pub fn ask(&self) -> Ask<'_> {
        Ask {
            id: &self.record.id,
            bundle: &self.record.bundle,
            no_pivot: false,
            new_keyring: false,
            listen_fds: 0,
            listen_names: None,
            preserve_fds: 0,
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
