//! The folder of a training run.

use super::lock::Lock;
use super::settings::write_settings;
use crate::files::{in_folder, write_atomically};
use crate::{Error, Result};
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The files that every run writes, apart from event files.
const FILES: [&str; 6] =
    ["config.toml", "metrics.jsonl", "results.json", "model.safetensors", "training.safetensors", "loss.png"];

/// The prefix of the names of event files.
const EVENTS: &str = "events.out.tfevents.";

/// The sub-folder that holds the run being replaced until the new one has been saved.
const REPLACED: &str = ".replaced";
/// The name of that sub-folder while files are being moved into it.
const MOVING: &str = ".replacing";

/// The folder of one training run: settings, metrics, model, training state, results, pictures, event
/// files. While this value exists, no other process trains in the folder.
///
/// Dropping a new run before it was saved restores the previous state: the run that it was to replace, the
/// settings of the run that it was to resume, or nothing.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// The files that the runs of this program write besides [`FILES`].
    pictures: &'static [&'static str],
    lock: Option<Lock>,
    undo: Undo,
}

/// How to undo a run that was never saved.
#[derive(Debug)]
enum Undo {
    /// Leave everything as it is.
    Nothing,
    /// Remove its files and the folders `made` for it, the outermost last.
    New { made: Vec<PathBuf> },
    /// Restore the settings, unless the run has been saved since.
    Resumed { settings: Vec<u8>, saved: Option<SystemTime> },
}

impl Folder {
    /// The folder `path` for a new run, which may replace another if `overwrite`; nothing is written yet.
    ///
    /// # Errors
    /// When the folder holds a run that is not to be replaced, or one that is training.
    pub(super) fn new(path: PathBuf, pictures: &'static [&'static str], overwrite: bool) -> Result<Self> {
        let folder = Self::open(path, pictures)?;
        if !overwrite { folder.check_free() } else { Ok(()) }.map(|()| folder)
    }

    /// The folder `path` of a run to resume.
    ///
    /// # Errors
    /// When there is no run, or it is training in another process.
    pub(super) fn resume(path: PathBuf, pictures: &'static [&'static str]) -> Result<Self> {
        let folder = Self::open(path, pictures)?;
        if !folder.file("config.toml").exists() {
            let shown = folder.path.display();
            return Err(Error::Config(format!("{shown} holds no run to resume; check --out, or omit --resume")));
        }
        Ok(folder)
    }

    /// The folder `path` on a rank other than 0, which neither locks nor writes it.
    pub(super) fn of_another(path: PathBuf) -> Self {
        Self { path, pictures: &[], lock: None, undo: Undo::Nothing }
    }

    fn open(path: PathBuf, pictures: &'static [&'static str]) -> Result<Self> {
        if path.exists() && !path.is_dir() {
            return Err(Error::file(path, "is a file, not a folder; choose another --out"));
        }
        let lock = path.is_dir().then(|| Lock::take(&path)).transpose()?;
        Ok(Self { path, pictures, lock, undo: Undo::Nothing })
    }

    fn check_free(&self) -> Result<()> {
        let aside = [MOVING, REPLACED].iter().any(|name| self.path.join(name).exists());
        if self.files().is_empty() && !aside {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{} already holds a run; resume it by --resume, replace it by --overwrite, or choose another folder by \
             --out",
            self.path.display()
        )))
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The files of the run in the folder.
    fn files(&self) -> Vec<PathBuf> {
        let ours = |name: &str| FILES.contains(&name) || self.pictures.contains(&name) || name.starts_with(EVENTS);
        self.entries(ours)
    }

    /// Whether the run in the folder has event files.
    pub(super) fn has_events(&self) -> bool {
        !self.entries(|name| name.starts_with(EVENTS)).is_empty()
    }

    /// Temporary files left by a run that was killed while writing.
    fn temporaries(&self) -> Vec<PathBuf> {
        let known = |name: &str| FILES.iter().chain(self.pictures).any(|file| name.starts_with(&format!(".{file}.")));
        self.entries(|name| name.ends_with(".tmp") && known(name))
    }

    fn entries(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter(|e| wanted(&e.file_name().to_string_lossy())).map(|e| e.path()).collect()
    }

    /// When the run was saved last.
    fn saved(&self) -> Option<SystemTime> {
        fs::metadata(self.file("training.safetensors")).and_then(|file| file.modified()).ok()
    }

    /// Creates the folder for a new run and moves the run that it replaces aside.
    ///
    /// # Errors
    /// When the folder cannot be written to, or another process has begun a run in it since.
    pub(super) fn make_room(&mut self) -> Result<()> {
        let made: Vec<PathBuf> =
            self.path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_path_buf).collect();
        fs::create_dir_all(&self.path)
            .map_err(|e| Error::Io(format!("{}: cannot be made ({e}); choose another folder", self.path.display())))?;
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.path)?);
            self.check_free()?;
        }
        self.finish_replacing();
        let (moving, files) = (self.path.join(MOVING), self.files());
        self.undo = Undo::New { made };
        for path in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            fs::rename(path, in_folder(&moving, &name)?).map_err(|e| Error::unwritten(path, e))?;
        }
        if !files.is_empty() {
            fs::rename(&moving, self.path.join(REPLACED)).map_err(|e| Error::unwritten(&moving, e))?;
        }
        Ok(())
    }

    /// Writes the settings, replacing those of the run if it `resumes`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn write_settings(&mut self, settings: &impl Serialize, resumes: bool) -> Result<()> {
        self.temporaries().into_iter().for_each(|file| drop(fs::remove_file(file)));
        let path = self.file("config.toml");
        if let (true, Ok(settings)) = (resumes, fs::read(&path)) {
            self.undo = Undo::Resumed { settings, saved: self.saved() };
        }
        write_settings(&path, settings)
    }

    /// Removes a run that has been replaced, or restores it if its replacement was never saved.
    fn finish_replacing(&self) {
        // A run of which only some files could be moved aside.
        self.put_back(MOVING);
        let aside = self.path.join(REPLACED);
        if !aside.exists() {
            return;
        }
        if self.file("model.safetensors").exists() {
            fs::remove_dir_all(&aside).ok();
            return;
        }
        self.files().into_iter().for_each(|file| drop(fs::remove_file(file)));
        self.put_back(REPLACED);
    }

    /// Moves the files in the sub-folder `name` back.
    fn put_back(&self, name: &str) {
        let aside = self.path.join(name);
        for entry in fs::read_dir(&aside).into_iter().flatten().flatten() {
            fs::rename(entry.path(), self.path.join(entry.file_name())).ok();
        }
        // Succeeds only if every file is back: a non-empty folder is kept.
        fs::remove_dir(&aside).ok();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.undo, Undo::Nothing) {
            Undo::Nothing => {}
            Undo::New { made } => {
                let saved = self.file("model.safetensors").exists();
                // While the old run is being moved aside, the files here are not ours.
                if !saved && !self.path.join(MOVING).exists() {
                    self.files().into_iter().for_each(|file| drop(fs::remove_file(file)));
                }
                self.finish_replacing();
                self.lock = None;
                if !saved {
                    made.iter().for_each(|folder| drop(fs::remove_dir(folder)));
                }
            }
            Undo::Resumed { settings, saved } => {
                self.finish_replacing();
                if saved == self.saved() {
                    let path = self.file("config.toml");
                    let write = |file: &mut fs::File| file.write_all(&settings);
                    write_atomically(&path, |file| write(file).map_err(|e| Error::unwritten(&path, e))).ok();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Table;

    const NONE: &[&str] = &["density.png"];

    fn settings(seed: i64) -> Table {
        Table::from_iter([("seed".to_string(), seed.into())])
    }

    fn begin(path: &Path, overwrite: bool, seed: i64) -> Result<Folder> {
        let mut folder = Folder::new(path.into(), NONE, overwrite)?;
        folder.make_room()?;
        folder.write_settings(&settings(seed), false)?;
        Ok(folder)
    }

    #[test]
    fn a_run_is_not_replaced_unasked() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/run");
        let message = |result: Result<Folder>| result.unwrap_err().to_string();
        assert!(message(Folder::resume(path.clone(), NONE)).contains("no run to resume"));
        // A run that is never saved leaves nothing, not even the folder created for it.
        drop(begin(&path, false, 1)?);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let run = begin(&path, false, 1)?;
        fs::write(path.join("model.safetensors"), "old").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        assert!(message(Folder::new(path.clone(), NONE, true)).contains("in use"));
        drop(run);
        assert!(message(Folder::new(path.clone(), NONE, false)).contains("--overwrite"));
        assert!(message(Folder::new(path.join("notes.txt"), NONE, false)).contains("is a file"));

        let (model, config) = (|| fs::read_to_string(path.join("model.safetensors")).ok(), path.join("config.toml"));
        let seed = || fs::read_to_string(&config).unwrap();
        // A run that is resumed with other settings but not saved keeps its own settings.
        for saved in [false, true] {
            let mut run = Folder::resume(path.clone(), NONE)?;
            run.write_settings(&settings(2), true)?;
            if saved {
                fs::write(path.join("training.safetensors"), "saved").unwrap();
            }
            drop(run);
            assert_eq!(seed(), if saved { "seed = 2\n" } else { "seed = 1\n" });
        }
        // A run that ends without having been saved restores the run that it replaced.
        for saved in [false, true] {
            fs::write(path.join("loss.png"), "old").unwrap();
            fs::write(path.join("density.png"), "old").unwrap();
            let run = begin(&path, true, 3)?;
            assert!(model().is_none() && path.join("notes.txt").exists() && !path.join("density.png").exists());
            if saved {
                fs::write(path.join("model.safetensors"), "new").unwrap();
            }
            drop(run);
            assert_eq!(model().unwrap(), if saved { "new" } else { "old" });
            assert_eq!(path.join("loss.png").exists(), !saved);
            assert_eq!(seed() == "seed = 3\n", saved);
            assert!(!path.join(REPLACED).exists());
        }
        // A run that was only partly moved aside is restored completely.
        fs::create_dir(path.join(MOVING)).unwrap();
        fs::rename(path.join("model.safetensors"), path.join(MOVING).join("model.safetensors")).unwrap();
        drop(begin(&path, true, 4)?);
        assert_eq!(model().unwrap(), "new");
        assert!(![MOVING, REPLACED].iter().any(|name| path.join(name).exists()));
        Ok(())
    }

    #[test]
    fn temporary_files_of_a_killed_run_are_removed() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (left, other) = (at(".model.safetensors.123.0.tmp"), at(".mine.txt.1.0.tmp"));
        fs::write(&left, "half").unwrap();
        fs::write(&other, "half").unwrap();
        let run = begin(folder.path(), false, 1)?;
        assert!(!left.exists() && other.exists());
        drop(run);
        // The folder existed before.
        assert!(folder.path().exists() && !at("config.toml").exists());
        Ok(())
    }
}
