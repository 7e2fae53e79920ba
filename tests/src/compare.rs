//! Directory trees, compared byte for byte.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One thing in which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path below both trees.
    pub path: PathBuf,
    /// In what they differ.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File { bytes: u64, mode: u32 },
    Link(PathBuf),
    Other,
}

/// In what the trees below `left` and `right` differ: names, kinds, sizes, modes of files, link targets, contents.
///
/// `excluded` says of a path below the trees whether it, and what lies below it, does not matter.
pub fn differences(left: &Path, right: &Path, excluded: impl Fn(&Path) -> bool) -> Vec<Difference> {
    let (mut lefts, mut rights) = (BTreeMap::new(), BTreeMap::new());
    collect(left, Path::new(""), &excluded, &mut lefts);
    collect(right, Path::new(""), &excluded, &mut rights);
    let mut found = Vec::new();
    for (path, kind) in &lefts {
        let what = match rights.get(path) {
            None => "only on the left".to_owned(),
            Some(other) if other != kind => format!("{kind:?} against {other:?}"),
            Some(Kind::File { .. }) => {
                match first_difference(&left.join(path), &right.join(path)) {
                    Some(offset) => format!("contents differ at offset {offset}"),
                    None => continue,
                }
            }
            Some(_) => continue,
        };
        found.push(Difference {
            path: path.clone(),
            what,
        });
    }
    for path in rights.keys().filter(|path| !lefts.contains_key(*path)) {
        found.push(Difference {
            path: path.clone(),
            what: "only on the right".to_owned(),
        });
    }
    found
}

fn collect(
    root: &Path,
    below: &Path,
    excluded: &impl Fn(&Path) -> bool,
    out: &mut BTreeMap<PathBuf, Kind>,
) {
    let folder = root.join(below);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder can be listed");
        let path = below.join(entry.file_name());
        if excluded(&path) {
            continue;
        }
        let meta = entry
            .path()
            .symlink_metadata()
            .expect("an entry can be examined");
        let kind = if meta.is_dir() {
            collect(root, &path, excluded, out);
            Kind::Folder
        } else if meta.is_file() {
            Kind::File {
                bytes: meta.len(),
                mode: meta.permissions().mode() & 0o777,
            }
        } else if meta.is_symlink() {
            Kind::Link(fs::read_link(entry.path()).expect("a link can be read"))
        } else {
            Kind::Other
        };
        out.insert(path, kind);
    }
}

/// The first offset at which two files of the same size differ.
fn first_difference(left: &Path, right: &Path) -> Option<u64> {
    let open = |path: &Path| {
        fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (mut left, mut right) = (open(left), open(right));
    let (mut lefts, mut rights) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let bytes = left.read(&mut lefts).expect("a file can be read");
        if bytes == 0 {
            return None;
        }
        right
            .read_exact(&mut rights[..bytes])
            .expect("a file of the same size can be read");
        if lefts[..bytes] != rights[..bytes] {
            let within = lefts[..bytes].iter().zip(&rights).position(|(a, b)| a != b);
            return within.map(|within| offset + within as u64);
        }
        offset += bytes as u64;
    }
}
