//! From an address and credentials to an opened bucket. Nothing is sent yet, so a wrong key shows with the first request.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3Key, Checksum, S3ConditionalPut};
use object_store::azure::{AzureConfigKey as AzureKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as GcsKey};
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};

use super::service::Connector;
use super::{Bucket, Dialect};
use crate::address::{StoreAddress, StoreKind};
use crate::error::{Result, StorageError};
use crate::open::StoreOptions;
use crate::remote_problem::{RemoteMessage, RemoteProblem};
use crate::runtime::Runtime;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_mins(1);
const RETRY_TIMEOUT: Duration = Duration::from_mins(3);
const RETRIES_MAX: usize = 12;

/// Everything that a builder needs.
struct Wanted<'a> {
    address: &'a StoreAddress,
    options: &'a StoreOptions,
    client: ClientOptions,
    retry: RetryConfig,
    connector: Connector,
}

pub(super) fn connect(
    address: &StoreAddress,
    options: &StoreOptions,
    runtime: Runtime,
) -> Result<Bucket> {
    let dialect = match address.kind() {
        StoreKind::Azure => Dialect::Azure,
        StoreKind::Gcs => Dialect::Gcs,
        _ => Dialect::S3,
    };
    let timeout = seconds(address, "timeout", TIMEOUT)?;
    let retry_timeout = seconds(address, "retry_timeout", RETRY_TIMEOUT)?;
    let wanted = Wanted {
        address,
        options,
        client: client_options(address, timeout)?,
        retry: RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: super::PAUSE_MAX,
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout,
        },
        connector: Connector::new(dialect, Arc::clone(&options.meter), &options.limits),
    };
    let built = match dialect {
        Dialect::S3 => wanted.s3()?,
        Dialect::Azure => wanted.azure(),
        Dialect::Gcs => wanted.gcs(),
    };
    let objects =
        built.map_err(|error| settings(address, &RemoteMessage::of(&error).to_string()))?;
    let text = address.to_string();
    Ok(Bucket {
        runtime,
        objects,
        dialect,
        prefix: address.path().to_owned(),
        place: text.split('?').next().unwrap_or_default().to_owned(),
        storage_class: address.parameter("storage_class").map(str::to_owned),
        retry_timeout,
    })
}

fn settings(address: &StoreAddress, text: &str) -> StorageError {
    StorageError::Remote {
        operation: "open",
        path: address.to_string(),
        problem: RemoteProblem::Settings,
        source: RemoteMessage::new(text),
    }
}

fn seconds(address: &StoreAddress, name: &str, default: Duration) -> Result<Duration> {
    let Some(text) = address.parameter(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err(settings(
            address,
            &format!("{name}={text} is not a number of seconds from 1 to 86400"),
        )),
    }
}

fn is_yes(address: &StoreAddress, name: &str, default: &str) -> Result<bool> {
    match address.parameter(name).unwrap_or(default) {
        "yes" => Ok(true),
        "no" => Ok(false),
        text => Err(settings(
            address,
            &format!("{name}={text} is neither yes nor no"),
        )),
    }
}

fn client_options(address: &StoreAddress, timeout: Duration) -> Result<ClientOptions> {
    let allow_http = is_yes(address, "allow_http", "no")?;
    if let Some(endpoint) = address.parameter("endpoint")
        && !endpoint.starts_with("https://")
        && !(allow_http && endpoint.starts_with("http://"))
    {
        return Err(settings(
            address,
            "the endpoint is not https://…; http:// (which anybody on the way can read and change) needs allow_http=yes",
        ));
    }
    let mut client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(timeout)
        .with_user_agent(http::HeaderValue::from_static(concat!(
            "pgm/",
            env!("CARGO_PKG_VERSION")
        )));
    if let Some(file) = address.parameter("ca_file") {
        let pem = std::fs::read(file).map_err(|e| StorageError::from_io("read", file, e))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| settings(address, &format!("{file}: {error}")))?;
        if certificates.is_empty() {
            return Err(settings(
                address,
                &format!("{file} has no certificate in it"),
            ));
        }
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// The store, or why it could not be built.
type Built = object_store::Result<Arc<dyn ObjectStore>>;

impl Wanted<'_> {
    fn credential(&self, name: &str) -> Option<&str> {
        self.options.credentials.get(name)
    }

    fn s3(self) -> Result<Built> {
        let address = self.address;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(address.host())
            .with_region(address.parameter("region").unwrap_or("us-east-1"))
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_client_options(self.client.clone())
            .with_retry(self.retry.clone())
            .with_http_connector(self.connector.clone());
        let endpoint = address.parameter("endpoint");
        let path_style = is_yes(
            address,
            "path_style",
            if endpoint.is_some() { "yes" } else { "no" },
        )?;
        builder = builder.with_virtual_hosted_style_request(!path_style);
        if let Some(endpoint) = endpoint {
            let endpoint = endpoint.trim_end_matches('/');
            builder = builder.with_endpoint(match endpoint.split_once("://") {
                Some((scheme, host)) if !path_style => {
                    format!("{scheme}://{}.{host}", address.host())
                }
                _ => endpoint.to_owned(),
            });
        }
        for (name, key) in [
            ("AWS_ACCESS_KEY_ID", S3Key::AccessKeyId),
            ("AWS_SECRET_ACCESS_KEY", S3Key::SecretAccessKey),
            ("AWS_SESSION_TOKEN", S3Key::Token),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", S3Key::WebIdentityTokenFile),
            ("AWS_ROLE_ARN", S3Key::RoleArn),
            ("AWS_ROLE_SESSION_NAME", S3Key::RoleSessionName),
            (
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                S3Key::ContainerCredentialsRelativeUri,
            ),
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                S3Key::ContainerCredentialsFullUri,
            ),
            (
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                S3Key::ContainerAuthorizationTokenFile,
            ),
        ] {
            if let Some(value) = self.credential(name) {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(checksum) = address.parameter("checksum") {
            if checksum != "sha256" {
                return Err(settings(
                    address,
                    &format!("checksum={checksum} is not sha256"),
                ));
            }
            builder = builder.with_checksum_algorithm(Checksum::SHA256);
        }
        let kms_key = address.parameter("sse_kms_key_id").unwrap_or_default();
        builder = match address.parameter("sse") {
            None => builder,
            Some("AES256") => builder.with_config(sse_key(address)?, "AES256"),
            Some("aws:kms") => builder.with_sse_kms_encryption(kms_key),
            Some("aws:kms:dsse") => builder.with_dsse_kms_encryption(kms_key),
            Some("customer") => match self.credential("AWS_SSE_CUSTOMER_KEY") {
                Some(key) => builder.with_ssec_encryption(key),
                None => return Err(settings(address, "sse=customer needs AWS_SSE_CUSTOMER_KEY")),
            },
            Some(other) => {
                let text =
                    format!("sse={other} is none of AES256, aws:kms, aws:kms:dsse, customer");
                return Err(settings(address, &text));
            }
        };
        Ok(builder.build().map(|store| Arc::new(store) as _))
    }

    fn azure(self) -> Built {
        let address = self.address;
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(address.account())
            .with_container_name(address.host())
            .with_client_options(self.client.clone())
            .with_retry(self.retry.clone())
            .with_http_connector(self.connector.clone());
        if let Some(endpoint) = address.parameter("endpoint") {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        for (name, key) in [
            ("AZURE_STORAGE_ACCOUNT_KEY", AzureKey::AccessKey),
            ("AZURE_STORAGE_SAS_TOKEN", AzureKey::SasKey),
            ("AZURE_CLIENT_ID", AzureKey::ClientId),
            ("AZURE_CLIENT_SECRET", AzureKey::ClientSecret),
            ("AZURE_TENANT_ID", AzureKey::AuthorityId),
            ("AZURE_FEDERATED_TOKEN_FILE", AzureKey::FederatedTokenFile),
        ] {
            if let Some(value) = self.credential(name) {
                builder = builder.with_config(key, value);
            }
        }
        builder.build().map(|store| {
            self.connector
                .sign_with(address.account(), Arc::clone(store.credentials()));
            Arc::new(store) as _
        })
    }

    fn gcs(self) -> Built {
        let address = self.address;
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(address.host())
            .with_client_options(self.client.clone())
            .with_retry(self.retry.clone())
            .with_http_connector(self.connector.clone());
        if let Some(endpoint) = address.parameter("endpoint") {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        for (name, key) in [
            (
                "GOOGLE_APPLICATION_CREDENTIALS",
                GcsKey::ApplicationCredentials,
            ),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", GcsKey::ServiceAccountKey),
        ] {
            if let Some(value) = self.credential(name) {
                builder = builder.with_config(key, value);
            }
        }
        builder.build().map(|store| Arc::new(store) as _)
    }
}

/// The library's key for who encrypts, which has no method of its own.
fn sse_key(address: &StoreAddress) -> Result<S3Key> {
    "aws_server_side_encryption"
        .parse()
        .map_err(|error| settings(address, &format!("{error}")))
}
