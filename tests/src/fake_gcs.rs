//! A minimal fake of Google Cloud Storage's XML API.
//!
//! No emulator that could be had speaks it, so this one does, written from Google's documentation: objects, ranges,
//! conditions on generations, uploads in parts, copies, listings in pages. It shows that the engine keeps its contract
//! against that reading of the documentation, not against Google.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::http_message::Message;
use crate::port::Port;

/// Objects in a page of a listing: few, so that there are pages.
const PAGE: usize = 7;

/// A fake store with the bucket `pgm`; it ends when it is dropped.
#[derive(Debug)]
pub struct FakeGcs {
    port: Port,
    closing: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    generation: u64,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Vec<u8>,
    generation: u64,
    modified: u64,
    meta: Vec<(String, String)>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    meta: Vec<(String, String)>,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// An answer: status, headers, body.
struct Answer(&'static str, Vec<(String, String)>, Vec<u8>);

impl FakeGcs {
    /// Starts it.
    pub fn start() -> Self {
        let port = Port::claim();
        let listener =
            TcpListener::bind(("127.0.0.1", port.number())).expect("a claimed port is free");
        let closing = Arc::new(AtomicBool::new(false));
        let (bucket, closed) = (
            Arc::new(Mutex::new(Bucket::default())),
            Arc::clone(&closing),
        );
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if closed.load(Ordering::Acquire) {
                    return;
                }
                let bucket = Arc::clone(&bucket);
                // A client that goes away is none of its business.
                thread::spawn(move || serve(&bucket, stream));
            }
        });
        Self { port, closing }
    }

    /// The address of a repository at this server, below `prefix`.
    pub fn address(&self, prefix: &str) -> String {
        let port = self.port.number();
        format!("gs://pgm/{prefix}?endpoint=http://127.0.0.1:{port}&allow_http=yes")
    }

    /// What lets a client in, as lines `NAME=value`: a key that asks for no token.
    pub fn credentials(&self) -> String {
        let key =
            r#"{"private_key":"x","private_key_id":"x","client_email":"x","disable_oauth":true}"#;
        format!("GOOGLE_SERVICE_ACCOUNT_KEY={key}\n")
    }
}

impl Drop for FakeGcs {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        let _ = TcpStream::connect(("127.0.0.1", self.port.number()));
    }
}

fn serve(bucket: &Mutex<Bucket>, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Message::read_request(&mut stream)? {
        let Answer(status, headers, body) = bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .answer(&request);
        let mut head = format!("HTTP/1.1 {status}\r\ndate: {}\r\n", date(now()));
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !head.contains("content-length") {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        stream.get_mut().write_all(head.as_bytes())?;
        if request.method() != "HEAD" {
            stream.get_mut().write_all(&body)?;
        }
    }
    Ok(())
}

impl Bucket {
    fn answer(&mut self, request: &Message) -> Answer {
        let (path, query) = request
            .target()
            .split_once('?')
            .unwrap_or((request.target(), ""));
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        let path = decode(path);
        let Some(key) = path.strip_prefix("/pgm") else {
            return error("404 Not Found", "NoSuchBucket");
        };
        let key = key.trim_start_matches('/').to_owned();
        match (request.method(), key.is_empty()) {
            ("GET", true) => self.list(&query),
            ("GET" | "HEAD", false) => self.get(request, &key),
            ("PUT", false) if query.contains_key("uploadId") => self.put_part(request, &query),
            ("PUT", false) if request.header("x-goog-copy-source").is_some() => {
                self.copy(request, &key)
            }
            ("PUT", false) => self.put(request, &key, request.body.clone(), meta_of(request)),
            ("POST", false) if query.contains_key("uploads") => self.begin(request, &key),
            ("POST", false) if query.contains_key("uploadId") => self.complete(&query),
            ("DELETE", false) if query.contains_key("uploadId") => {
                match self.uploads.remove(&query["uploadId"]) {
                    Some(_) => Answer("204 No Content", vec![], vec![]),
                    None => error("404 Not Found", "NoSuchUpload"),
                }
            }
            ("DELETE", false) => match self.objects.remove(&key) {
                Some(_) => Answer("204 No Content", vec![], vec![]),
                None => error("404 Not Found", "NoSuchKey"),
            },
            _ => error("400 Bad Request", "InvalidURI"),
        }
    }

    fn put(
        &mut self,
        request: &Message,
        key: &str,
        bytes: Vec<u8>,
        meta: Vec<(String, String)>,
    ) -> Answer {
        let found = self.objects.get(key).map_or(0, |object| object.generation);
        let wanted = request.header("x-goog-if-generation-match");
        if wanted.is_some_and(|wanted| wanted != found.to_string()) {
            return error("412 Precondition Failed", "PreconditionFailed");
        }
        self.generation += 1;
        let object = Object {
            bytes,
            generation: self.generation,
            modified: now(),
            meta,
        };
        let headers = object.headers();
        self.objects.insert(key.to_owned(), object);
        Answer("200 OK", headers, vec![])
    }

    fn copy(&mut self, request: &Message, key: &str) -> Answer {
        let source = decode(request.header("x-goog-copy-source").unwrap_or(""));
        let source = source.trim_start_matches('/').strip_prefix("pgm/");
        let Some(object) = source.and_then(|source| self.objects.get(source)).cloned() else {
            return error("404 Not Found", "NoSuchKey");
        };
        self.put(request, key, object.bytes, object.meta)
    }

    fn begin(&mut self, request: &Message, key: &str) -> Answer {
        self.generation += 1;
        let id = format!("upload-{}", self.generation);
        let upload = Upload {
            key: key.to_owned(),
            meta: meta_of(request),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        xml(&format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    fn put_part(&mut self, request: &Message, query: &BTreeMap<String, String>) -> Answer {
        let number = query
            .get("partNumber")
            .and_then(|number| number.parse().ok());
        let upload = self.uploads.get_mut(&query["uploadId"]);
        let (Some(number), Some(upload)) = (number, upload) else {
            return error("404 Not Found", "NoSuchUpload");
        };
        upload.parts.insert(number, request.body.clone());
        let etag = ("etag".to_owned(), format!("\"part-{number}\""));
        Answer("200 OK", vec![etag], vec![])
    }

    fn complete(&mut self, query: &BTreeMap<String, String>) -> Answer {
        let Some(upload) = self.uploads.remove(&query["uploadId"]) else {
            return error("404 Not Found", "NoSuchUpload");
        };
        let bytes = upload.parts.into_values().flatten().collect();
        self.generation += 1;
        let object = Object {
            bytes,
            generation: self.generation,
            modified: now(),
            meta: upload.meta,
        };
        let mut headers = object.headers();
        headers.retain(|(name, _)| name != "content-length");
        self.objects.insert(upload.key, object);
        let body = format!(
            "<CompleteMultipartUploadResult><ETag>\"{}\"</ETag></CompleteMultipartUploadResult>",
            self.generation
        );
        Answer("200 OK", headers, body.into_bytes())
    }

    fn get(&self, request: &Message, key: &str) -> Answer {
        let Some(object) = self.objects.get(key) else {
            return error("404 Not Found", "NoSuchKey");
        };
        let etag = format!("\"{}\"", object.generation);
        if request
            .header("if-match")
            .is_some_and(|wanted| wanted != etag)
        {
            return error("412 Precondition Failed", "PreconditionFailed");
        }
        let mut headers = object.headers();
        let size = object.bytes.len();
        let Some(range) = request
            .header("range")
            .and_then(|r| r.strip_prefix("bytes="))
        else {
            headers.push(("content-length".to_owned(), size.to_string()));
            return Answer("200 OK", headers, object.bytes.clone());
        };
        let (from, to) = range.split_once('-').unwrap_or(("", ""));
        let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => (from, (to + 1).min(size)),
            (Ok(from), Err(_)) => (from, size),
            (Err(_), Ok(last)) => (size.saturating_sub(last), size),
            _ => (size, size),
        };
        if from >= to {
            return error("416 Requested Range Not Satisfiable", "InvalidRange");
        }
        let content_range = format!("bytes {from}-{}/{size}", to - 1);
        headers.push(("content-range".to_owned(), content_range));
        Answer(
            "206 Partial Content",
            headers,
            object.bytes[from..to].to_vec(),
        )
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let text = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (prefix, delimiter) = (text("prefix"), text("delimiter"));
        let after = query.get("continuation-token").or(query.get("start-after"));
        let mut body = String::from("<ListBucketResult>");
        let (mut last, mut count, mut more) = (String::new(), 0, false);
        for (key, object) in &self.objects {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            let folder = rest
                .split_once('/')
                .map(|(folder, _)| format!("{prefix}{folder}/"));
            let name = match folder {
                Some(folder) if !delimiter.is_empty() => folder,
                _ => key.clone(),
            };
            if after.is_some_and(|after| name <= *after) || name == last {
                continue;
            }
            if count == PAGE {
                more = true;
                break;
            }
            if name == *key {
                let _ = write!(
                    body,
                    "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>{}</LastModified><ETag>\"{}\"</ETag></Contents>",
                    object.bytes.len(),
                    timestamp(object.modified),
                    object.generation
                );
            } else {
                let _ = write!(
                    body,
                    "<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
                );
            }
            count += 1;
            last = name;
        }
        if more {
            let _ = write!(
                body,
                "<NextContinuationToken>{last}</NextContinuationToken>"
            );
        }
        body.push_str("</ListBucketResult>");
        xml(&body)
    }
}

impl Object {
    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("etag".to_owned(), format!("\"{}\"", self.generation)),
            ("x-goog-generation".to_owned(), self.generation.to_string()),
            ("last-modified".to_owned(), date(self.modified)),
        ];
        headers.extend(self.meta.iter().cloned());
        headers
    }
}

fn meta_of(request: &Message) -> Vec<(String, String)> {
    let meta = request.headers.iter();
    meta.filter(|(name, _)| name.starts_with("x-goog-meta-"))
        .cloned()
        .collect()
}

fn xml(body: &str) -> Answer {
    let kind = ("content-type".to_owned(), "application/xml".to_owned());
    Answer("200 OK", vec![kind], body.as_bytes().to_vec())
}

fn error(status: &'static str, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code></Error>");
    Answer(status, vec![], body.into_bytes())
}

/// Undoes percent encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock after 1970").as_secs()
}

/// Year, month (from 0), day, and the seconds of the day.
fn calendar(seconds: u64) -> (u64, usize, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut days, mut year) = (seconds / 86_400, 1970);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month, days + 1, seconds % 86_400)
}

fn date(seconds: u64) -> String {
    let (year, month, day, rest) = calendar(seconds);
    let week = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(seconds / 86_400 % 7) as usize];
    let name = &"JanFebMarAprMayJunJulAugSepOctNovDec"[month * 3..month * 3 + 3];
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{week}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

fn timestamp(seconds: u64) -> String {
    let (year, month, day, rest) = calendar(seconds);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z",
        month + 1
    )
}
