//! Writing tar: ustar headers, with pax headers (POSIX.1-2001) before them for what does not fit: long names and links, and files of
//! 8 GiB and more.
//!
//! ```text
//! [x header | records "LENGTH key=value\n"]   header of 512 bytes | content, padded to 512   …   two blocks of zeros
//! ```
//!
//! Names are bytes and are written as they are. Owners are numbers only.

use std::io::{self, Write};

const BLOCK: usize = 512;
/// What fits a header's octal field of 11 digits.
const OCTAL_MAX: u64 = 0o777_7777_7777;
const NAME_MAX: usize = 100;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A file of this many bytes, which follow.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to this place.
    Symlink(&'a [u8]),
}

/// What all entries have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) mtime: u64,
}

/// Writes entries one after the other.
pub(super) struct TarWriter<W> {
    out: W,
    uid: u32,
    gid: u32,
    /// Bytes of the open file that are still to come, and the padding behind them.
    open: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive whose entries belong to this user and group.
    pub(super) fn new(out: W, uid: u32, gid: u32) -> Self {
        Self {
            out,
            uid,
            gid,
            open: 0,
            padding: 0,
        }
    }

    /// Begins an entry. The content of a file must follow.
    pub(super) fn entry(
        &mut self,
        name: &[u8],
        kind: Kind<'_>,
        attributes: Attributes,
    ) -> io::Result<()> {
        let mut name = name.to_vec();
        let (flag, size, link): (u8, u64, &[u8]) = match kind {
            Kind::File(size) => (b'0', size, b""),
            Kind::Directory => {
                name.push(b'/');
                (b'5', 0, b"")
            }
            Kind::Symlink(to) => (b'2', 0, to),
        };
        let mut records = Vec::new();
        if name.len() > NAME_MAX {
            record(&mut records, "path", &name);
        }
        if link.len() > NAME_MAX {
            record(&mut records, "linkpath", link);
        }
        if size > OCTAL_MAX {
            record(&mut records, "size", size.to_string().as_bytes());
        }
        if !records.is_empty() {
            let header = self.header(b"pax", b'x', records.len() as u64, b"", attributes);
            self.out.write_all(&header)?;
            self.out.write_all(&records)?;
            self.out
                .write_all(&[0; BLOCK][..padding(records.len() as u64)])?;
        }
        let header = self.header(&name, flag, size, link, attributes);
        self.out.write_all(&header)?;
        (self.open, self.padding) = (size, padding(size));
        Ok(())
    }

    /// Writes a piece of the open file.
    pub(super) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.open = self
            .open
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("a file has more bytes than its header says"))?;
        self.out.write_all(bytes)?;
        if self.open == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.out.write_all(&[0; BLOCK][..padding])?;
        }
        Ok(())
    }

    /// Writes a whole small file.
    pub(super) fn file(
        &mut self,
        name: &[u8],
        content: &[u8],
        attributes: Attributes,
    ) -> io::Result<()> {
        self.entry(name, Kind::File(content.len() as u64), attributes)?;
        self.content(content)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.open > 0 {
            return Err(io::Error::other(
                "a file has fewer bytes than its header says",
            ));
        }
        self.out.write_all(&[0; 2 * BLOCK])
    }

    fn header(
        &self,
        name: &[u8],
        flag: u8,
        size: u64,
        link: &[u8],
        attributes: Attributes,
    ) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        // What does not fit stands before in full; the beginning is for readers that do not know pax.
        let name = &name[..name.len().min(NAME_MAX)];
        header[..name.len()].copy_from_slice(name);
        octal(&mut header[100..108], u64::from(attributes.mode & 0o7777));
        octal(&mut header[108..116], u64::from(self.uid).min(0o777_7777));
        octal(&mut header[116..124], u64::from(self.gid).min(0o777_7777));
        octal(&mut header[124..136], size.min(OCTAL_MAX));
        octal(&mut header[136..148], attributes.mtime.min(OCTAL_MAX));
        header[148..156].copy_from_slice(b"        ");
        header[156] = flag;
        let link = &link[..link.len().min(NAME_MAX)];
        header[157..157 + link.len()].copy_from_slice(link);
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut header[148..155], sum);
        header
    }
}

/// Octal digits that fill the field but for a zero byte at its end.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

fn padding(bytes: u64) -> usize {
    (BLOCK - (bytes % BLOCK as u64) as usize) % BLOCK
}

/// A pax record; its length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let mut length = rest + 1;
    while length.to_string().len() + rest > length {
        length += 1;
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// The content of the open file.
impl<W: Write> Write for TarWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    const ATTRIBUTES: Attributes = Attributes {
        mode: 0o640,
        mtime: 1_763_778_896,
    };

    #[test]
    fn tar_extracts_long_names_links_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(130));
        let target = "t".repeat(150);
        let mut bytes = Vec::new();
        let mut tar = TarWriter::new(&mut bytes, 0, 0);
        let directory = Attributes {
            mode: 0o750,
            ..ATTRIBUTES
        };
        tar.entry(b"a", Kind::Directory, directory).unwrap();
        tar.file(b"a/empty", b"", ATTRIBUTES).unwrap();
        tar.file(b"a/full", &[7; 512], ATTRIBUTES).unwrap();
        tar.file(long.as_bytes(), b"long", ATTRIBUTES).unwrap();
        tar.entry(b"link", Kind::Symlink(target.as_bytes()), ATTRIBUTES)
            .unwrap();
        tar.finish().unwrap();
        let path = folder.path().join("x.tar");
        fs::write(&path, bytes).unwrap();
        let status = Command::new("tar")
            .arg("-xf")
            .arg(&path)
            .arg("-C")
            .arg(folder.path())
            .status();
        assert!(status.unwrap().success());
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert_eq!((read("a/empty"), read("a/full")), (vec![], vec![7; 512]));
        assert_eq!(read(&long), b"long");
        assert_eq!(
            fs::read_link(folder.path().join("link")).unwrap().to_str(),
            Some(&*target)
        );
        let mode = fs::metadata(folder.path().join("a/full"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777 & !0o640, 0);
    }

    #[test]
    fn pax_records_count_their_own_length() {
        for length in [1, 84, 85, 86, 984, 985, 986, 987, 5000] {
            let mut records = Vec::new();
            record(&mut records, "path", &vec![b'x'; length]);
            let text = String::from_utf8(records).unwrap();
            let (said, _) = text.split_once(' ').unwrap();
            assert_eq!(said.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn a_file_of_the_wrong_length_is_no_archive() {
        let mut tar = TarWriter::new(Vec::new(), 0, 0);
        tar.entry(b"a", Kind::File(10), ATTRIBUTES).unwrap();
        assert!(tar.content(&[0; 11]).is_err());
        tar.content(&[0; 3]).unwrap();
        assert!(tar.finish().is_err());
        // Sizes that do not fit octal digits stand before.
        let mut bytes = Vec::new();
        let mut tar = TarWriter::new(&mut bytes, 0, 0);
        tar.entry(b"a", Kind::File(9 << 30), ATTRIBUTES).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("size=9663676416\n"));
    }
}
