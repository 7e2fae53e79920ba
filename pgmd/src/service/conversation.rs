//! One client's conversation: request, events, answer, next request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pgm_mgmt::frame::{HEADER_BYTES, Header};
use pgm_mgmt::{Error, ErrorCode, Event, Frame, MessageId, Request, Response};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tracing::debug;

use super::answer::{Answer, answer};
use super::caller::Caller;
use crate::supervisor::{Daemon, JobTicket};

/// A client must begin to speak within this time, and finish a message that it has begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client of the unix socket may be silent between two requests.
pub(super) const IDLE: Duration = Duration::from_mins(5);
/// How long a client may take to read what it is sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How often a job's progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How much is allocated ahead of the bytes that have arrived.
const READ_STEP_BYTES: usize = 64 << 10;

/// Why a conversation ended early.
#[derive(Debug)]
enum End {
    /// The client is gone, or too slow.
    Gone,
    /// The daemon stops.
    ShuttingDown,
    /// What it sent cannot be followed any further.
    Garbage(String),
}

/// Serves one client until it goes or misbehaves. The halves are a unix socket's or a TLS connection's.
pub(super) async fn converse(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    caller: &Caller,
    daemon: &Arc<Daemon>,
    idle: Duration,
) {
    let mut guest = daemon.guests().enter();
    let mut patience = PATIENCE;
    loop {
        let request = tokio::select! {
            biased;
            request = read_request(&mut reader, patience) => request,
            () = guest.dismissed() => Err(End::ShuttingDown),
        };
        let request = match request {
            Ok(request) => request,
            Err(End::Gone) => return,
            Err(End::ShuttingDown) => {
                let error = Error::new(ErrorCode::ShuttingDown, "pgmd is shutting down");
                let _ = send(&mut writer, MessageId::Error, &error).await;
                return;
            }
            Err(End::Garbage(text)) => {
                debug!("a management client was dropped: {text}");
                let _ = send(
                    &mut writer,
                    MessageId::Error,
                    &Error::new(ErrorCode::BadRequest, text),
                )
                .await;
                return;
            }
        };
        patience = idle;
        let outcome = match request {
            Ok(request) => match answer(daemon, caller, request).await {
                Ok(Answer::Now(response)) => Ok(*response),
                Ok(Answer::Job(ticket)) => {
                    match follow(daemon, ticket, &mut reader, &mut writer).await {
                        Ok(outcome) => outcome,
                        Err(_) => return,
                    }
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let stopping = matches!(outcome, Ok(Response::Stopping(_)));
        let sent = match outcome {
            Ok(response) => send(&mut writer, MessageId::Response, &response).await,
            Err(error) => send(&mut writer, MessageId::Error, &error).await,
        };
        if stopping {
            // Only now: the answer is with the client.
            daemon.ask_to_stop();
        }
        if sent.is_err() {
            return;
        }
    }
}

/// Tells the client of a job until it is done. The job goes on when the client goes.
async fn follow(
    daemon: &Daemon,
    mut ticket: JobTicket,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Result<Response, Error>, End> {
    let mut ticking = tokio::time::interval(PROGRESS_EVERY);
    let mut byte = [0; 1];
    loop {
        tokio::select! {
            biased;
            message = ticket.messages.recv(), if !ticket.messages.is_closed() || !ticket.messages.is_empty() => {
                if let Some((level, text)) = message {
                    send(writer, MessageId::Event, &Event::Message { level, text }).await?;
                }
            }
            outcome = &mut ticket.outcome => {
                let lost = || Error::new(ErrorCode::Internal, "the job ended without a report");
                return Ok(outcome.unwrap_or_else(|_| Err(lost())));
            }
            _ = ticking.tick() => {
                if let Some(progress) = daemon.jobs().progress_of(ticket.id) {
                    send(writer, MessageId::Event, &Event::Progress(progress)).await?;
                }
            }
            // It has gone, or speaks out of turn.
            _ = reader.read(&mut byte) => return Err(End::Gone),
        }
    }
}

/// The next request; the inner error is one that the client may hear and go on.
async fn read_request(
    reader: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<Result<Request, Error>, End> {
    let mut header = [0; HEADER_BYTES];
    within(patience, reader.read_exact(&mut header[..1])).await?;
    within(PATIENCE, reader.read_exact(&mut header[1..])).await?;
    let header = Header::parse(header).map_err(|error| End::Garbage(error.to_string()))?;
    if header.id != MessageId::Request {
        return Err(End::Garbage("only requests come from clients".to_owned()));
    }
    let payload = within(PATIENCE, read_payload(reader, header.length as usize)).await?;
    let frame = Frame {
        id: header.id,
        payload,
    };
    Ok(frame.message().map_err(|error| {
        let error = Error::new(ErrorCode::BadRequest, error.to_string());
        error.with_hint("client and daemon may be of different versions: pgm-cli ping tells")
    }))
}

/// Memory follows the bytes that arrive, not the length that is announced.
async fn read_payload(reader: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Vec<u8>> {
    let mut payload = Vec::new();
    while payload.len() < length {
        let from = payload.len();
        payload.resize(length.min(from + READ_STEP_BYTES), 0);
        reader.read_exact(&mut payload[from..]).await?;
    }
    Ok(payload)
}

async fn within<T>(time: Duration, read: impl Future<Output = io::Result<T>>) -> Result<T, End> {
    match tokio::time::timeout(time, read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

async fn send<T: Serialize>(
    writer: &mut (impl AsyncWrite + Unpin),
    id: MessageId,
    message: &T,
) -> Result<(), End> {
    let frame = match Frame::new(id, message) {
        Ok(frame) => frame,
        Err(error) => {
            let error = Error::new(
                ErrorCode::Internal,
                format!("the answer cannot be sent: {error}"),
            );
            Frame::new(MessageId::Error, &error).map_err(|_| End::Gone)?
        }
    };
    let bytes = frame.to_bytes();
    let written = async {
        writer.write_all(&bytes).await?;
        // TLS may hold back what the socket did not take at once.
        writer.flush().await
    };
    within(WRITE_PATIENCE, written).await
}
