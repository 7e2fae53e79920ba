//! All that is in one record, as lines.

use std::fmt::Write as _;

use pgm_wal::record::describe::{describe, resource_manager_name, write_operation};
use pgm_wal::record::{BLOCK_BYTES, Block, Image, Record};

/// Bytes of a line of a dump.
const DUMP_BYTES: usize = 16;
/// How much of a record is dumped.
const DUMPED_BYTES_MAX: usize = 64 << 10;

/// Puts `record` into lines: its header, its blocks, its bytes.
pub(super) fn lines(record: &Record<'_>, name: &dyn Fn(&Block<'_>) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    let mut operation = String::new();
    write_operation(record, &mut operation);
    lines.push(format!(
        "{} {operation}  xid {}{}{}",
        resource_manager_name(record.resource_manager),
        record.xid,
        option(" of ", record.top_level_xid),
        option("  origin ", record.origin),
    ));
    lines.push(format!(
        "from {} to {}, behind {}  {} bytes, of which images {}",
        record.lsn, record.end_lsn, record.previous, record.total_len, record.images_len
    ));
    let mut text = String::new();
    describe(record, &mut text);
    if !text.is_empty() {
        lines.push(text);
    }
    for block in record.blocks() {
        lines.push(block_line(&block, &name(&block)));
        if let Some(image) = block.image {
            lines.push(image_line(&image));
        }
    }
    lines.push(String::new());
    let bytes = record.bytes();
    dump(&bytes[..bytes.len().min(DUMPED_BYTES_MAX)], &mut lines);
    if bytes.len() > DUMPED_BYTES_MAX || bytes.len() < record.total_len as usize {
        lines.push("…".to_owned());
    }
    lines
}

fn option(label: &str, value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(String::new, |value| format!("{label}{value}"))
}

fn block_line(block: &Block<'_>, name: &str) -> String {
    format!(
        "block {}: {}{name} {} page {}{}, {} bytes of data",
        block.id,
        block.relation,
        block.fork.name(),
        block.number,
        if block.starts_empty {
            ", begins empty"
        } else {
            ""
        },
        block.data.len()
    )
}

/// What the image is, and what its page says of itself.
fn image_line(image: &Image<'_>) -> String {
    let mut line = format!("  image of {} bytes", image.bytes.len());
    // Writing to a string does not fail.
    if image.hole_len > 0 {
        let _ = write!(
            line,
            ", hole of {} at {}",
            image.hole_len, image.hole_offset
        );
    }
    if image.compression != pgm_wal::record::ImageCompression::None {
        let _ = write!(line, ", {}", image.compression.name());
    }
    if !image.applied {
        line.push_str(", only to compare with");
    }
    let mut page = [0; BLOCK_BYTES];
    if image.restore(&mut page).is_err() {
        line.push_str(", damaged");
        return line;
    }
    let u16_at = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    let _ = write!(
        line,
        "; page: lsn {}, flags 0x{:04X}, lower {}, upper {}, special {}",
        pgm_proto::Lsn::new(u64::from(u32_at(0)) << 32 | u64::from(u32_at(4))),
        u16_at(10),
        u16_at(12),
        u16_at(14),
        u16_at(16)
    );
    line
}

fn dump(bytes: &[u8], lines: &mut Vec<String>) {
    for (index, row) in bytes.chunks(DUMP_BYTES).enumerate() {
        let mut line = format!("{:05x} ", index * DUMP_BYTES);
        for at in 0..DUMP_BYTES {
            if at == DUMP_BYTES / 2 {
                line.push(' ');
            }
            match row.get(at) {
                Some(byte) => {
                    let _ = write!(line, " {byte:02x}");
                }
                None => line.push_str("   "),
            }
        }
        line.push_str("  ");
        line.extend(row.iter().map(|byte| match byte {
            0x20..0x7F => char::from(*byte),
            _ => '.',
        }));
        lines.push(line);
    }
}
