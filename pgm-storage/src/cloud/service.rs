//! Between the store's library and its HTTP client: every request passes here.
//!
//! Requests are counted, held back as the limits say, and the one that completes an object in parts is made conditional.
//! The answer's date is kept, because it is the store's clock.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, DATE, IF_NONE_MATCH};
use http::{HeaderValue, Method, StatusCode};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, CredentialProvider, Extensions};
use tokio::sync::Semaphore;

use super::Dialect;
use crate::limits::{Limits, Pacer};
use crate::meter::{Meter, Operation};

/// Makes the HTTP clients of one opened store.
#[derive(Debug, Clone)]
pub(super) struct Connector(Arc<Gate>);

/// What all clients of one store share.
#[derive(Debug)]
struct Gate {
    dialect: Dialect,
    meter: Arc<Meter>,
    requests: Option<Pacer>,
    at_once: Option<Semaphore>,
    azure: OnceLock<AzureSigner>,
}

/// What an Azure request is signed with.
#[derive(Debug)]
struct AzureSigner {
    account: String,
    credentials: Arc<dyn CredentialProvider<Credential = AzureCredential>>,
}

#[derive(Debug)]
struct Service {
    gate: Arc<Gate>,
    inner: HttpClient,
}

impl Connector {
    pub(super) fn new(dialect: Dialect, meter: Arc<Meter>, limits: &Limits) -> Self {
        let now = Instant::now();
        Self(Arc::new(Gate {
            dialect,
            meter,
            requests: limits.request_rate.map(|rate| Pacer::new(rate, now)),
            at_once: limits.requests_at_once.map(|n| Semaphore::new(n.max(1))),
            azure: OnceLock::new(),
        }))
    }

    /// How Azure's requests are signed, known only once the store is built.
    pub(super) fn sign_with(
        &self,
        account: &str,
        credentials: Arc<dyn CredentialProvider<Credential = AzureCredential>>,
    ) {
        // Set once per store: this is the only caller.
        let _ = self.0.azure.set(AzureSigner {
            account: account.to_owned(),
            credentials,
        });
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service {
            gate: Arc::clone(&self.0),
            inner: ReqwestConnector::default().connect(options)?,
        }))
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let gate = &*self.gate;
        // Never closed, so an error cannot be.
        let _permit = match &gate.at_once {
            Some(at_once) => at_once.acquire().await.ok(),
            None => None,
        };
        if let Some(requests) = &gate.requests {
            let wait = requests.take(1, Instant::now());
            tokio::time::sleep(wait).await;
        }
        if completes(gate.dialect, &request) {
            gate.make_conditional(&mut request).await?;
        }
        let operation = operation_of(&request);
        gate.meter
            .request(operation, request.body().content_length() as u64);
        let mut answer = match self.inner.execute(request).await {
            Ok(answer) => answer,
            Err(error) => {
                gate.meter.failed(operation);
                return Err(error);
            }
        };
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            gate.meter.failed(operation);
        }
        if operation != Operation::Head {
            gate.meter.received(operation, content_length(&answer));
        }
        if let Some(date) = answer.headers().get(DATE).and_then(parse_date) {
            answer.extensions_mut().insert(ServerDate(date));
        }
        Ok(answer)
    }
}

impl Gate {
    /// Has the request fail if the object is there. S3 signs no such header; Azure does.
    async fn make_conditional(&self, request: &mut HttpRequest) -> Result<(), HttpError> {
        request
            .headers_mut()
            .insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        let Some(signer) = self.azure.get() else {
            return Ok(());
        };
        let failed = |error| HttpError::new::<object_store::Error>(HttpErrorKind::Unknown, error);
        let credential = signer.credentials.get_credential().await.map_err(failed)?;
        if matches!(*credential, AzureCredential::AccessKey(_)) {
            request.headers_mut().remove(AUTHORIZATION);
            AzureAuthorizer::new(&credential, &signer.account)
                .try_authorize(request)
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// Whether the request makes an object of parts.
fn completes(dialect: Dialect, request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or("");
    match dialect {
        Dialect::S3 => request.method() == Method::POST && has(query, "uploadId"),
        Dialect::Azure => request.method() == Method::PUT && query.contains("comp=blocklist"),
        Dialect::Gcs => false,
    }
}

fn has(query: &str, name: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some(name))
}

/// What a request is for.
fn operation_of(request: &HttpRequest) -> Operation {
    let query = request.uri().query().unwrap_or("");
    let copies = [
        "x-goog-copy-source",
        "x-ms-copy-source",
        "x-amz-copy-source",
    ];
    match *request.method() {
        Method::HEAD => Operation::Head,
        Method::GET if has(query, "list-type") || query.contains("comp=list") => Operation::List,
        Method::GET => Operation::Get,
        Method::PUT
            if copies
                .iter()
                .any(|name| request.headers().contains_key(*name)) =>
        {
            Operation::Copy
        }
        Method::PUT if has(query, "partNumber") || has(query, "blockid") => Operation::PutPart,
        Method::PUT if query.contains("comp=blocklist") => Operation::Multipart,
        Method::PUT => Operation::Put,
        Method::POST if has(query, "uploads") || has(query, "uploadId") => Operation::Multipart,
        Method::DELETE if has(query, "uploadId") => Operation::Multipart,
        Method::DELETE => Operation::Delete,
        Method::POST if query.contains("comp=batch") => Operation::Delete,
        _ => Operation::Other,
    }
}

fn content_length(answer: &HttpResponse) -> u64 {
    answer
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// When the store answered, by its clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerDate(SystemTime);

impl ServerDate {
    /// The date of an answer; this host's clock if it had none.
    pub(super) fn of(extensions: &Extensions) -> SystemTime {
        extensions
            .get::<Self>()
            .map_or_else(SystemTime::now, |date| date.0)
    }
}

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that RFC 9110 has senders use.
fn parse_date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.strip_suffix(" GMT")?;
    let mut parts = text.split(' ').skip(1);
    let day: u64 = parts.next()?.parse().ok()?;
    let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let name = parts.next().filter(|name| name.len() == 3)?;
    let month = names.find(name).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (
        clock.next()?.ok()?,
        clock.next()?.ok()?,
        clock.next()?.ok()?,
    );
    if !(1970..=9999).contains(&year) || day == 0 || day > 31 || hour > 23 || minute > 59 {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, the year beginning in March.
    let (y, m) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let seconds = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second.min(60);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str) -> HttpRequest {
        http::Request::builder()
            .method(method)
            .uri(uri)
            .body(String::new().into())
            .unwrap()
    }

    #[test]
    fn dates_of_answers_are_understood() {
        let date = |text| parse_date(&HeaderValue::from_static(text));
        let unix = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), unix(784_111_777));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), unix(0));
        assert_eq!(date("Thu, 29 Feb 2024 23:59:59 GMT"), unix(1_709_251_199));
        for text in [
            "",
            "yesterday",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 6 GMT",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn requests_are_told_apart() {
        for (method, uri, operation) in [
            (
                Method::GET,
                "http://h/b?list-type=2&prefix=a",
                Operation::List,
            ),
            (Method::GET, "http://h/b/k", Operation::Get),
            (
                Method::PUT,
                "http://h/b/k?partNumber=1&uploadId=2",
                Operation::PutPart,
            ),
            (
                Method::PUT,
                "http://h/b/k?comp=block&blockid=x",
                Operation::PutPart,
            ),
            (
                Method::POST,
                "http://h/b/k?uploadId=2",
                Operation::Multipart,
            ),
            (
                Method::DELETE,
                "http://h/b/k?uploadId=2",
                Operation::Multipart,
            ),
            (Method::DELETE, "http://h/b/k", Operation::Delete),
            (Method::HEAD, "http://h/b/k", Operation::Head),
        ] {
            assert_eq!(operation_of(&request(method, uri)), operation, "{uri}");
        }
        assert!(completes(
            Dialect::S3,
            &request(Method::POST, "http://h/b/k?uploadId=2")
        ));
        assert!(!completes(
            Dialect::S3,
            &request(Method::POST, "http://h/b/k?uploads=")
        ));
        assert!(completes(
            Dialect::Azure,
            &request(Method::PUT, "http://h/k?comp=blocklist")
        ));
    }
}
