//! A real disk that is full: a small tmpfs in a mount namespace of its own.

use std::process::Command;

use super::*;

/// Mounting needs root, or a system that gives users namespaces of their own; where neither is so, this says that
/// it was skipped.
#[test]
fn a_full_disk_keeps_the_checkpoint_before_and_says_what_happened() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        fill(Path::new(&folder));
        return;
    }
    let mount_point = tempfile::tempdir().unwrap();
    let allowed = [&["-m"][..], &["-rm"]].into_iter().find(|flags| {
        let mut unshare = Command::new("unshare");
        let mount = unshare
            .args(*flags)
            .args(["mount", "-t", "tmpfs", "none"])
            .arg(mount_point.path());
        mount.output().is_ok_and(|output| output.status.success())
    });
    let Some(flags) = allowed else {
        eprintln!("skipped: this system does not let us mount a tmpfs");
        return;
    };
    let script = format!("mount -t tmpfs -o size={DISK_BYTES} none \"$0\" && exec \"$@\"");
    let output = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", &script])
        .arg(mount_point.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", std::thread::current().name().unwrap()])
        .env(FOLDER, mount_point.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = text
        .lines()
        .find(|line| line.contains("is not saved"))
        .expect("the sentence");
    println!("{said}");
}

/// Saves larger and larger states until the disk is full, and a small one after that.
fn fill(folder: &Path) {
    let folder = folder.join("checkpoints");
    let store = open(&folder, 1);
    let state = |step: u64| image(step, STATE_BYTES * step as usize);
    let mut step = 1;
    let error = loop {
        match save(&store, step, &state(step), 2) {
            Ok(_) => step += 1,
            Err(error) => break error,
        }
        assert!(step < 100, "the disk was never full");
    };
    let said = error.to_string();
    println!("{said}");
    let CheckpointError::Storage { cause, .. } = error else {
        panic!("{said}");
    };
    assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
    assert!(said.starts_with(&format!(
        "the checkpoint of step {step} is not saved, those before it stay"
    )));
    // What was taken in of it is gone, and the one before is whole, also for a process that starts now.
    assert_eq!(names_in(&folder), ["last".to_owned(), names::step(step - 1)]);
    for store in [&store, &open(&folder, 1)] {
        let newest = store.newest_whole();
        assert!(newest.damaged.is_empty());
        let checkpoint = newest.checkpoint.expect("the one before");
        assert_eq!(checkpoint.step(), step - 1);
        assert_eq!(whole_image(&checkpoint), state(step - 1));
    }
    assert!(step > 2);
    let small = image(step, 100);
    save(&store, step, &small, 2).unwrap();
    assert_eq!(
        whole_image(&open(&folder, 1).newest_whole().checkpoint.unwrap()),
        small
    );
}

const FOLDER: &str = "RINGMASTER_TEST_FULL_DISK";
const DISK_BYTES: usize = 1 << 20;
const STATE_BYTES: usize = 50_000;
