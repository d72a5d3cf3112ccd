//! Attacks on the scratch folder, and on the folders beside it, by way of the standard library and of C's.

use std::ffi::{CString, c_char};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use serde_json::{Value, json};

use crate::Outcome;

const CHUNK: [u8; 4096] = [7; 4096];

unsafe extern "C" {
    fn symlink(target: *const c_char, path: *const c_char) -> i32;
    fn mkdirat(folder: i32, path: *const c_char, mode: u32) -> i32;
    fn openat(folder: i32, path: *const c_char, flags: i32, ...) -> i32;
    fn posix_fallocate(file: i32, offset: i64, length: i64) -> i32;
}

/// `O_RDONLY | O_DIRECTORY` of the WASI C library.
const OPEN_FOLDER: i32 = 0x0400_0000 | (2 << 12);

fn done(status: i32) -> io::Result<i32> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

fn link_to(target: &str, path: &str) -> io::Result<()> {
    let (target, path) = (CString::new(target)?, CString::new(path)?);
    // Sound: both end in a zero and outlive the call.
    done(unsafe { symlink(target.as_ptr(), path.as_ptr()) }).map(drop)
}

/// Does one thing over and over until the host denies it. Returns how often it did, and the number of
/// the denial.
pub fn fill(how: &str) -> Outcome {
    let mut file = File::create("/scratch/file").map_err(|error| error.to_string())?;
    let mut kept = Vec::new();
    let mut times = 0_u64;
    let error = loop {
        let path = format!("/scratch/{times}");
        let step = match how {
            "write" => file.write_all(&CHUNK),
            "append" => {
                OpenOptions::new().append(true).open("/scratch/file").and_then(|mut again| again.write_all(&CHUNK))
            }
            "set_len" => file.set_len((times + 1) * 4096),
            "holes" => file.seek(SeekFrom::Start(times * 8192)).and_then(|_| file.write_all(b"x")),
            "far" => file.seek(SeekFrom::Start(1 << 40)).and_then(|_| file.write_all(b"x")),
            "allocate" => match unsafe { posix_fallocate(file.as_raw_fd(), 0, 1 << 30) } {
                0 => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            },
            "files" => File::create(path).map(drop),
            "folders" => fs::create_dir(path),
            "hard_links" => fs::hard_link("/scratch/file", path),
            "symlinks" => link_to(&"x".repeat(1000), &path),
            "hoard" => File::create(&path).and_then(|mut hoarded| {
                hoarded.write_all(&CHUNK)?;
                kept.push(hoarded);
                fs::remove_file(&path)
            }),
            other => return Err(format!("nothing fills by {other}")),
        };
        match step {
            Ok(()) => times += 1,
            Err(error) => break error,
        }
    };
    Ok(json!({ "times": times, "errno": error.raw_os_error() }))
}

/// Does one thing `times` times that leaves as much behind as before.
pub fn churn(how: &str, times: u32) -> Outcome {
    let step = || -> io::Result<()> {
        match how {
            "truncate" => fs::write("/scratch/file", [1; 50_000]),
            "rename" => {
                fs::write("/scratch/new", [1; 30_000])?;
                fs::rename("/scratch/new", "/scratch/file")
            }
            "remove" => {
                fs::create_dir("/scratch/folder")?;
                fs::write("/scratch/folder/file", [1; 50_000])?;
                fs::remove_dir_all("/scratch/folder")
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    (0..times).try_for_each(|_| step()).map(|()| json!(times)).map_err(|error| error.to_string())
}

/// Makes links that lead out of `/scratch`, tries every way to reach `path` (relative to the root of the host) through
/// them and around them, and returns those that worked.
pub fn escape(path: &str) -> Outcome {
    let _ = fs::create_dir("/scratch/in");
    fs::write("/scratch/mine", "mine").map_err(|error| error.to_string())?;
    let links = [
        ("/", "absolute"),
        (path, "target"),
        ("..", "up"),
        ("../..", "in/up"),
        ("in/up", "chain"),
        ("chain/..", "chain2"),
        ("loop", "loop"),
        ("loop2", "loop1"),
        ("loop1", "loop2"),
        ("../scratch/../..", "around"),
        ("/proc/self/root", "proc"),
        ("/dev/fd/0", "fd"),
    ];
    let mut worked = Vec::new();
    for (target, name) in links {
        let _ = link_to(target, &format!("/scratch/{name}"));
    }
    let up = "../".repeat(40);
    let ways = [
        "..",
        "../..",
        "absolute",
        "up",
        "in/up",
        "chain",
        "chain2",
        "loop",
        "loop1",
        "around",
        "proc",
        ".",
        "in/../..",
        "in/../../..",
        "./in/./../../.",
        "mine/..",
        "none/..",
        "/",
        "//",
        "/scratch/..",
        "target",
        &up,
    ];
    for way in ways {
        for tail in ["", "/", "/.", path, &path[1..], "/etc/passwd", "/proc/self/environ"] {
            let out = format!("/scratch/{way}/{tail}");
            let mut tried = |what: &str, result: io::Result<()>| {
                if result.is_ok() {
                    worked.push(format!("{what} {out}"));
                }
            };
            if fs::read_to_string(&out).is_ok_and(|text| text != "mine") {
                tried("read", Ok(()));
            }
            if !tail.is_empty() && tail != "/" && tail != "/." {
                tried("write", fs::write(&out, "written"));
                tried("append", OpenOptions::new().append(true).open(&out).map(drop));
                tried("mkdir", fs::create_dir(&out));
                tried("link in", fs::hard_link(&out, "/scratch/linked"));
                tried("link out", fs::hard_link("/scratch/mine", &out));
                tried("rename out", fs::rename("/scratch/mine", &out));
                tried("rename in", fs::rename(&out, "/scratch/renamed"));
                tried("remove", fs::remove_file(&out));
                tried("rmdir", fs::remove_dir(&out));
            }
        }
    }
    worked.truncate(10);
    Ok(json!(worked))
}

/// Tries to change the read-only folder `/data` and its file `note.txt`, and returns what worked.
pub fn tamper() -> Outcome {
    fs::write("/scratch/mine", "mine").map_err(|error| error.to_string())?;
    let note = "/data/note.txt";
    let open = |options: &mut OpenOptions| options.open(note).map(drop);
    let tries: Vec<(&str, io::Result<()>)> = vec![
        ("write", open(OpenOptions::new().write(true))),
        ("append", open(OpenOptions::new().append(true))),
        ("truncate", open(OpenOptions::new().write(true).truncate(true))),
        ("create", open(OpenOptions::new().write(true).create(true))),
        ("set_len", File::open(note).and_then(|file| file.set_len(0))),
        ("write to a reader", File::open(note).and_then(|mut file| file.write_all(b"x"))),
        ("new", fs::write("/data/new", "new")),
        ("mkdir", fs::create_dir("/data/new")),
        ("remove", fs::remove_file(note)),
        ("rename within", fs::rename(note, "/data/other")),
        ("rename into scratch", fs::rename(note, "/scratch/note")),
        ("rename out of scratch", fs::rename("/scratch/mine", "/data/mine")),
        ("link into scratch", fs::hard_link(note, "/scratch/note")),
        ("link out of scratch", fs::hard_link("/scratch/mine", "/data/mine")),
        ("symlink", link_to("x", "/data/link")),
        ("times", File::open(note).and_then(|file| file.set_modified(std::time::SystemTime::now()))),
        (
            "through a link",
            link_to("../data/note.txt", "/scratch/link").and_then(|()| fs::read("/scratch/link").map(drop)),
        ),
    ];
    let worked: Vec<&str> = tries.into_iter().filter(|(_, tried)| tried.is_ok()).map(|(what, _)| what).collect();
    Ok(json!(worked))
}

/// Makes files of these names, and returns those that could be made, in short.
pub fn names(names: Vec<String>) -> Outcome {
    let made = |name: &String| fs::write(format!("/scratch/{name}"), "x").is_ok();
    Ok(json!(names.into_iter().filter(made).map(|name| name.chars().take(20).collect()).collect::<Vec<String>>()))
}

/// Makes folders within folders, `depth` deep, with a file in each, and returns how deep it came.
pub fn deep(depth: u32) -> Outcome {
    let made = || -> io::Result<u32> {
        let mut folder = OwnedFd::from(File::open("/scratch")?);
        for level in 0..depth {
            // Sound: the names end in a zero, and a handle that was opened is nobody else's.
            let next = unsafe {
                if done(mkdirat(folder.as_raw_fd(), c"folder".as_ptr(), 0o777)).is_err() {
                    return Ok(level);
                }
                OwnedFd::from_raw_fd(done(openat(folder.as_raw_fd(), c"folder".as_ptr(), OPEN_FOLDER))?)
            };
            folder = next;
        }
        Ok(depth)
    };
    made().map(|level| json!(level)).map_err(|error| error.to_string())
}

/// Fills the folder a little, and says what else was in it.
pub fn leave(mark: &str) -> Outcome {
    let leave = || -> io::Result<Value> {
        let found: Vec<_> = fs::read_dir("/scratch")?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        fs::create_dir_all("/scratch/a/b/c")?;
        for place in ["", "a/", "a/b/", "a/b/c/"] {
            fs::write(format!("/scratch/{place}{mark}"), mark)?;
        }
        link_to("a/b", "/scratch/link")?;
        Ok(json!(found.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>()))
    };
    leave().map_err(|error| error.to_string())
}
