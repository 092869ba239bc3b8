//! Files that are opened once and read twice, within a limit on open files.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::blob_closure::{BlobSource, FileReader};
use crate::emergence::base::bounded::open_file;
use crate::emergence::base::refusal::{Code, Fault, Result};

/// Maximum number of files that stay open. A file that is opened again is checked by its hash.
const KEPT: usize = 256;

/// The blobs of a closure in files of their own.
pub struct Files {
    /// The path of each, and the artifact that it is a part of, for messages.
    paths: Vec<(PathBuf, String)>,
    open: Mutex<Vec<Option<Arc<File>>>>,
}

impl Files {
    /// The files at these paths, none of them open yet.
    pub fn new(paths: Vec<(PathBuf, String)>) -> Self {
        let open = Mutex::new(vec![None; paths.len().min(KEPT)]);
        Self { paths, open }
    }
}

impl BlobSource for Files {
    fn open(&self, at: usize) -> Result<Box<dyn Read + Send + '_>> {
        let kept = self.open.lock().ok().and_then(|open| open.get(at).cloned().flatten());
        if let Some(file) = kept {
            return Ok(Box::new(FileReader::new(file, 0)));
        }
        let (path, of) = self.paths.get(at).ok_or_else(|| Fault::usage("an object has no file"))?;
        let file = open_file(path)?.ok_or_else(|| {
            let words = format!("does not exist, but {of} is declared to be in it");
            Fault::refused(Code::BlobMissing, path.display().to_string(), words)
        })?;
        let file = Arc::new(file);
        if let Ok(mut open) = self.open.lock()
            && let Some(place) = open.get_mut(at)
        {
            *place = Some(Arc::clone(&file));
        }
        Ok(Box::new(FileReader::new(file, 0)))
    }
}
