use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde::Deserialize;

use super::*;

/// A folder that goes when it is dropped: in memory where that can be, because thousands of small
/// files on a disk take minutes, and what the simulated disk syncs it does not sync for real.
pub(crate) fn test_folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

const FAULTS: [Fault; 3] = [Fault::Broken, Fault::Full, Fault::Cut];

/// A disk without faults that syncs nothing for real, for what only prepares and looks.
fn unsynced(root: &Path) -> Disk {
    Disk::faulty(root, Plan::none())
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    number: u64,
    text: String,
}

fn state(number: u64) -> State {
    State { number, text: "x".repeat(number as usize % 50) }
}

/// Runs an act with every fault at every operation until it completes without meeting one, and
/// shows what each left.
fn with_each_fault(
    prepare: impl Fn(&Path),
    act: impl Fn(&Disk, &Path) -> Result<(), DiskError>,
    check: impl Fn(&Path, bool),
) -> u64 {
    let mut runs = 0;
    for (fault, seeds) in FAULTS.into_iter().zip([1, 1, 12]) {
        for seed in 0..seeds {
            for at in 0.. {
                let folder = test_folder();
                prepare(folder.path());
                let disk = Disk::faulty(folder.path(), Plan { at, fault, seed });
                let done = act(&disk, folder.path()).is_ok();
                runs += 1;
                if !disk.fault_fired() {
                    assert!(done, "without a fault it succeeds");
                    check(folder.path(), true);
                    break;
                }
                // A cut after the last operation loses nothing of what was acknowledged.
                check(folder.path(), done);
            }
        }
    }
    runs
}

#[test]
fn a_commit_leaves_the_old_bytes_or_the_new() {
    let file = |root: &Path| root.join("file");
    let seen = Mutex::new(BTreeSet::new());
    let runs = with_each_fault(
        |root| fs::write(file(root), "old").unwrap(),
        |disk, root| disk.replace(&file(root), b"newer"),
        |root, done| {
            let text = fs::read_to_string(file(root)).unwrap();
            assert!(text == "newer" || text == "old" && !done, "{text}, {done}");
            seen.lock().unwrap().insert((text, done));
            // The next commit is not held up by what this one left.
            unsynced(root).replace(&file(root), b"newest").unwrap();
            assert_eq!(Disk::real().list(root).unwrap(), ["file"]);
        },
    );
    assert_eq!(seen.lock().unwrap().len(), 3, "old, new unacknowledged, new");
    assert!(runs > 60, "{runs}");
}

#[test]
fn the_first_commit_leaves_nothing_or_all() {
    with_each_fault(
        |_| {},
        |disk, root| disk.replace(&root.join("file"), b"first"),
        |root, done| match fs::read(root.join("file")) {
            Ok(bytes) => assert_eq!(bytes, b"first"),
            Err(_) => assert!(!done),
        },
    );
}

/// Writes without the syncs that `replace` has, and collects what a cut leaves.
fn left_by(act: impl Fn(&Disk, &Path) -> Result<(), DiskError>) -> BTreeSet<String> {
    let done = |plan: Plan| {
        let folder = test_folder();
        fs::write(folder.path().join("file"), "old").unwrap();
        let disk = Disk::faulty(folder.path(), plan);
        act(&disk, folder.path()).unwrap();
        (folder, disk)
    };
    let mut left = BTreeSet::new();
    let count = done(Plan::none()).1.op_count();
    for seed in 0..80 {
        let (folder, disk) = done(Plan { at: count - 1, fault: Fault::Cut, seed });
        assert!(disk.fault_fired());
        assert!(disk.read(&folder.path().join("file"), 9).is_err(), "there is no power");
        let text = fs::read(folder.path().join("file"));
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        left.insert(text.unwrap_or_else(|_| "nothing".to_owned()));
    }
    left
}

#[test]
fn what_no_sync_follows_is_lost_in_every_way() {
    // Without the file's sync, the name may be there and its bytes not.
    let unsynced = left_by(|disk, root| {
        disk.create_new(&root.join("new"))?.write_all(b"newer")?;
        disk.rename(&root.join("new"), &root.join("file"))?;
        disk.sync_dir(root)
    });
    assert!(unsynced.contains("") && unsynced.contains("newer") && unsynced.contains("new"));
    assert!(unsynced.contains("\0\0\0\0\0") && !unsynced.contains("old"), "{unsynced:?}");
    // Without the folder's, either name may be there, each whole.
    let undone = left_by(|disk, root| {
        let mut file = disk.create_new(&root.join("new"))?;
        file.write_all(b"newer")?;
        file.sync()?;
        disk.rename(&root.join("new"), &root.join("file"))
    });
    assert_eq!(undone, BTreeSet::from(["newer".to_owned(), "old".to_owned()]));
    let removed = left_by(|disk, root| disk.remove_file(&root.join("file")));
    assert_eq!(removed, BTreeSet::from(["nothing".to_owned(), "old".to_owned()]));
    let appended = left_by(|disk, root| {
        let mut file = disk.append(&root.join("file"))?;
        file.write_all(b"+a")?;
        file.sync()?;
        file.write_all(b"+b")
    });
    assert!(appended.iter().all(|text| text.starts_with("old+a")), "{appended:?}");
    assert!(appended.contains("old+a") && appended.contains("old+a+b"));
}

#[test]
fn a_folder_that_moves_takes_its_names_along() {
    let staged = |disk: &Disk, root: &Path| {
        disk.create_dir(&root.join("a"))?;
        let mut file = disk.create_new(&root.join("a/x"))?;
        file.write_all(b"x")?;
        file.sync()?;
        disk.sync_dir(&root.join("a"))?;
        disk.rename(&root.join("a"), &root.join("b"))?;
        disk.sync_dir(root)?;
        disk.create_new(&root.join("b/y"))?;
        disk.sync_dir(&root.join("b"))
    };
    let runs = with_each_fault(
        |_| {},
        staged,
        |root, done| {
            let names = |folder: &str| Disk::real().list(&root.join(folder)).ok();
            assert!(names("a").is_none() || names("b").is_none(), "a rename is whole");
            let moved = names("b").unwrap_or_default();
            if done {
                assert_eq!(moved, ["x", "y"]);
            }
            if !moved.is_empty() {
                assert_eq!(fs::read(root.join("b/x")).unwrap(), b"x");
            }
        },
    );
    assert!(runs > 100);
}

#[test]
fn a_failed_sync_is_final() {
    let folder = test_folder();
    let disk = Disk::faulty(folder.path(), Plan { at: 2, fault: Fault::Broken, seed: 0 });
    let mut file = disk.create_new(&folder.path().join("file")).unwrap();
    file.write_all(b"bytes").unwrap();
    let error = file.sync().unwrap_err().to_string();
    assert!(error.starts_with("cannot sync ") && error.contains("/file: "), "{error}");
    assert!(file.sync().is_err() && file.write_all(b"more").is_err());
    assert_eq!(disk.op_count(), 3, "nothing was tried again");
}

#[test]
fn a_folder_is_removed_with_all_that_is_in_it() {
    with_each_fault(
        |root| {
            fs::create_dir_all(root.join("a/b/c")).unwrap();
            fs::write(root.join("kept"), "kept").unwrap();
            for name in ["a/1", "a/b/2", "a/b/c/3"] {
                fs::write(root.join(name), name).unwrap();
            }
            std::os::unix::fs::symlink(root, root.join("a/link")).unwrap();
        },
        |disk, root| {
            disk.remove_dir_all(&root.join("a"))?;
            disk.sync_dir(root)
        },
        |root, done| {
            assert_eq!(fs::read(root.join("kept")).unwrap(), b"kept", "links are not followed");
            assert!(!done || !root.join("a").exists());
        },
    );
}

#[test]
fn only_regular_files_are_read_and_only_so_far() {
    let folder = test_folder();
    let (disk, root) = (Disk::real(), folder.path());
    disk.create_new(&root.join("file")).unwrap().write_all(b"12345").unwrap();
    assert_eq!(disk.read(&root.join("file"), 5).unwrap(), b"12345");
    let read = |name: &str| disk.read(&root.join(name), 4).unwrap_err();
    assert!(matches!(read("file"), DiskError::TooLarge { len_max: 4, .. }));
    assert!(read("none").is_not_found());
    std::os::unix::fs::symlink(root.join("file"), root.join("link")).unwrap();
    assert!(matches!(read("link"), DiskError::NotRegular { .. }));
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o600.into()).unwrap();
    assert!(matches!(read("pipe"), DiskError::NotRegular { .. }));
    assert!(matches!(read("."), DiskError::NotRegular { .. }));
    let mode = fs::metadata(root.join("file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_held_folder_is_held_once() {
    let folder = test_folder();
    let held = Disk::real().hold(folder.path()).unwrap();
    let again = Disk::real().hold(folder.path()).unwrap_err();
    assert!(matches!(again, DiskError::InUse { .. }), "{again}");
    drop(held);
    Disk::real().hold(folder.path()).unwrap();
}

#[test]
fn a_state_is_the_old_one_or_the_new_one_after_every_fault() {
    let file = |disk: &Disk, root: &Path| StateFile::new(disk, &root.join("state"), "test-1");
    with_each_fault(
        |root| file(&unsynced(root), root).save(&state(7)).unwrap(),
        |disk, root| file(disk, root).save(&state(8)),
        |root, done| {
            let found: State = file(&Disk::real(), root).load().unwrap().unwrap();
            assert!(found == state(8) || found == state(7) && !done);
            let bytes = fs::read(root.join("state")).unwrap();
            assert_eq!(file(&Disk::real(), root).load().unwrap(), Some(found));
            assert_eq!(fs::read(root.join("state")).unwrap(), bytes, "loading changes nothing");
        },
    );
}

#[test]
fn every_damage_to_a_state_is_noticed_by_path() {
    let folder = test_folder();
    let path = folder.path().join("state");
    let file: StateFile<State> = StateFile::new(&Disk::real(), &path, "test-1");
    assert_eq!(file.load().unwrap(), None);
    file.save(&state(9)).unwrap();
    let saved = fs::read(&path).unwrap();
    let damaged = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = file.load().unwrap_err();
        assert!(matches!(error, DiskError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("/state is damaged: "), "{error}");
    };
    for index in 0..saved.len() {
        let mut flipped = saved.clone();
        flipped[index] ^= 1 << (index % 8);
        damaged(&flipped);
        damaged(&saved[..index]);
    }
    damaged(&[&saved[..], b"\n"].concat());
    // Another file's state is none of this one's, however whole it is.
    StateFile::<State>::new(&Disk::real(), &path, "test-2").save(&state(9)).unwrap();
    damaged(&fs::read(&path).unwrap());
    StateFile::<u64>::new(&Disk::real(), &path, "test-1").save(&9).unwrap();
    damaged(&fs::read(&path).unwrap());
    fs::write(&path, &saved).unwrap();
    assert_eq!(file.load().unwrap(), Some(state(9)));
}
