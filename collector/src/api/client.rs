//! The operator's tool's end of the socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use crate::config::Config;

/// How long an answer may take. The largest list takes a second.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Where the running collector is found.
#[derive(Debug, clap::Args)]
pub(crate) struct Address {
    /// Socket of the running collector
    #[arg(long, value_name = "PATH", conflicts_with_all = ["config", "url"])]
    socket: Option<PathBuf>,
    /// Configuration that names the socket
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// A collector elsewhere: https://name:8443, with --token-file
    #[arg(long, value_name = "URL", requires = "token_file")]
    url: Option<String>,
    /// File with the token that an admin made for you
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// The only authorities trusted for it, in PEM. Without it: those of the system
    #[arg(long, value_name = "FILE", requires = "url")]
    ca_file: Option<PathBuf>,
}

/// The way to a collector: a client, and what its paths begin with.
struct Way {
    client: Client,
    base: String,
    /// The token, for a collector elsewhere.
    token: Option<String>,
    /// What to say if nobody answers.
    nobody: String,
}

impl Address {
    /// The words that name this address on a command line.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        let mut word = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                words.push_str(&format!(" {flag} {value}"));
            }
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        word("--socket", path(&self.socket));
        word("--config", path(&self.config));
        word("--url", self.url.clone());
        word("--token-file", path(&self.token_file));
        word("--ca-file", path(&self.ca_file));
        words
    }

    /// The configuration that was named.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn way(&self) -> anyhow::Result<Way> {
        let builder = Client::builder().timeout(ANSWER_MAX).no_proxy();
        if let Some(url) = &self.url {
            return self.way_to(url, builder);
        }
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(config)) => Config::load(config)?.socket,
            (None, None) => Config::default().socket,
        };
        Ok(Way {
            client: builder
                // Nothing is proven over a socket of this host, so it works without the system's
                // authorities.
                .tls_certs_only([])
                .unix_socket(socket.as_path())
                .build()
                .context("prepare the request")?,
            // The host's name is of no account: the socket says who answers.
            base: "http://collector".to_owned(),
            token: None,
            nobody: format!(
                "no collector answers on {}: is `picket-collector serve` running, and may you open its socket?",
                socket.display()
            ),
        })
    }

    fn way_to(&self, url: &str, mut builder: ClientBuilder) -> anyhow::Result<Way> {
        let base = Url::parse(url).with_context(|| format!("read --url {url}"))?;
        if base.scheme() != "https" {
            bail!("--url {url} is not https, and a token is not shown to whoever listens");
        }
        let is_bare = base.query().is_none() && base.fragment().is_none();
        if !is_bare || !base.username().is_empty() || base.password().is_some() {
            bail!("--url {url} is more than a host, a port and a path");
        }
        let file = self.token_file.as_ref().context("--token-file is needed")?;
        let context = || format!("read the token {}", file.display());
        let token = std::fs::read_to_string(file).with_context(context)?;
        if let Some(file) = &self.ca_file {
            let context = || format!("read the authorities {}", file.display());
            let pem = std::fs::read(file).with_context(context)?;
            let authorities = Certificate::from_pem_bundle(&pem).with_context(context)?;
            builder = builder.tls_certs_only(authorities);
        }
        Ok(Way {
            client: builder
                .https_only(true)
                .redirect(redirect::Policy::none())
                .build()
                .context("prepare the request")?,
            base: base.as_str().trim_end_matches('/').to_owned(),
            token: Some(token.trim().to_owned()),
            nobody: format!(
                "no collector answers on {url}, or not the one that --ca-file vouches for"
            ),
        })
    }

    /// Asks for the lines at `path`; `None` if there is no such thing.
    pub(crate) fn lines(
        &self,
        path: &str,
        query: &impl serde::Serialize,
    ) -> anyhow::Result<Option<Vec<String>>> {
        let text = self.ask(|client, url| client.get(url(path)).query(query))?;
        Ok(text.map(|text| text.lines().map(str::to_owned).collect()))
    }

    /// Asks for the one thing at `path`; `None` if there is no such thing.
    pub(crate) fn one(&self, path: &str) -> anyhow::Result<Option<String>> {
        self.ask(|client, url| client.get(url(path)))
    }

    /// Has something done; says whether there was something to do it to.
    pub(crate) fn post(&self, path: &str) -> anyhow::Result<bool> {
        let answer = self.ask(|client, url| client.post(url(path)))?;
        Ok(answer.is_some())
    }

    /// Has something made as `what` says; returns what the collector says of it.
    pub(crate) fn make(&self, path: &str, what: &impl serde::Serialize) -> anyhow::Result<String> {
        let answer = self.ask(|client, url| client.post(url(path)).json(what))?;
        answer.context("the collector knows of no such thing")
    }

    /// Sends something to `path`, and gives the answer.
    pub(crate) fn send(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<Option<String>> {
        self.ask(|client, url| client.post(url(path)).json(body))
    }

    /// Has something taken away; `None` if there is no such thing.
    pub(crate) fn delete(
        &self,
        path: &str,
        query: &impl serde::Serialize,
    ) -> anyhow::Result<Option<String>> {
        self.ask(|client, url| client.delete(url(path)).query(query))
    }

    fn ask(
        &self,
        request: impl FnOnce(&Client, &dyn Fn(&str) -> String) -> RequestBuilder,
    ) -> anyhow::Result<Option<String>> {
        let way = self.way()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        let mut request = request(&way.client, &|path| format!("{}{path}", way.base));
        if let Some(token) = &way.token {
            request = request.bearer_auth(token);
        }
        runtime.block_on(answer(request, &way.nobody))
    }
}

async fn answer(request: RequestBuilder, nobody: &str) -> anyhow::Result<Option<String>> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() => bail!("{nobody}"),
        Err(error) => return Err(error).context("ask the collector"),
    };
    match response.status() {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => {
            let text = response.text().await.context("read the answer")?;
            Ok(Some(text))
        }
        status => {
            let why = response.text().await.unwrap_or_default();
            bail!("the collector answered {status}: {why}")
        }
    }
}

/// Reads one line of an answer.
pub(crate) fn parse<T: DeserializeOwned>(line: &str) -> anyhow::Result<T> {
    serde_json::from_str(line).context("read the collector's answer")
}
