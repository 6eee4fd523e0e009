//! Addresses on the web: `url('https://example.com:80/a?b=c').getPort() == '80'`.
//!
//! Taken apart as Go does it, and therefore not by a library: those follow the WHATWG, which has no URL that is only a
//! path, drops a port that is the usual one, and gives a host without a path the path `/`.

use super::{Held, Hold, arguments};
use cel::common::types::{CelBool, CelString, Type};
use cel::common::value::CowVal;
use cel::objects::{Key, Map};
use cel::{DeclarationError, Env, ExecutionError, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::sync::Arc;

static TYPE: Type = Type::new_unspecified_type("kubernetes.URL");

/// What a path may show as it is, once it has to be escaped at all.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// A URL in its parts, each as it was written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Url {
    scheme: String,
    /// With its port, without the user.
    host: String,
    path: String,
    query: String,
}

impl Hold for Url {
    fn of_type() -> &'static Type {
        &TYPE
    }
}

type Address = Held<Url>;

/// Adds them.
pub fn extension(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(TYPE.to_owned())?;
    cel::add_overload!(env, fn url: (CelString) -> Result<Address>)?;
    cel::add_overload!(env, fn is_url: (CelString) -> CelBool, name = "isURL")?;
    cel::add_member_overload!(env, fn get_scheme: (Address) -> CelString)?;
    cel::add_member_overload!(env, fn get_host: (Address) -> CelString)?;
    cel::add_member_overload!(env, fn get_hostname: (Address) -> CelString)?;
    cel::add_member_overload!(env, fn get_port: (Address) -> CelString)?;
    cel::add_member_overload!(env, fn get_escaped_path: (Address) -> CelString)?;
    env.add_member_overload("getQuery", "kubernetes.URL.getQuery()", TYPE.to_owned(), vec![], get_query)
}

impl Url {
    /// Reads an absolute URL or an absolute path.
    fn parse(text: &str) -> Result<Url, String> {
        Url::split(text)?;
        // The first look is a server's, which knows no fragment; the parts are those before it.
        Url::split(text.split_once('#').map_or(text, |(before, _)| before))
    }

    fn split(text: &str) -> Result<Url, String> {
        if text.is_empty() {
            return Err("empty url".to_owned());
        }
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err("invalid control character in URL".to_owned());
        }
        let (scheme, rest) = scheme(text)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Url { scheme: scheme.to_ascii_lowercase(), query: query.to_owned(), ..Url::default() };
        if !rest.starts_with('/') {
            // `mailto:somebody`: there is a scheme, and no part of the rest has a name.
            let is_whole = !scheme.is_empty() || rest == "*";
            return if is_whole { Ok(url) } else { Err("invalid URI for request".to_owned()) };
        }
        let mut path = rest;
        if let Some(after) = rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
            let (authority, from) = after.split_at(after.find('/').unwrap_or(after.len()));
            url.host = host(authority)?.to_owned();
            path = from;
        }
        escapes(path)?;
        url.path = path.to_owned();
        Ok(url)
    }

    /// The host and its port.
    fn host_and_port(&self) -> (&str, &str) {
        let split = self.host.rsplit_once(':').filter(|(_, port)| is_port(port));
        split.unwrap_or((&self.host, ""))
    }

    fn escaped_path(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:@/[]%".contains(c);
        if self.path.chars().all(plain) {
            return self.path.clone();
        }
        let bytes: Vec<u8> = percent_decode_str(&self.path).collect();
        percent_encode(&bytes, PATH).to_string()
    }
}

/// What stands before the first colon, if it can be a scheme, and the rest.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    match end.map(|end| (end, text.as_bytes()[end])) {
        Some((0, b':')) => Err("missing protocol scheme".to_owned()),
        Some((end, b':')) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            Ok((&text[..end], &text[end + 1..]))
        }
        _ => Ok(("", text)),
    }
}

/// The host of an authority, `user:password@host:port`.
fn host(authority: &str) -> Result<&str, String> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let of_user = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(of_user) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    escapes(user)?;
    let port = match host.rfind(']') {
        Some(end) if host.starts_with('[') => &host[end + 1..],
        _ if host.starts_with('[') => return Err("missing ']' in host".to_owned()),
        _ => host.rfind(':').map_or("", |at| &host[at..]),
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return Err(format!("invalid port {port:?} after host"));
    }
    let of_host = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c);
    match host.chars().find(|c| !of_host(*c)) {
        Some(bad) => Err(format!("invalid character {bad:?} in host name")),
        None => escapes(host).map(|()| host),
    }
}

/// No port at all is one, too.
fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Every percent sign begins an escape.
fn escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let is_whole = text.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if !is_whole {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

/// Why a text is not a URL.
pub fn problem(text: &str) -> Option<String> {
    Url::parse(text).err()
}

fn url(text: &CelString) -> Result<Address, ExecutionError> {
    Url::parse(text.inner()).map(Held).map_err(|why| ExecutionError::function_error("url", why))
}

fn is_url(text: &CelString) -> CelBool {
    CelBool::from(problem(text.inner()).is_none())
}

fn get_scheme(url: &Address) -> CelString<'static> {
    CelString::from(url.0.scheme.clone())
}

fn get_host(url: &Address) -> CelString<'static> {
    CelString::from(url.0.host.clone())
}

fn get_hostname(url: &Address) -> CelString<'static> {
    let (host, _) = url.0.host_and_port();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    CelString::from(bare.unwrap_or(host).to_owned())
}

fn get_port(url: &Address) -> CelString<'static> {
    CelString::from(url.0.host_and_port().1.to_owned())
}

fn get_escaped_path(url: &Address) -> CelString<'static> {
    CelString::from(url.0.escaped_path())
}

/// All values of each key, in their order.
fn get_query<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [url] = arguments(args)?;
    let query = url.downcast_ref::<Address>().map_or("", |url| &url.0.query);
    let mut values: std::collections::BTreeMap<String, Vec<Value>> = std::collections::BTreeMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        values.entry(key.into_owned()).or_default().push(Value::from(value.as_ref()));
    }
    let entries = values.into_iter().map(|(key, values)| (Key::from(key), Value::List(Arc::new(values))));
    Value::Map(Map { map: Arc::new(entries.collect()) }).try_into().map(CowVal::Owned)
}
