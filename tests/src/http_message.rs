//! As much of HTTP/1.1 as a proxy and a fake of a store need: whole messages, one at a time.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A request or an answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The first line: request or status.
    pub(crate) first: String,
    /// Names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or("")
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or("")
    }

    /// Path and query as they were sent.
    pub(crate) fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or("")
    }

    /// Reads the next request; `None` when there is none any more.
    pub(crate) fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let Some(mut message) = read_head(stream)? else {
            return Ok(None);
        };
        if message.header("expect").is_some() {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        message.read_body(stream, Length::Zero)?;
        Ok(Some(message))
    }

    /// Reads the answer to a request of `method`, up to the connection's end if it has no length.
    pub(crate) fn read_answer(stream: &mut BufReader<TcpStream>, method: &str) -> io::Result<Self> {
        loop {
            let Some(mut message) = read_head(stream)? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if message.first.contains(" 100 ") {
                continue;
            }
            if method != "HEAD" {
                message.read_body(stream, Length::ToTheEnd)?;
            }
            return Ok(message);
        }
    }

    fn read_body(&mut self, stream: &mut BufReader<TcpStream>, default: Length) -> io::Result<()> {
        if self
            .header("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
        {
            loop {
                let size = read_line(stream)?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
                    .map_err(io::Error::other)?;
                let mut chunk = vec![0; size];
                stream.read_exact(&mut chunk)?;
                self.body.append(&mut chunk);
                read_line(stream)?;
                if size == 0 {
                    return Ok(());
                }
            }
        }
        match (self.header("content-length"), default) {
            (Some(length), _) => {
                self.body = vec![0; length.parse().map_err(io::Error::other)?];
                stream.read_exact(&mut self.body)
            }
            (None, Length::ToTheEnd) => stream.read_to_end(&mut self.body).map(drop),
            (None, Length::Zero) => Ok(()),
        }
    }

    /// Writes the head with its own headers but for those about the connection and the body's form, then `more`.
    pub(crate) fn write_head(
        &self,
        stream: &mut impl Write,
        more: &[(&str, &str)],
    ) -> io::Result<()> {
        let mut head = format!("{}\r\n", self.first);
        let left_out = ["connection", "transfer-encoding", "expect", "keep-alive"];
        let own = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let own = own.filter(|(name, _)| !left_out.contains(name));
        for (name, value) in own.chain(more.iter().copied()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())
    }
}

/// What a body without a length is.
#[derive(Clone, Copy)]
enum Length {
    Zero,
    ToTheEnd,
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Message>> {
    let first = read_line(stream)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(Message {
        first,
        headers,
        body: Vec::new(),
    }))
}
